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
  absl::optional<v1::MethodResult> result;
};

// Not thread-safe.
class ProgressModel {
 public:
  explicit ProgressModel(const v1::Job& job);  // its methods, in their order
  void Apply(const v1::JobEvent& event);
  const std::vector<MethodProgress>& methods() const { return methods_; }

 private:
  MethodProgress& Find(const std::string& label);
  std::vector<MethodProgress> methods_;
};

// One line a method, none wider than `columns`:
//   gd         [######......]  60/100  loss 12.35  error 0.0123 held out 0.0145  41.2/s  2 s left
std::vector<std::string> BarLines(const ProgressModel& model, int columns);

// Picks the events that are worth a line, at most one progress line a second and method, by the
// time that the events carry.
class PlainView {
 public:
  // "" if the event is not worth a line. `model` has seen the event.
  std::string LineOf(const v1::JobEvent& event, const ProgressModel& model);

 private:
  std::map<std::string, int64_t> last_;  // time of each method's last line, in ms
};

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_VIEWS_PROGRESS_VIEW_H_
