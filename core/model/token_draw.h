// A token drawn from a distribution over the vocabulary, a piece of it at a time.
#ifndef ATTNPRUNE_CORE_MODEL_TOKEN_DRAW_H_
#define ATTNPRUNE_CORE_MODEL_TOKEN_DRAW_H_

#include <cstdint>

#include "core/tensor/matrix.h"

namespace attnprune {

// The number in [0, 1) by which a token is drawn. Pure; callable from any thread.
double UniformOfDraw(uint64_t seed, Index sequence, Index position);

// The first token at which the sum of p exceeds `uniform`. Sums of p end within 1e-5 of 1, which
// draws stay below; what is left after the last piece takes the last token.
struct TokenDraw {
  Index token = -1;    // -1: not drawn yet
  double uniform = 0;  // by which it is drawn
  double reached = 0;  // sum of p over the tokens passed

  // p: of the tokens first ... first + count - 1. Nothing where a token is drawn.
  void Pass(const float* p, Index count, Index first, bool last_piece);
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_MODEL_TOKEN_DRAW_H_
