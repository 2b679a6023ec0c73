// The figures of the paper's Theorem 4.1 for one result, said to be vacuous where they are.
#ifndef ATTNPRUNE_CORE_JUDGE_THEORY_H_
#define ATTNPRUNE_CORE_JUDGE_THEORY_H_

#include <string>

#include "absl/types/optional.h"
#include "core/objective/prepared_problem.h"
#include "core/problem/problem.h"

namespace attnprune {

// A figure, or the reason why it says nothing here.
struct TheoryFigure {
  absl::optional<double> value;
  std::string vacuous_because;  // empty when there is a value
};

// "0.25", or "vacuous (beta is)".
std::string ToString(const TheoryFigure& figure);

// Over calibration batches X_j of n_j tokens; f~ from the pruned weights.
struct TheoryFigures {
  TheoryFigure beta;   // smallest eigenvalue of X_j X_j', least over j; exactly 0 when n > d
  TheoryFigure delta;  // smallest allowed entry of f~
  // Fused problem of scale 1 only:
  TheoryFigure mu;  // 2 min|W| beta delta
  TheoryFigure xi;  // 12 n_j^-1.5 max|W| ||X_j||_F^2 lambda d / mu, most over j
  // Bound on the loss's Lipschitz constant: lambda + sum_j 30 d n_j^3.5 R_j^6,
  // R_j = max(1, ||X_j||_F, ||W||_F).
  TheoryFigure lipschitz;
};

// beta of the problem's calibration batches. O(k min(n, d)^3).
TheoryFigure Beta(PreparedProblem& problem);

// The figures of one result. log_delta: AttentionError::smallest_log_attention of its weights;
// lambda: the result's.
TheoryFigures Theory(const Problem& problem, const TheoryFigure& beta, double log_delta,
                     double lambda);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_JUDGE_THEORY_H_
