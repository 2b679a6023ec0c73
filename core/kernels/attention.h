// Softmax attention of one head on one batch: f, its distance to f~, and the gradient of that.
//
// With logits S = s A B' (A, B: n x r, one token a row) and f~ = softmax(S) over the allowed keys:
//   loss = 1/2 ||f~ - f||_F^2
//   c = f~ - f,  p = c o f~ - diag((c o f~) 1) f~      (Definition C.1)
//   d loss / d A = s p B,  d loss / d B = s p' A
// Both problems are this: fused has A = X W, B = X; a projection head has A = Q_h, B = K_g.
//
// Options of real layers (AttentionHead): a bias a key on S (alibi), a constant; and a softcap c,
// by which softmax is of S~ = c tanh(S / c), and p becomes p o (1 - (S~ / c)^2).
//
// Work goes by blocks of rows that stay in cache: no n x n temporary exists, and keys that no row
// of a tile of 8 rows may attend to are not multiplied (the upper half, when causal).
//
// Plain functions; callable from any thread. Finite inputs give finite answers while the logits are
// finite in float32; else the loss is not finite. The bits depend on the input and on whether the
// CPU has AVX-512, on nothing else.
#ifndef ATTNPRUNE_CORE_KERNELS_ATTENTION_H_
#define ATTNPRUNE_CORE_KERNELS_ATTENTION_H_

#include <vector>

#include "absl/types/span.h"
#include "core/kernels/attention_kernels.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// How an n x n attention matrix is cut into blocks of rows, and stored. Packed storage is block
// after block, each rows x stride row-major. Immutable once made.
class AttentionLayout {
 public:
  AttentionLayout() = default;
  // One range a query, not empty, both ends never falling.
  explicit AttentionLayout(std::vector<KeyRange> ranges);

  Index tokens() const { return static_cast<Index>(ranges_.size()); }
  Index packed_size() const { return packed_size_; }        // floats
  Index block_size() const { return block_size_; }          // floats of the largest block
  Index largest_stride() const { return largest_stride_; }  // floats, of any block's rows
  absl::Span<const AttentionBlock> blocks() const { return blocks_; }
  absl::Span<const KeyRange> ranges() const { return ranges_; }
  const KeyRange& keys(Index query) const { return ranges_[static_cast<size_t>(query)]; }

 private:
  std::vector<KeyRange> ranges_;
  std::vector<AttentionBlock> blocks_;
  Index packed_size_ = 0, block_size_ = 0, largest_stride_ = 0;
};

// Floats of scratch that the kernels need for a layout's blocks.
Index AttentionScratchSize(const AttentionLayout& layout, Index width);

// The keys b of a head in the order that products read them; views of room given to PackKeys.
struct KeyPanels {
  Index tokens = 0, width = 0;
  const float* transposed = nullptr;
  const float* straight = nullptr;  // null if not asked for; gradients need it
};

enum class PanelUse { kLogits, kGradients };

// Floats of room that PackKeys needs.
Index KeyPanelFloats(Index tokens, Index width, PanelUse use);
KeyPanels PackKeys(MatrixView b, PanelUse use, float* room);

// All blocks of a head, or those [first, last). What it looks at must outlive it.
AttentionHead HeadOf(const AttentionLayout& layout, MatrixView a, const KeyPanels& b, float scale);
AttentionHead HeadOf(const AttentionLayout& layout, Index first, Index last, MatrixView a,
                     const KeyPanels& b, float scale);

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

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_KERNELS_ATTENTION_H_
