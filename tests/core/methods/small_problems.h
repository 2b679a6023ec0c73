// Problems of a few weights for tests of whole methods.
#ifndef ATTNPRUNE_TESTS_CORE_METHODS_SMALL_PROBLEMS_H_
#define ATTNPRUNE_TESTS_CORE_METHODS_SMALL_PROBLEMS_H_

#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/methods/registry.h"
#include "core/problem/problem.h"

namespace attnprune::testing {

inline Batches OneBatch(Matrix tokens) {
  const Index length = tokens.rows();
  return Batches(std::move(tokens), {length});
}

// The fused problem of W itself, without factors.
inline Problem FusedProblem(Matrix w, Matrix tokens, const Sparsity& sparsity) {
  Problem problem;
  problem.weights = FusedWeights{.w = std::move(w), .w_q = Matrix(), .w_k = Matrix()};
  problem.calibration = OneBatch(std::move(tokens));
  problem.sparsity = sparsity;
  return problem;
}

inline Problem FactoredProblem(Matrix w_q, Matrix w_k, Matrix tokens, const Sparsity& sparsity) {
  Problem problem;
  problem.weights = FusedFromFactors(std::move(w_q), std::move(w_k)).value();
  problem.calibration = OneBatch(std::move(tokens));
  problem.sparsity = sparsity;
  return problem;
}

// One head.
inline Problem ProjectionProblem(Matrix w_q, Matrix w_k, Matrix tokens, const Sparsity& sparsity) {
  ProjectionWeights weights;
  weights.w_q = std::move(w_q);
  weights.w_k = std::move(w_k);
  Problem problem;
  problem.weights = std::move(weights);
  problem.calibration = OneBatch(std::move(tokens));
  problem.sparsity = sparsity;
  return problem;
}

inline std::unique_ptr<Method> MakeMethod(const std::string& text) {
  return ParseMethod(text).value();
}

inline std::vector<std::string> Names(const PruneResult& result) {
  std::vector<std::string> names;
  for (const PrunedMatrix& matrix : result.matrices) names.push_back(matrix.name);
  return names;
}

}  // namespace attnprune::testing

#endif  // ATTNPRUNE_TESTS_CORE_METHODS_SMALL_PROBLEMS_H_
