#include "core/kernels/gemm_rate.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <vector>

#include "core/kernels/blas.h"

namespace attnprune {

double MeasureProductRate(ThreadPool& pool, double operations,
                          absl::FunctionRef<void(Index thread)> product) {
  constexpr int kRounds = 8;
  const Index threads = pool.threads();
  double best = std::numeric_limits<double>::infinity();
  for (int round = 0; round < kRounds; ++round) {
    const auto start = std::chrono::steady_clock::now();
    pool.ParallelFor(threads, [&](Index thread) { product(thread); });
    best = std::min(
        best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return static_cast<double>(threads) * operations / std::max(best, 1e-9);
}

double MeasureGemmRate(ThreadPool& pool) {
  constexpr Index kSize = 512;
  const Matrix a = Matrix::Constant(kSize, kSize, 1.0f), b = a.Clone();
  std::vector<Matrix> products;
  for (Index i = 0; i < pool.threads(); ++i) products.emplace_back(kSize, kSize);
  return MeasureProductRate(pool, 2.0 * kSize * kSize * kSize, [&](Index thread) {
    Gemm(Trans::kNo, Trans::kNo, 1.0f, a, b, 0.0f, products[static_cast<size_t>(thread)]);
  });
}

}  // namespace attnprune
