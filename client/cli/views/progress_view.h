// A job's progress as text: bars for a terminal, lines for anything else. Pure.
#ifndef ATTNPRUNE_CLIENT_CLI_VIEWS_PROGRESS_VIEW_H_
#define ATTNPRUNE_CLIENT_CLI_VIEWS_PROGRESS_VIEW_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/types/optional.h"
#include "attnprune/v1/prune_service.pb.h"

namespace attnprune::cli {

// What is known of one method.
struct MethodProgress {
  std::string label;
  absl::optional<v1::Progress> latest;
  absl::optional<double> calibration_error, held_out_error;  // the latest that were evaluated
  absl::optional<v1::PhaseProgress> phase;                   // being judged
  absl::optional<v1::MethodResult> result;
};

// Not thread-safe.
class ProgressModel {
 public:
  explicit ProgressModel(const v1::Job& job);  // its methods, in their order
  void Apply(const v1::JobEvent& event);
  const std::vector<MethodProgress>& methods() const { return methods_; }
  // The phase that the methods wait for; nothing while one runs.
  const absl::optional<v1::PhaseProgress>& preparing() const { return preparing_; }

 private:
  MethodProgress& Find(const std::string& label);
  std::vector<MethodProgress> methods_;
  absl::optional<v1::PhaseProgress> preparing_;
};

// Says when another tenth of the way of something is done. Not thread-safe.
class TenthSteps {
 public:
  // True when `share` is the first of `what`, or in a later tenth than all before.
  bool IsDue(const std::string& what, double share);

 private:
  std::map<std::string, int> tenths_;
};

// One line a method, none wider than `columns`, below one for what they wait for, if they do:
//   preparing  [###.........]  25 %
//   gd         [######......]  60/100  loss 12.35  error 0.0123 held out 0.0145  41.2/s  2 s left
std::vector<std::string> BarLines(const ProgressModel& model, int columns);

// Picks the events that are worth a line: of a method's progress the first and every tenth of its
// way, of a phase that takes more than a second the same.
class PlainView {
 public:
  // "" if the event is not worth a line. `model` has seen the event.
  std::string LineOf(const v1::JobEvent& event, const ProgressModel& model);

 private:
  std::string PhaseLine(const v1::JobEvent& event);

  TenthSteps methods_, phases_;  // by label; by label and phase
};

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_VIEWS_PROGRESS_VIEW_H_
