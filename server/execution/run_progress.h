// What is told of a run while it works.
#ifndef ATTNPRUNE_SERVER_EXECUTION_RUN_PROGRESS_H_
#define ATTNPRUNE_SERVER_EXECUTION_RUN_PROGRESS_H_

#include <chrono>
#include <functional>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "attnprune/v1/run.pb.h"
#include "core/methods/method.h"
#include "server/execution/claimed_job.h"
#include "server/execution/run_plan.h"

namespace attnprune {

// That the run's tensors are being read. share: of its results that are there.
void TellReading(ClaimedJob& job, double share);

// One thread.
class RunProgress {
 public:
  // job and plan must outlive it. others: operations that other workers have done of the run by
  // now; may be empty.
  RunProgress(ClaimedJob& job, const RunPlan& plan, std::function<double()> others = nullptr);

  // Work of an earlier attempt.
  void Skip(double operations) { before_ += operations; }

  // From here on `operations` are at work; maps and method may be empty.
  void Begin(v1::RunPhase phase, Index block, double operations, absl::Span<const LinearMap> maps,
             absl::string_view method = "");
  void Advance(double share);         // of these operations
  void Step(const StepStats& stats);  // of the method
  void End();                         // they are done
  double seconds() const;             // since Begin

 private:
  void LookAtOthers();
  void Write();

  ClaimedJob& job_;
  const RunPlan& plan_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::chrono::steady_clock::time_point begun_ = start_;
  v1::RunProgress message_;
  double before_ = 0, done_ = 0, working_ = 0, share_ = 0;  // operations; share_ of working_
  const std::function<double()> others_;
  double others_before_ = 0, others_now_ = 0;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_EXECUTION_RUN_PROGRESS_H_
