// What is told of a run while it works.
#ifndef ATTNPRUNE_SERVER_EXECUTION_RUN_PROGRESS_H_
#define ATTNPRUNE_SERVER_EXECUTION_RUN_PROGRESS_H_

#include <chrono>
#include <functional>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "attnprune/v1/run.pb.h"
#include "core/methods/method.h"
#include "server/execution/claimed_job.h"
#include "server/execution/run_plan.h"

namespace attnprune {

// That the run's tensors are being read. share: of its results that are there.
void TellReading(ClaimedJob& job, double share);

// How fast a run goes, as one worker sees it over all the parts that it does.
struct RunPace {
  std::chrono::steady_clock::time_point start = std::chrono::steady_clock::now();
  absl::optional<double> done_at_start;  // operations; nullopt: not looked at yet
  double share = 0;                      // the last that was told
};

// One thread.
class RunProgress {
 public:
  // All must outlive it. others: operations that other workers have done of the run by now; may be
  // empty.
  RunProgress(ClaimedJob& job, const RunPlan& plan, RunPace& pace,
              std::function<double()> others = nullptr);

  // Work of an earlier attempt.
  void Skip(double operations);

  // From here on `operations` are at work; maps and method may be empty.
  void Begin(v1::RunPhase phase, Index block, double operations, absl::Span<const LinearMap> maps,
             absl::string_view method = "");
  void Resume(double share);   // of these operations that an earlier attempt has done
  void Advance(double share);  // of these operations
  // Of the method, or of a training. share: of these operations; nullopt: of the steps.
  void Step(const StepStats& stats, absl::optional<double> share = absl::nullopt);
  void End();              // they are done
  double seconds() const;  // since Begin

 private:
  void Write();

  ClaimedJob& job_;
  const RunPlan& plan_;
  RunPace& pace_;
  std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
  v1::RunProgress message_;
  double done_ = 0, working_ = 0, share_ = 0;  // operations; share_ of working_
  const std::function<double()> others_;
  double by_others_ = 0;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_EXECUTION_RUN_PROGRESS_H_
