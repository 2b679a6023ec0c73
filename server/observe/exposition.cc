#include "server/observe/exposition.h"

#include <array>
#include <charconv>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace attnprune {
namespace {

// The shortest text that reads back as the same number.
std::string NumberText(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  std::array<char, 32> text;
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value).ptr;
  return {text.data(), end};
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
