// Metrics as Prometheus's text format, version 0.0.4. (Debian's prometheus-cpp writes it too, but
// has no static library, and its locks are not those that are wanted here.)
#ifndef ATTNPRUNE_SERVER_OBSERVE_EXPOSITION_H_
#define ATTNPRUNE_SERVER_OBSERVE_EXPOSITION_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "server/observe/instruments.h"

namespace attnprune {

using MetricLabels = std::vector<std::pair<absl::string_view, absl::string_view>>;

// Writes families one after the other, each with all of its samples. One thread.
class Exposition {
 public:
  // Begin a family, whose samples follow. help: one line.
  void Gauges(absl::string_view name, absl::string_view help);
  void Counters(absl::string_view name, absl::string_view help);  // name ends with _total
  void Histograms(absl::string_view name, absl::string_view help);

  void Sample(const MetricLabels& labels, double value);
  void Sample(const MetricLabels& labels, const Histogram& histogram);

  // A family of one sample without labels.
  void Gauge(absl::string_view name, absl::string_view help, double value);
  void Count(absl::string_view name, absl::string_view help, double value);

  std::string Finish() { return std::move(text_); }

 private:
  void Begin(absl::string_view name, absl::string_view type, absl::string_view help);
  void Line(absl::string_view suffix, const MetricLabels& labels, double value);

  std::string name_;
  std::string text_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_OBSERVE_EXPOSITION_H_
