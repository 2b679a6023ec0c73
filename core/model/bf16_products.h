// Products in bf16 on the threads of a pool.
#ifndef ATTNPRUNE_CORE_MODEL_BF16_PRODUCTS_H_
#define ATTNPRUNE_CORE_MODEL_BF16_PRODUCTS_H_

#include "core/base/thread_pool.h"
#include "core/kernels/bf16_gemm.h"
#include "core/objective/sharded_gemm.h"

namespace attnprune {

// out: x in bfloat16.
void ConvertToBf16(ThreadPool& pool, MatrixView x, Bf16Matrix& out);

// c = a b', by Bf16Gemm, cut and finished as ShardedGemm's.
void ShardedBf16Gemm(ThreadPool& pool, const Bf16Matrix& a, const Bf16Matrix& b,
                     MutableMatrixView c, FinishTile finish);

// As MeasureGemmRate, of Bf16Gemm.
double MeasureBf16GemmRate(ThreadPool& pool);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_MODEL_BF16_PRODUCTS_H_
