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

// Each float32 step is Algorithm 1 with a gradient that is off by at most
//   b = |W| o BoundFloat32Errors + 5 u |gradient| + k u (|M| + eta |v|) / eta
// (the last for rounding M itself; |v| <= |gradient| / (1 - momentum)). What becomes of such errors
// depends on the curvature along the path, so the path is run again with errors of the full size b
// and random signs: 8 times with new signs at each step, 8 times with the same signs throughout, as
// rounded inputs act. Real rounding errors are far smaller than their bounds b; the tolerance is
// twice the largest deviation seen, plus what float32 adds to the loss itself.
DescentTolerance StudyFloat32Descent(const AttentionProblem& problem,
                                     const DescentOptions& options);

}  // namespace attnprune::reference

#endif  // ATTNPRUNE_TESTS_REFERENCE_DESCENT_TOLERANCE_H_
