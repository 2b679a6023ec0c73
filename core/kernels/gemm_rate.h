// How fast this machine multiplies, for estimates of time.
#ifndef ATTNPRUNE_CORE_KERNELS_GEMM_RATE_H_
#define ATTNPRUNE_CORE_KERNELS_GEMM_RATE_H_

#include "core/base/thread_pool.h"

namespace attnprune {

// Operations a second of single-precision products, of all the pool's threads together: each
// multiplies 512 x 512 matrices for some 20 ms. InitializeBlas must have been called.
double MeasureGemmRate(ThreadPool& pool);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_KERNELS_GEMM_RATE_H_
