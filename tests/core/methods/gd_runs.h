// Runs of `gd` and what they leave behind.
#ifndef ATTNPRUNE_TESTS_CORE_METHODS_GD_RUNS_H_
#define ATTNPRUNE_TESTS_CORE_METHODS_GD_RUNS_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/methods/method.h"
#include "core/methods/registry.h"
#include "tests/reference/algorithm1.h"
#include "tests/reference/problems.h"

namespace attnprune {

using GdParameters = std::map<std::string, double>;

// Keeps what a run says after each step; stops it after `stop_after` steps, never if that is 0.
class Recorder final : public ProgressObserver {
 public:
  enum class States { kForgotten, kSaved };

  explicit Recorder(States states = States::kForgotten, int stop_after = 0)
      : states_wanted_(states), stop_after_(stop_after) {}

  Verdict OnStep(const StepStats& stats, const Resumable& run) override {
    stats_.push_back(stats);
    if (states_wanted_ == States::kSaved) states_.push_back(run.SaveState());
    return stats.step == stop_after_ ? Verdict::kStop : Verdict::kContinue;
  }

  const std::vector<StepStats>& stats() const { return stats_; }
  const std::vector<std::string>& states() const { return states_; }  // one a step

 private:
  const States states_wanted_;
  const int stop_after_;
  std::vector<StepStats> stats_;
  std::vector<std::string> states_;
};

inline absl::StatusOr<PruneResult> RunGd(const Problem& problem, const GdParameters& parameters,
                                         const RunOptions& options, ProgressObserver& observer,
                                         const PrepareOptions& prepare = {}) {
  auto method = CreateMethod("gd", parameters);
  if (!method.ok()) return method.status();
  return (*method)->Prune(problem, options, observer, prepare);
}

inline absl::StatusOr<PruneResult> RunGd(const Problem& problem, const GdParameters& parameters,
                                         const RunOptions& options = {}) {
  Recorder recorder;
  return RunGd(problem, parameters, options, recorder);
}

inline reference::Dense ToDense(const BitMask& mask) {
  const Matrix matrix = mask.ToMatrix();
  return reference::ToDense(MatrixView(matrix));
}

// The parameters that are those of the reference's options.
inline GdParameters ParametersOf(const reference::DescentOptions& options) {
  return {{"lambda", options.lambda},
          {"eta", options.eta},
          {"momentum", options.momentum},
          {"steps", options.steps},
          {"project", options.projection == reference::Projection::kUnitInterval ? 1 : 0}};
}

}  // namespace attnprune

#endif  // ATTNPRUNE_TESTS_CORE_METHODS_GD_RUNS_H_
