// Runs of the searching methods on problems where there is something to find.
#ifndef ATTNPRUNE_TESTS_CORE_METHODS_SEARCH_RUNS_H_
#define ATTNPRUNE_TESTS_CORE_METHODS_SEARCH_RUNS_H_

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "core/kernels/blas.h"
#include "core/methods/registry.h"
#include "core/methods/search_objectives.h"
#include "tests/core/contract/contract_problems.h"
#include "tests/core/methods/gd_runs.h"

namespace attnprune::testing {

// A layer of two query heads on one key head with rotary embedding, eight batches of 40 tokens, and
// as many held out. The 12 features are mixtures of 5 and a little noise, so that a weight can do
// another's work.
inline Problem LayerToSearch(const Sparsity& sparsity = Sparsity::Fraction(0.5)) {
  ProjectionWeights layer;
  layer.w_q = GaussianMatrix(16, 12, 41);
  layer.w_k = GaussianMatrix(8, 12, 42);
  layer.heads = 2;
  layer.kv_heads = 1;
  layer.rope = Rope{};
  Problem problem;
  problem.weights = std::move(layer);
  problem.scale = 0.1;
  static constexpr Index kBatches = 8, kTokens = 40;
  const Matrix mixture = GaussianMatrix(5, 12, 45);
  const auto tokens = [&mixture](unsigned seed) {
    const Matrix sources = GaussianMatrix(kBatches * kTokens, 5, seed);
    Matrix x = GaussianMatrix(kBatches * kTokens, 12, seed + 100);
    Gemm(Trans::kNo, Trans::kNo, 0.5f, sources, mixture, 0.2f, x);
    return Batches(std::move(x), std::vector<Index>(kBatches, kTokens));
  };
  problem.calibration = tokens(43);
  problem.held_out = tokens(44);
  problem.sparsity = sparsity;
  return problem;
}

// The same layer with larger logits and other weights, for which ALPS finds the better mask.
inline Problem LayerThatAlpsPrunesBest(const Sparsity& sparsity, unsigned seed) {
  Problem problem = LayerToSearch(sparsity);
  auto& layer = std::get<ProjectionWeights>(problem.weights);
  layer.w_q = GaussianMatrix(16, 12, 1000 + seed);
  layer.w_k = GaussianMatrix(8, 12, 2000 + seed);
  problem.scale = 0.3;
  return problem;
}
inline Problem LayerThatAlpsPrunesBest() {
  return LayerThatAlpsPrunesBest(Sparsity::Fraction(0.7), 4);
}

inline PruneResult Succeed(absl::StatusOr<PruneResult> result) {
  EXPECT_TRUE(result.ok()) << result.status();
  return result.ok() ? *std::move(result) : PruneResult{};
}

inline PruneResult RunMethod(const std::string& text, const Problem& problem,
                             const RunOptions& options = {}) {
  return Succeed(ParseMethod(text).value()->Prune(problem, options));
}

inline constexpr double kValidation = 0.25;  // the methods' default

// Equation (1) of a result on the batches that decide with `validation`, and on all calibration
// batches.
struct DecidingErrors {
  double validation = 0, calibration = 0;
};
inline DecidingErrors ErrorsOf(const PruneResult& result, const Problem& problem,
                               double validation) {
  const auto prepared = PreparedProblem::Create(problem).value();
  const bool factors = problem.fused() && result.matrices.size() == 2;
  const auto objectives =
      SearchObjectives::Create(
          *prepared, factors ? SearchedWeights::kFactors : SearchedWeights::kAttention, validation,
          /*batches_per_step=*/4)
          .value();
  std::vector<MatrixView> weights;
  for (const PrunedMatrix& matrix : result.matrices) weights.emplace_back(matrix.weights);
  return {objectives->ValidationError(weights), objectives->CalibrationError(weights)};
}

}  // namespace attnprune::testing

#endif  // ATTNPRUNE_TESTS_CORE_METHODS_SEARCH_RUNS_H_
