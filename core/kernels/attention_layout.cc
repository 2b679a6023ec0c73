#include "core/kernels/attention_layout.h"

#include <algorithm>
#include <utility>

namespace attnprune {
namespace {

// Four tiles of rows; a block stays in the second-level cache with n = 4096.
constexpr Index kBlockRows = 64;

}  // namespace

AttentionLayout::AttentionLayout(std::vector<KeyRange> ranges) : ranges_(std::move(ranges)) {
  for (Index row = 0; row < tokens(); row += kBlockRows) {
    const Index rows = std::min(kBlockRows, tokens() - row);
    const Index key = keys(row).begin / kAttentionPadding * kAttentionPadding;
    const Index count = keys(row + rows - 1).end - key;
    const Index stride = (count + kAttentionPadding - 1) / kAttentionPadding * kAttentionPadding;
    blocks_.push_back({row, rows, key, count, packed_size_, stride});
    packed_size_ += rows * stride;
    block_size_ = std::max(block_size_, rows * stride);
  }
}

Matrix Unpack(const AttentionLayout& layout, const float* packed) {
  Matrix out(layout.tokens(), layout.tokens());
  for (const AttentionBlock& block : layout.blocks()) {
    for (Index i = 0; i < block.rows; ++i) {
      std::copy_n(packed + block.offset + i * block.stride, block.keys,
                  out.row(block.row + i) + block.key);
    }
  }
  return out;
}

}  // namespace attnprune
