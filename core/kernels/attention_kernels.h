// The inner loops of attention.h, compiled once for AVX2 and once for AVX-512; the CPU chooses.
//
// Plain data in and out, because two files with different instruction sets are linked into one
// program: neither may emit a function that the other could end up calling.
#ifndef ATTNPRUNE_CORE_KERNELS_ATTENTION_KERNELS_H_
#define ATTNPRUNE_CORE_KERNELS_ATTENTION_KERNELS_H_

#include "core/tensor/matrix.h"

namespace attnprune {

// Keys begin <= j < end that one query may attend to.
struct KeyRange {
  Index begin, end;
};

// Rows that are worked on together, and the keys that any of them may attend to.
struct AttentionBlock {
  Index row, rows;  // queries row <= i < row + rows
  Index key, keys;  // keys key <= j < key + keys; key is a multiple of kAttentionPadding
  Index offset;     // first float of the block in packed storage
  Index stride;     // floats from one row to the next, a multiple of kAttentionPadding
};

// Rows of packed storage are padded to whole vectors of the widest kind.
inline constexpr Index kAttentionPadding = 16;

// Columns of a panel: the part of a right-hand matrix that stays in the first-level cache.
inline constexpr Index kPanelColumns = 32;

// Most rows of a tile.
inline constexpr Index kAttentionTileRows = 8;

// One head on one batch (or some of its row blocks): S = scale a b' + key_bias, then S~ = softcap
// tanh(S / softcap); softmax over the allowed keys of that.
struct AttentionHead {
  const KeyRange* ranges;                   // one a query
  const AttentionBlock *block, *block_end;  // the blocks to work on
  Index tokens;                             // n, rows of b
  const float* a;                           // queries, row-major
  Index a_stride;                           // floats from one query to the next
  Index width;                              // r, entries of a query
  float scale;
  const float* transposed;  // b' in panels of keys, from pack_keys
  const float* straight;    // b in panels of features, from pack_keys; for gradients only
  // One a key, n rounded up to kAttentionPadding of them, finite; null: none.
  const float* key_bias = nullptr;
  float softcap = 0;  // above 0; 0: none
};

// f: packed, or how to make it again (bit for bit the same).
struct DenseRows {
  const float* packed;  // null: rebuild by what follows
  const float* a;       // of the dense weights
  Index a_stride;
  const float* transposed;                 // of the dense weights
  const float *row_max, *row_inverse_sum;  // one a query, as `dense` left them
};

struct AttentionKernels {
  const char* name;  // the instruction set

  // b: n x width. transposed: PanelFloats(n, width) floats. straight: PanelFloats(width, n)
  // floats, or null.
  void (*pack_keys)(const float* b, Index stride, Index n, Index width, float* transposed,
                    float* straight);

  // Writes f, unless `packed` is null, and each query's largest logit and 1 / sum of exponentials,
  // unless those are null. Returns ||f||^2.
  double (*dense)(const AttentionHead& head, float* scratch, float* packed, float* row_max,
                  float* row_inverse_sum);

  // Returns ||f~ - f||^2. Unless `smallest` is null, lowers it to the natural logarithm of the
  // smallest allowed entry of f~, which underflows float32 on real layers.
  double (*difference)(const AttentionHead& head, const DenseRows& dense, float* scratch,
                       double* smallest);

  // Returns 1/2 ||f~ - f||^2. d_a is overwritten; d_b, unless null, is added to.
  double (*loss_gradient)(const AttentionHead& head, const DenseRows& dense, float* scratch,
                          float* d_a, Index d_a_stride, float* d_b, Index d_b_stride);
};

// Floats that `cols` columns of depth `depth` take in panels.
constexpr Index PanelFloats(Index cols, Index depth) {
  return (cols + kPanelColumns - 1) / kPanelColumns * kPanelColumns * depth;
}

extern const AttentionKernels kAttentionKernelsAvx2;
extern const AttentionKernels kAttentionKernelsAvx512;

// Those of the widest instruction set that this CPU has.
const AttentionKernels& AttentionKernelsOfThisCpu();

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_KERNELS_ATTENTION_KERNELS_H_
