#include "core/kernels/attention_kernels.h"

namespace attnprune {

Index AttentionScratchSize(const AttentionLayout& layout, Index width) {
  const Index rows = layout.blocks().empty() ? 0 : layout.blocks()[0].rows;
  return 2 * layout.block_size() + PanelFloats(width, rows);
}

const AttentionKernels& AttentionKernelsOfThisCpu() {
  static const bool has_avx512 =
      __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512dq") != 0 &&
      __builtin_cpu_supports("avx512bw") != 0 && __builtin_cpu_supports("avx512vl") != 0 &&
      __builtin_cpu_supports("avx512cd") != 0;
  return has_avx512 ? kAttentionKernelsAvx512 : kAttentionKernelsAvx2;
}

}  // namespace attnprune
