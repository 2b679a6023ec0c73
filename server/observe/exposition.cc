#include "server/observe/exposition.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "core/base/format.h"

namespace attnprune {
namespace {

std::string NumberText(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  return FormatNumber(value);
}

std::string LabelText(const MetricLabels& labels) {
  if (labels.empty()) return "";
  std::string text = "{";
  for (const auto& [name, value] : labels) {
    absl::StrAppend(&text, text.size() > 1 ? "," : "", name, "=\"",
                    absl::StrReplaceAll(value, {{"\\", "\\\\"}, {"\"", "\\\""}, {"\n", "\\n"}}),
                    "\"");
  }
  return text + "}";
}

}  // namespace

void Exposition::Begin(absl::string_view name, absl::string_view type, absl::string_view help) {
  name_ = std::string(name);
  absl::StrAppend(&text_, "# HELP ", name, " ", help, "\n# TYPE ", name, " ", type, "\n");
}

void Exposition::Gauges(absl::string_view name, absl::string_view help) {
  Begin(name, "gauge", help);
}
void Exposition::Counters(absl::string_view name, absl::string_view help) {
  Begin(name, "counter", help);
}
void Exposition::Histograms(absl::string_view name, absl::string_view help) {
  Begin(name, "histogram", help);
}

void Exposition::Line(absl::string_view suffix, const MetricLabels& labels, double value) {
  absl::StrAppend(&text_, name_, suffix, LabelText(labels), " ", NumberText(value), "\n");
}

void Exposition::Sample(const MetricLabels& labels, double value) { Line("", labels, value); }

// The count is the sum of the buckets as they were read, whatever is added meanwhile.
void Exposition::Sample(const MetricLabels& labels, const Histogram& histogram) {
  const std::vector<double>& bounds = histogram.bounds();
  double count = 0;
  for (size_t i = 0; i <= bounds.size(); ++i) {
    count += static_cast<double>(histogram.count(i));
    const std::string bound = i < bounds.size() ? NumberText(bounds[i]) : "+Inf";
    MetricLabels with_bound = labels;
    with_bound.emplace_back("le", bound);
    Line("_bucket", with_bound, count);
  }
  Line("_sum", labels, histogram.sum());
  Line("_count", labels, count);
}

void Exposition::Gauge(absl::string_view name, absl::string_view help, double value) {
  Gauges(name, help);
  Sample({}, value);
}

void Exposition::Count(absl::string_view name, absl::string_view help, double value) {
  Counters(name, help);
  Sample({}, value);
}

}  // namespace attnprune
