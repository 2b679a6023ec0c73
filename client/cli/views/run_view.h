// A run's progress as text: one bar for a terminal, lines for anything else. Pure.
#ifndef ATTNPRUNE_CLIENT_CLI_VIEWS_RUN_VIEW_H_
#define ATTNPRUNE_CLIENT_CLI_VIEWS_RUN_VIEW_H_

#include <string>
#include <vector>

#include "absl/types/optional.h"
#include "attnprune/v1/prune_service.pb.h"
#include "attnprune/v1/run.pb.h"
#include "client/cli/views/progress_view.h"

namespace attnprune::cli {

// Where a run is. Not thread-safe.
class RunProgressModel {
 public:
  explicit RunProgressModel(const v1::Run& run);
  void Apply(const v1::JobEvent& event);

  v1::JobState state() const { return state_; }
  // Nothing before the first of an attempt.
  const absl::optional<v1::RunProgress>& latest() const { return latest_; }
  double share() const;  // of the run that is done, 0 to 1

 private:
  v1::JobState state_;
  int results_done_, results_total_;
  absl::optional<v1::RunProgress> latest_;
};

// No wider than `columns`:
//   [#########.....................]  31 %  block 4 of 16  gate, up  sparsegpt 12/32  2 min 05 s
//   left
std::string RunBarLine(const RunProgressModel& model, int columns);

// What a result says, a line each: its tensors, its block, the model. Empty: nothing.
std::vector<std::string> RunResultLines(const v1::RunResult& result);

// Picks the events that are worth a line, of progress the first and every tenth of the way.
class PlainRunView {
 public:
  // `model` has seen the event.
  std::vector<std::string> LinesOf(const v1::JobEvent& event, const RunProgressModel& model);

 private:
  TenthSteps progress_;
};

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_VIEWS_RUN_VIEW_H_
