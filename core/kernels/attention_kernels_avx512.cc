#include "core/kernels/attention_kernels.inc"

namespace attnprune {

const AttentionKernels kAttentionKernelsAvx512 = {"avx512", PackKeys, Dense, Difference,
                                                  LossGradient};

}  // namespace attnprune
