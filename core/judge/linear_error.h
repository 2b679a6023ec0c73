// The error that linear methods minimise: ||X (W - W~)||_F^2 / ||X W||_F^2.
#ifndef ATTNPRUNE_CORE_JUDGE_LINEAR_ERROR_H_
#define ATTNPRUNE_CORE_JUDGE_LINEAR_ERROR_H_

#include "core/base/thread_pool.h"
#include "core/problem/problem.h"
#include "core/tensor/matrix.h"

namespace attnprune {

struct LinearError {
  double difference = 0;  // ||X (W - W~)||_F^2
  double dense = 0;       // ||X W||_F^2

  // 0 / 0 is 0, anything else over 0 is infinity.
  double relative() const;
};

// x: tokens x d; pruned has the shape and layout of `weight`. The bits do not depend on the pool's
// threads.
LinearError ComputeLinearError(MatrixView x, const NamedWeight& weight, MatrixView pruned,
                               ThreadPool& pool);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_JUDGE_LINEAR_ERROR_H_
