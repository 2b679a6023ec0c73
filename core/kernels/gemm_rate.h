// How fast this machine multiplies, for estimates of time.
#ifndef ATTNPRUNE_CORE_KERNELS_GEMM_RATE_H_
#define ATTNPRUNE_CORE_KERNELS_GEMM_RATE_H_

#include "absl/functional/function_ref.h"
#include "core/base/thread_pool.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// Operations a second of all the pool's threads together, each of which calls product(thread), of
// `operations`, at the same time; the best of some rounds.
double MeasureProductRate(ThreadPool& pool, double operations,
                          absl::FunctionRef<void(Index thread)> product);

// Operations a second of single-precision products, of all the pool's threads together: each
// multiplies 512 x 512 matrices for some 20 ms. InitializeBlas must have been called.
double MeasureGemmRate(ThreadPool& pool);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_KERNELS_GEMM_RATE_H_
