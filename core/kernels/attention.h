// Softmax attention of one head on one batch: f, its distance to f~, and the gradient of that.
//
// With logits S = s A B' (A, B: n x r, one token a row) and f~ = softmax(S) over the allowed keys:
//   loss = 1/2 ||f~ - f||_F^2
//   c = f~ - f,  p = c o f~ - diag((c o f~) 1) f~      (Definition C.1)
//   d loss / d A = s p B,  d loss / d B = s p' A
// Both problems are this: fused has A = X W, B = X; a projection head has A = Q_h, B = K_g.
//
// Work goes by blocks of rows that stay in cache: no n x n temporary exists, and the keys that no
// row of a block may attend to are never touched (the upper half, when causal).
//
// Plain functions; callable from any thread. Finite inputs give finite answers while the logits are
// finite in float32; else the loss is not finite.
#ifndef ATTNPRUNE_CORE_KERNELS_ATTENTION_H_
#define ATTNPRUNE_CORE_KERNELS_ATTENTION_H_

#include <vector>

#include "absl/types/span.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// Keys begin <= j < end that one query may attend to.
struct KeyRange {
  Index begin, end;
};

// How an n x n attention matrix is cut into row blocks and stored: block after block, each
// rows x PadToLanes(keys) row-major over the keys that any of its rows may attend to.
class AttentionLayout {
 public:
  struct Block {
    Index row, rows;  // queries row <= i < row + rows
    Index key, keys;  // keys key <= j < key + keys
    Index offset;     // first float of the block in packed storage
    Index stride;     // floats from one row to the next
  };

  AttentionLayout() = default;
  // One range a query, not empty, both ends never falling.
  explicit AttentionLayout(std::vector<KeyRange> ranges);

  Index tokens() const { return static_cast<Index>(ranges_.size()); }
  Index packed_size() const { return packed_size_; }    // floats
  Index scratch_size() const { return scratch_size_; }  // floats of the largest block
  absl::Span<const Block> blocks() const { return blocks_; }
  KeyRange keys(Index query) const { return ranges_[static_cast<size_t>(query)]; }

 private:
  std::vector<KeyRange> ranges_;
  std::vector<Block> blocks_;
  Index packed_size_ = 0, scratch_size_ = 0;
};

// Denormal numbers become 0 on the calling thread while this lives: entries of softmax that small
// mean nothing here and are 100 times slower.
class ScopedFlushDenormals {
 public:
  ScopedFlushDenormals();
  ~ScopedFlushDenormals();
  ScopedFlushDenormals(const ScopedFlushDenormals&) = delete;
  ScopedFlushDenormals& operator=(const ScopedFlushDenormals&) = delete;

 private:
  unsigned saved_;
};

// f = softmax(scale a b') into packed storage (layout.packed_size() floats), 0 where not allowed.
// Returns ||f||_F^2.
double DenseAttention(const AttentionLayout& layout, MatrixView a, MatrixView b, float scale,
                      float* packed);

// ||f~ - f||_F^2, f packed.
double AttentionDifference(const AttentionLayout& layout, MatrixView a, MatrixView b, float scale,
                           const float* packed);

// Returns the loss 1/2 ||f~ - f||_F^2; d_a (n x r) is overwritten; d_b (n x r), unless it has no
// rows, is added to.
double AttentionLossGradient(const AttentionLayout& layout, MatrixView a, MatrixView b, float scale,
                             const float* packed, MutableMatrixView d_a, MutableMatrixView d_b);

// Natural logarithm of the smallest allowed entry of f~ (it underflows float32 on real layers).
double SmallestLogAttention(const AttentionLayout& layout, MatrixView a, MatrixView b, float scale);

// Packed storage to a dense n x n matrix.
Matrix Unpack(const AttentionLayout& layout, const float* packed);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_KERNELS_ATTENTION_H_
