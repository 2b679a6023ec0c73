// How an n x n attention matrix is cut into blocks of rows, and stored.
#ifndef ATTNPRUNE_CORE_KERNELS_ATTENTION_LAYOUT_H_
#define ATTNPRUNE_CORE_KERNELS_ATTENTION_LAYOUT_H_

#include <vector>

#include "absl/types/span.h"
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

// Packed storage is block after block, each rows x stride row-major. Immutable once made.
class AttentionLayout {
 public:
  AttentionLayout() = default;
  // One range a query, not empty, both ends never falling.
  explicit AttentionLayout(std::vector<KeyRange> ranges);

  Index tokens() const { return static_cast<Index>(ranges_.size()); }
  Index packed_size() const { return packed_size_; }  // floats
  Index block_size() const { return block_size_; }    // floats of the largest block
  absl::Span<const AttentionBlock> blocks() const { return blocks_; }
  absl::Span<const KeyRange> ranges() const { return ranges_; }
  const KeyRange& keys(Index query) const { return ranges_[static_cast<size_t>(query)]; }

 private:
  std::vector<KeyRange> ranges_;
  std::vector<AttentionBlock> blocks_;
  Index packed_size_ = 0, block_size_ = 0;
};

// Packed storage to a dense n x n matrix.
Matrix Unpack(const AttentionLayout& layout, const float* packed);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_KERNELS_ATTENTION_LAYOUT_H_
