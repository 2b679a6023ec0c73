// What methods take of the second moments of some linear maps' inputs.
#ifndef ATTNPRUNE_CORE_METHODS_LINEAR_INPUTS_H_
#define ATTNPRUNE_CORE_METHODS_LINEAR_INPUTS_H_

#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "core/base/thread_pool.h"
#include "core/kernels/gram.h"
#include "core/methods/alps_inputs.h"
#include "core/methods/sparsegpt.h"

namespace attnprune {

// Shared by all maps of the same inputs: what takes O(d^3) is made once, where it is first asked
// for. One caller at a time.
class LinearInputs {
 public:
  explicit LinearInputs(GramMatrix moments) : moments_(std::move(moments)) {}

  const GramMatrix& moments() const { return moments_; }  // X'X, d x d

  // PrepareSparseGpt and PrepareAlps, of the newest damping only. Valid until the next call with
  // another.
  absl::StatusOr<const SparseGptInputs*> SparseGpt(double percdamp, ThreadPool& pool);
  absl::StatusOr<const AlpsInputs*> Alps(double damping);

 private:
  GramMatrix moments_;
  double percdamp_ = 0, damping_ = 0;
  absl::optional<SparseGptInputs> sparsegpt_;
  absl::optional<AlpsInputs> alps_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_METHODS_LINEAR_INPUTS_H_
