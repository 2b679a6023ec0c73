#include "core/kernels/attention.h"

#include <immintrin.h>

#include <algorithm>
#include <cmath>

#include "core/kernels/blas.h"

namespace attnprune {

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

double SmallestLogAttention(const AttentionLayout& layout, MatrixView a, MatrixView b,
                            float scale) {
  double smallest = 0;
  Matrix logits(1, layout.block_size());
  for (const AttentionBlock& block : layout.blocks()) {
    Gemm(Trans::kNo, Trans::kYes, scale, a.Rows(block.row, block.rows),
         b.Rows(block.key, block.keys), 0.0f,
         MutableMatrixView(logits.data(), block.rows, block.keys, block.stride));
    for (Index i = 0; i < block.rows; ++i) {
      const KeyRange keys = layout.keys(block.row + i);
      const float* row = logits.data() + i * block.stride + (keys.begin - block.key);
      const auto [low, high] = std::minmax_element(row, row + (keys.end - keys.begin));
      double sum = 0;
      for (Index j = 0; j < keys.end - keys.begin; ++j) {
        sum += std::exp(static_cast<double>(row[j]) - static_cast<double>(*high));
      }
      smallest = std::min(smallest,
                          static_cast<double>(*low) - static_cast<double>(*high) - std::log(sum));
    }
  }
  return smallest;
}

}  // namespace attnprune
