// Small valid problems that a test then spoils.
#ifndef ATTNPRUNE_TESTS_CORE_PROBLEM_TEST_PROBLEMS_H_
#define ATTNPRUNE_TESTS_CORE_PROBLEM_TEST_PROBLEMS_H_

#include <utility>
#include <vector>

#include "core/problem/problem.h"

namespace attnprune {

// Entries 0.1, 0.2, ... in order.
inline Matrix CountingMatrix(Index rows, Index cols) {
  Matrix m(rows, cols);
  float value = 0;
  for (float& x : m.flat()) x = value += 0.1f;
  return m;
}

// Batches of 3 and 2 tokens.
inline Batches TestBatches(Index d) {
  std::vector<Matrix> batches;
  batches.push_back(CountingMatrix(3, d));
  batches.push_back(CountingMatrix(2, d));
  return Batches::Stack(batches);
}

// d = 6, factors of rank 2, two calibration and two held-out batches.
inline Problem FusedTestProblem() {
  Problem problem;
  problem.weights = *FusedFromFactors(CountingMatrix(6, 2), CountingMatrix(6, 2));
  problem.calibration = TestBatches(6);
  problem.held_out = TestBatches(6);
  return problem;
}

// d = 6, 4 query heads on 2 key heads of 2 dimensions, biases and rope.
inline Problem ProjectionTestProblem() {
  ProjectionWeights weights;
  weights.w_q = CountingMatrix(8, 6);
  weights.w_k = CountingMatrix(4, 6);
  weights.b_q.assign(8, 0.5f);
  weights.b_k.assign(4, 0.5f);
  weights.heads = 4;
  weights.kv_heads = 2;
  weights.rope = Rope();
  Problem problem;
  problem.weights = std::move(weights);
  problem.calibration = TestBatches(6);
  problem.held_out = TestBatches(6);
  return problem;
}

}  // namespace attnprune

#endif  // ATTNPRUNE_TESTS_CORE_PROBLEM_TEST_PROBLEMS_H_
