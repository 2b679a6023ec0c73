#include "core/kernels/attention.h"

#include <immintrin.h>

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

}  // namespace attnprune
