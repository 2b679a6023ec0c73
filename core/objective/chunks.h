// Which batches are worked on together.
#ifndef ATTNPRUNE_CORE_OBJECTIVE_CHUNKS_H_
#define ATTNPRUNE_CORE_OBJECTIVE_CHUNKS_H_

#include <vector>

#include "core/problem/batches.h"

namespace attnprune {

// Consecutive batches and their tokens.
struct Chunk {
  Index first_batch = 0, batches = 0;
  Index first_token = 0, tokens = 0;
};

// Cuts the batches so that a chunk's tokens times `width` are at most `floats`, or it is one batch.
// Projections and their gradients exist for one chunk at a time; within it, one product serves all
// batches.
std::vector<Chunk> CutIntoChunks(const Batches& batches, Index width, Index floats);

// The share of the batches' tokens that is done after this chunk, in (0, 1].
double ShareAfter(const Chunk& chunk, const Batches& batches);

// Tokens of the largest.
Index LargestChunk(const std::vector<Chunk>& chunks);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_OBJECTIVE_CHUNKS_H_
