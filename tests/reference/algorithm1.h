// The paper's Algorithm 1 in float64.
#ifndef ATTNPRUNE_TESTS_REFERENCE_ALGORITHM1_H_
#define ATTNPRUNE_TESTS_REFERENCE_ALGORITHM1_H_

#include <functional>
#include <vector>

#include "tests/reference/attention_reference.h"

namespace attnprune::reference {

enum class Projection { kNone, kUnitInterval /* M clamped to [0, 1] after each step */ };

struct DescentOptions {
  double lambda = 0, eta = 0.1, momentum = 0.9;
  int steps = 1;
  Projection projection = Projection::kNone;
  // Called with the step (1 first), the masks that enter it and their gradients, which it may
  // change before they are used. For sensitivity studies; empty: not called.
  std::function<void(int, const std::vector<Dense>&, std::vector<Dense>*)> on_gradient;
};

struct DescentResult {
  std::vector<Dense> masks;                            // after the last step
  std::vector<double> attention_loss, regularization;  // of the masks that entered each step
};

// M = 1; steps times: v <- momentum v + grad L / k; M <- M - eta v.
DescentResult GradientDescent(const AttentionProblem& problem, const DescentOptions& options);

// 1 everywhere but at the `count` smallest entries; of equal ones the lower flat index is pruned.
Dense Binarize(const Dense& mask, Index count);

// Prunes n of every m consecutive entries along the inputs: down the rows when fused (x -> x W),
// along the columns for projections.
enum class Inputs { kRows, kColumns };
Dense BinarizeGroups(const Dense& mask, Index n, Index m, Inputs inputs);

}  // namespace attnprune::reference

#endif  // ATTNPRUNE_TESTS_REFERENCE_ALGORITHM1_H_
