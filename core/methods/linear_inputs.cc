#include "core/methods/linear_inputs.h"

#include "core/base/status_macros.h"

namespace attnprune {

absl::StatusOr<const SparseGptInputs*> LinearInputs::SparseGpt(double percdamp, ThreadPool& pool) {
  if (!sparsegpt_.has_value() || percdamp_ != percdamp) {
    sparsegpt_.reset();
    ATTNPRUNE_ASSIGN_OR_RETURN(sparsegpt_, PrepareSparseGpt(moments_, percdamp, pool));
    percdamp_ = percdamp;
  }
  return &*sparsegpt_;
}

absl::StatusOr<const AlpsInputs*> LinearInputs::Alps(double damping) {
  if (!alps_.has_value() || damping_ != damping) {
    alps_.reset();
    ATTNPRUNE_ASSIGN_OR_RETURN(alps_, PrepareAlps(moments_, damping));
    damping_ = damping;
  }
  return &*alps_;
}

}  // namespace attnprune
