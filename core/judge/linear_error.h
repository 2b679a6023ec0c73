// The error that linear methods minimise: ||X (W - W~)||_F^2 / ||X W||_F^2.
#ifndef ATTNPRUNE_CORE_JUDGE_LINEAR_ERROR_H_
#define ATTNPRUNE_CORE_JUDGE_LINEAR_ERROR_H_

#include "absl/types/optional.h"
#include "core/base/thread_pool.h"
#include "core/kernels/gram.h"
#include "core/problem/problem.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// The sum of the products of their entries, in float64; of one shape.
double Dot(MatrixView a, MatrixView b);

struct LinearError {
  double difference = 0;  // ||X (W - W~)||_F^2
  double dense = 0;       // ||X W||_F^2

  // 0 / 0 is 0, anything else over 0 is infinity.
  double relative() const;
};

// ||X (W - V)||_F^2 of x: tokens x d, whose X'X is `gram`, and of the weight less `less`, of its
// layout, or of the weight itself: the product of the moments, so that it costs no pass over the
// tokens. By the outputs themselves where float32 moments overflow, or do not resolve it: where the
// terms cancel to less than a hundredth of what they are apart. The bits do not depend on the
// pool's threads.
double SquaredNormOfOutputs(MatrixView x, const GramMatrix& gram, const NamedWeight& weight,
                            absl::optional<MatrixView> less, ThreadPool& pool);

// The same by `gram` alone, never below 0: where the terms cancel, of few digits.
double SquaredNormByMoments(const GramMatrix& gram, const NamedWeight& weight,
                            absl::optional<MatrixView> less, ThreadPool& pool);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_JUDGE_LINEAR_ERROR_H_
