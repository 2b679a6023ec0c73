#include "core/kernels/attention.h"

#include <immintrin.h>

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
    largest_stride_ = std::max(largest_stride_, stride);
  }
}

Index AttentionScratchSize(const AttentionLayout& layout, Index width) {
  const Index rows = layout.blocks().empty() ? 0 : layout.blocks()[0].rows;
  return 2 * layout.block_size() + kAttentionTileRows * layout.largest_stride() +
         PanelFloats(width, rows);
}

const AttentionKernels& AttentionKernelsOfThisCpu() {
  static const bool has_avx512 =
      __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512dq") != 0 &&
      __builtin_cpu_supports("avx512bw") != 0 && __builtin_cpu_supports("avx512vl") != 0 &&
      __builtin_cpu_supports("avx512cd") != 0;
  return has_avx512 ? kAttentionKernelsAvx512 : kAttentionKernelsAvx2;
}

Index KeyPanelFloats(Index tokens, Index width, PanelUse use) {
  return PanelFloats(tokens, width) +
         (use == PanelUse::kGradients ? PanelFloats(width, tokens) : 0);
}

KeyPanels PackKeys(MatrixView b, PanelUse use, float* room) {
  float* straight = use == PanelUse::kGradients ? room + PanelFloats(b.rows(), b.cols()) : nullptr;
  AttentionKernelsOfThisCpu().pack_keys(b.data(), b.stride(), b.rows(), b.cols(), room, straight);
  return {b.rows(), b.cols(), room, straight};
}

AttentionHead HeadOf(const AttentionLayout& layout, MatrixView a, const KeyPanels& b, float scale) {
  return HeadOf(layout, 0, static_cast<Index>(layout.blocks().size()), a, b, scale);
}

AttentionHead HeadOf(const AttentionLayout& layout, Index first, Index last, MatrixView a,
                     const KeyPanels& b, float scale) {
  return {.ranges = layout.ranges().data(),
          .block = layout.blocks().data() + first,
          .block_end = layout.blocks().data() + last,
          .tokens = b.tokens,
          .a = a.data(),
          .a_stride = a.stride(),
          .width = a.cols(),
          .scale = scale,
          .transposed = b.transposed,
          .straight = b.straight};
}

ScopedFlushDenormals::ScopedFlushDenormals() : saved_(_mm_getcsr()) {
  constexpr unsigned kFlushToZero = 0x8000, kDenormalsAreZero = 0x0040;
  _mm_setcsr(saved_ | kFlushToZero | kDenormalsAreZero);
}
ScopedFlushDenormals::~ScopedFlushDenormals() { _mm_setcsr(saved_); }

}  // namespace attnprune
