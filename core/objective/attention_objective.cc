#include "core/objective/attention_objective.h"

#include <cmath>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/sum.h"
#include "core/objective/fused_objective.h"
#include "core/objective/projection_objective.h"

namespace attnprune {
namespace {

std::unique_ptr<AttentionObjective> MakeObjective(const Problem& problem, const Batches& batches,
                                                  ThreadPool& pool,
                                                  const ObjectiveOptions& options) {
  DenseAttentionView dense(std::make_shared<DenseAttentionStore>(problem.attention, batches,
                                                                 problem.heads(), options.dense));
  if (problem.fused()) {
    return std::make_unique<FusedObjective>(problem, batches, pool, options, std::move(dense));
  }
  return std::make_unique<ProjectionObjective>(problem, batches, pool, options, std::move(dense));
}

}  // namespace

ObjectiveOptions WithWorkspace(ObjectiveOptions options) {
  if (options.workspace == nullptr) options.workspace = std::make_shared<Workspace>();
  return options;
}

double AttentionError::relative() const { return Sum(difference) / Sum(dense); }

double AttentionError::relative(Index head) const {
  const size_t h = static_cast<size_t>(head);
  return difference[h] / dense[h];
}

absl::StatusOr<std::unique_ptr<AttentionObjective>> AttentionObjective::Create(
    const Problem& problem, const Batches& batches, const char* field, ThreadPool& pool,
    const ObjectiveOptions& options, const ShareDone& share_done) {
  std::unique_ptr<AttentionObjective> objective;
  try {
    objective = MakeObjective(problem, batches, pool, options);
    objective->FillDense(share_done);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(absl::StrCat(
        field, " needs more memory than there is for the attention of ", batches.count(),
        " batches of up to ", batches.longest(), " tokens and ", problem.heads(), " heads"));
  }
  if (!std::isfinite(objective->dense_norm_squared())) {
    return absl::InvalidArgumentError(
        absl::StrCat("weights and ", field, " must give logits that are finite in float32"));
  }
  return objective;
}

}  // namespace attnprune
