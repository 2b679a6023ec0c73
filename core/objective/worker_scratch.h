// Memory that each thread of a pool works in.
#ifndef ATTNPRUNE_CORE_OBJECTIVE_WORKER_SCRATCH_H_
#define ATTNPRUNE_CORE_OBJECTIVE_WORKER_SCRATCH_H_

#include <utility>
#include <vector>

#include "core/base/thread_pool.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// One row of floats a worker. Different workers may use theirs at once.
class WorkerScratch {
 public:
  WorkerScratch(const ThreadPool& pool, Index floats) {
    for (int i = 0; i < pool.threads(); ++i) rows_.emplace_back(1, floats);
  }
  float* of(int worker) { return rows_[static_cast<size_t>(worker)].data(); }

 private:
  std::vector<Matrix> rows_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_OBJECTIVE_WORKER_SCRATCH_H_
