// How far float32 may take Algorithm 1 from the float64 reference.
#ifndef ATTNPRUNE_TESTS_REFERENCE_DESCENT_TOLERANCE_H_
#define ATTNPRUNE_TESTS_REFERENCE_DESCENT_TOLERANCE_H_

#include <vector>

#include "tests/reference/algorithm1.h"
#include "tests/reference/attention_reference.h"

namespace attnprune::reference {

struct DescentTolerance {
  std::vector<double> masks;                           // of every entry of each final mask
  std::vector<double> attention_loss, regularization;  // per step
};

// Float32 sums of k products are the exact sums of entries moved by at most k u (u = 2^-24), and in
// practice by about sqrt(k) u (Higham and Mary, 2019). So a float32 step is one of Algorithm 1
// whose X, W, M o W and b are each moved by e = 4 sqrt(k) u relative, k the longest sum in it;
// rounding M itself moves it by 2 u. What becomes of that depends on the curvature along the path:
// the path is run again with moves of the full size and random signs, 8 times with new signs at
// each step and 8 times with the same signs throughout, as rounded inputs act. The tolerance is
// twice the largest deviation seen, plus what float32 may add to the loss itself
// (BoundFloat32Errors).
DescentTolerance StudyFloat32Descent(const AttentionProblem& problem,
                                     const DescentOptions& options);

}  // namespace attnprune::reference

#endif  // ATTNPRUNE_TESTS_REFERENCE_DESCENT_TOLERANCE_H_
