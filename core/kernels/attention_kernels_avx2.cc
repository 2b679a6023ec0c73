#include "core/kernels/attention_kernels.inc"

namespace attnprune {

const AttentionKernels kAttentionKernelsAvx2 = {"avx2", PackKeys, Dense, Difference, LossGradient};

}  // namespace attnprune
