// The float32 objective of a reference problem.
#ifndef ATTNPRUNE_TESTS_CORE_OBJECTIVE_CORE_OBJECTIVE_H_
#define ATTNPRUNE_TESTS_CORE_OBJECTIVE_CORE_OBJECTIVE_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/base/thread_pool.h"
#include "core/objective/attention_objective.h"
#include "tests/reference/attention_reference.h"
#include "tests/reference/problems.h"

namespace attnprune {

// Owns everything that an AttentionObjective borrows.
class CoreObjective {
 public:
  struct Answer {
    double loss;
    std::vector<Matrix> gradients;  // in the pruned weights
  };

  explicit CoreObjective(const reference::AttentionProblem& problem, int threads = 1,
                         const ObjectiveOptions& options = {})
      : problem_(reference::ToCore(problem)), pool_(threads) {
    absl::StatusOr<std::unique_ptr<AttentionObjective>> created =
        AttentionObjective::Create(problem_, problem_.calibration, "calibration", pool_, options);
    if (!created.ok()) {
      status_ = created.status();
      return;
    }
    objective_ = *std::move(created);
  }

  const absl::Status& status() const { return status_; }
  AttentionObjective& operator*() { return *objective_; }
  AttentionObjective* operator->() { return objective_.get(); }

  // The same of weights in float64, which are rounded.
  Answer LossAndGradient(const std::vector<reference::Dense>& pruned) {
    const std::vector<Matrix> weights = reference::ToMatrices(pruned);
    Answer answer = {0, std::vector<Matrix>(weights.size())};
    answer.loss =
        objective_->LossAndGradient(reference::Views(weights), absl::MakeSpan(answer.gradients));
    return answer;
  }
  AttentionError Error(const std::vector<reference::Dense>& pruned) {
    const std::vector<Matrix> weights = reference::ToMatrices(pruned);
    return objective_->Error(reference::Views(weights));
  }
  double SmallestLogAttention(const std::vector<reference::Dense>& pruned) {
    const std::vector<Matrix> weights = reference::ToMatrices(pruned);
    return objective_->Error(reference::Views(weights), {.smallest = true}).smallest_log_attention;
  }

 private:
  Problem problem_;
  ThreadPool pool_;
  absl::Status status_;
  std::unique_ptr<AttentionObjective> objective_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_TESTS_CORE_OBJECTIVE_CORE_OBJECTIVE_H_
