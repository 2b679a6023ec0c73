// The problems that every method is run on by the contract suite.
#ifndef ATTNPRUNE_TESTS_CORE_CONTRACT_CONTRACT_PROBLEMS_H_
#define ATTNPRUNE_TESTS_CORE_CONTRACT_CONTRACT_PROBLEMS_H_

#include <string>
#include <utility>
#include <vector>

#include "core/problem/problem.h"
#include "tests/support/matrices.h"

namespace attnprune::testing {

inline Batches GaussianBatches(const std::vector<Index>& lengths, Index features, unsigned seed) {
  Index total = 0;
  for (Index length : lengths) total += length;
  return Batches(GaussianMatrix(total, features, seed), lengths);
}

// d = 8, three calibration batches that straddle the kernel's blocks of rows, two held-out ones.
inline Problem WithData(Problem problem, Index features) {
  problem.calibration = GaussianBatches({40, 1, 17}, features, 11);
  problem.held_out = GaussianBatches({9, 20}, features, 12);
  return problem;
}

inline Problem FusedContractProblem() {
  Problem problem;
  problem.weights = FusedWeights{GaussianMatrix(8, 8, 1), {}, {}};
  problem.scale = 0.3;
  return WithData(std::move(problem), 8);
}

inline Problem FactoredContractProblem() {
  Problem problem;
  problem.weights = FusedFromFactors(GaussianMatrix(8, 4, 2), GaussianMatrix(8, 4, 3)).value();
  problem.scale = 0.3;
  return WithData(std::move(problem), 8);
}

inline std::vector<float> Floats(Index count, unsigned seed) {
  return Values(GaussianMatrix(1, count, seed));
}

inline Problem ProjectionContractProblem() {
  ProjectionWeights layer;
  layer.w_q = GaussianMatrix(16, 8, 4);
  layer.w_k = GaussianMatrix(8, 8, 5);
  layer.b_q.assign(16, 0.1f);
  layer.b_k.assign(8, -0.2f);
  layer.heads = 4;
  layer.kv_heads = 2;
  layer.rope = Rope{};
  Problem problem;
  problem.weights = std::move(layer);
  problem.attention = {AttentionMask::Kind::kWindow, 12};
  return WithData(std::move(problem), 8);
}

// A layer that has all that any family has between projection and softmax.
inline Problem EveryOptionContractProblem() {
  Problem problem = ProjectionContractProblem();
  auto& layer = std::get<ProjectionWeights>(problem.weights);
  layer.rope = Rope{.layout = RopeLayout::kInterleaved,
                    .dim = 2,
                    .scaling = RopeScaling::kLongrope,
                    .original_max_positions = 20,
                    .short_factor = {1.5},
                    .long_factor = {3},
                    .attention_factor = 1.2};
  layer.qk_norm = QkNorm{.kind = NormKind::kLayer,
                         .group = QkNormGroup::kWhole,
                         .eps = 1e-5,
                         .q_weight = Floats(16, 6),
                         .k_weight = Floats(8, 7),
                         .q_bias = Floats(16, 8),
                         .k_bias = Floats(8, 9)};
  layer.clip_qkv = 2.5;
  layer.softcap = 4;
  layer.alibi = Alibi::kBloom;
  return problem;
}

// A kind of problem and how to make a fresh one.
struct ContractProblem {
  const char* name;
  Problem (*make)();
};

inline const std::vector<ContractProblem>& ContractProblems() {
  static const auto& problems = *new std::vector<ContractProblem>{
      {"Fused", FusedContractProblem},
      {"Factored", FactoredContractProblem},
      {"Projections", ProjectionContractProblem},
      {"EveryOption", EveryOptionContractProblem},
  };
  return problems;
}

// The smallest layers there are: one feature, one head of one dimension.
inline Problem OneByOneFused() {
  Problem problem;
  problem.weights = FusedWeights{Matrix::Constant(1, 1, 0.7f), {}, {}};
  problem.calibration = GaussianBatches({5}, 1, 13);
  return problem;
}

inline Problem OneByOneProjections() {
  ProjectionWeights layer;
  layer.w_q = Matrix::Constant(1, 1, 0.7f);
  layer.w_k = Matrix::Constant(1, 1, -0.4f);
  Problem problem;
  problem.weights = std::move(layer);
  problem.calibration = GaussianBatches({5}, 1, 13);
  return problem;
}

}  // namespace attnprune::testing

#endif  // ATTNPRUNE_TESTS_CORE_CONTRACT_CONTRACT_PROBLEMS_H_
