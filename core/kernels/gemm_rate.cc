#include "core/kernels/gemm_rate.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <vector>

#include "core/kernels/blas.h"

namespace attnprune {

double MeasureGemmRate(ThreadPool& pool) {
  constexpr Index kSize = 512;
  constexpr int kRounds = 8;
  const Index threads = pool.threads();
  const Matrix a = Matrix::Constant(kSize, kSize, 1.0f), b = a.Clone();
  std::vector<Matrix> products;
  for (Index i = 0; i < threads; ++i) products.emplace_back(kSize, kSize);
  double best = std::numeric_limits<double>::infinity();
  for (int round = 0; round < kRounds; ++round) {
    const auto start = std::chrono::steady_clock::now();
    pool.ParallelFor(threads, [&](Index i) {
      Gemm(Trans::kNo, Trans::kNo, 1.0f, a, b, 0.0f, products[static_cast<size_t>(i)]);
    });
    best = std::min(
        best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  const double operations = 2.0 * static_cast<double>(threads) * kSize * kSize * kSize;
  return operations / std::max(best, 1e-9);
}

}  // namespace attnprune
