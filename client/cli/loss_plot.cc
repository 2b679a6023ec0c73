#include "client/cli/loss_plot.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace attnprune::cli {
namespace {

// Pixels.
constexpr double kPanelWidth = 420, kPanelHeight = 300, kLeft = 70, kTop = 60, kGap = 90;
constexpr double kWidth = 2 * kPanelWidth + kLeft + kGap + 30, kLegendRow = 18;
constexpr int kTicks = 5;
constexpr double kLogRatio = 20;
constexpr std::array<const char*, 8> kColours = {"#1f77b4", "#d62728", "#2ca02c", "#9467bd",
                                                 "#ff7f0e", "#17becf", "#8c564b", "#7f7f7f"};
constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

std::string Escaped(const std::string& text) {
  return absl::StrReplaceAll(text,
                             {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}});
}

const char* ColourOf(size_t i) { return kColours[i % kColours.size()]; }

using Points = std::vector<Curve::Point>;

// From values to pixels along one panel.
struct Scale {
  double left = 0;  // of the panel
  int last_step = 1;
  double low = 0, high = 1;  // of the values, or of their logarithms
  bool logarithmic = false;

  double X(int step) const { return left + kPanelWidth * step / last_step; }
  double Y(double value) const {
    const double at = logarithmic ? std::log10(value) : value;
    return kTop + kPanelHeight * (1 - (at - low) / (high - low));
  }
  double ValueAt(double fraction) const {
    const double at = low + fraction * (high - low);
    return logarithmic ? std::pow(10, at) : at;
  }
};

struct Series {
  size_t colour;
  const Points* points;
  double level;  // of a dashed line, or kNone
};

Scale ScaleOf(const std::vector<Series>& all, double left) {
  Scale scale{.left = left};
  double smallest = std::numeric_limits<double>::infinity(), largest = -smallest;
  const auto take = [&](double value) {
    if (!std::isfinite(value)) return;
    smallest = std::min(smallest, value);
    largest = std::max(largest, value);
  };
  for (const Series& series : all) {
    take(series.level);
    for (const Curve::Point& point : *series.points) {
      take(point.value);
      scale.last_step = std::max(scale.last_step, point.step);
    }
  }
  if (smallest > largest) return scale;
  scale.logarithmic = smallest > 0 && largest > kLogRatio * smallest;
  scale.low = scale.logarithmic ? std::log10(smallest) : std::min(smallest, 0.0);
  scale.high = scale.logarithmic ? std::log10(largest) : largest;
  if (!(scale.high > scale.low)) scale.high = scale.low + 1;
  return scale;
}

void AddAxes(const Scale& scale, const std::string& title, std::string* svg) {
  absl::StrAppendFormat(svg, "<text x=\"%.1f\" y=\"%.1f\" class=\"head\">%s</text>\n",
                        scale.left + kPanelWidth / 2, kTop - 12, Escaped(title));
  for (int i = 0; i < kTicks; ++i) {
    const double fraction = static_cast<double>(i) / (kTicks - 1);
    const double y = kTop + kPanelHeight * (1 - fraction);
    absl::StrAppendFormat(svg, "<path d=\"M%.1f %.1fh%.1f\" class=\"grid\"/>\n", scale.left, y,
                          kPanelWidth);
    absl::StrAppendFormat(svg, "<text x=\"%.1f\" y=\"%.1f\" class=\"y\">%.3g</text>\n",
                          scale.left - 6, y + 4, scale.ValueAt(fraction));
    const int step = static_cast<int>(std::lround(fraction * scale.last_step));
    absl::StrAppendFormat(svg, "<text x=\"%.1f\" y=\"%.1f\" class=\"x\">%d</text>\n", scale.X(step),
                          kTop + kPanelHeight + 18, step);
  }
  absl::StrAppendFormat(svg, "<text x=\"%.1f\" y=\"%.1f\" class=\"x\">step</text>\n",
                        scale.left + kPanelWidth / 2, kTop + kPanelHeight + 36);
}

void AddSeries(const Scale& scale, const Series& series, std::string* svg) {
  std::string path;
  for (const Curve::Point& point : *series.points) {
    if (!std::isfinite(point.value)) continue;
    absl::StrAppendFormat(&path, "%s%.1f %.1f", path.empty() ? "M" : "L", scale.X(point.step),
                          scale.Y(point.value));
  }
  if (!path.empty()) {
    absl::StrAppendFormat(svg, "<path d=\"%s\" class=\"line\" stroke=\"%s\"/>\n", path,
                          ColourOf(series.colour));
  }
  if (std::isfinite(series.level)) {
    absl::StrAppendFormat(
        svg,
        "<path d=\"M%.1f %.1fh%.1f\" class=\"line\" stroke=\"%s\" stroke-dasharray=\"6 4\"/>\n",
        scale.left, scale.Y(series.level), kPanelWidth, ColourOf(series.colour));
  }
}

void AddPanel(const std::vector<Series>& all, double left, const std::string& title,
              std::string* svg) {
  const Scale scale = ScaleOf(all, left);
  AddAxes(scale, title, svg);
  for (const Series& series : all) AddSeries(scale, series, svg);
}

void AddLegend(const std::vector<Curve>& curves, std::string* svg) {
  for (size_t i = 0; i < curves.size(); ++i) {
    const double y = kTop + kPanelHeight + 64 + kLegendRow * static_cast<double>(i);
    absl::StrAppendFormat(svg, "<path d=\"M%.1f %.1fh24\" class=\"line\" stroke=\"%s\"/>\n", kLeft,
                          y - 4, ColourOf(i));
    const std::string error = std::isfinite(curves[i].final_error)
                                  ? absl::StrFormat("  relative error %.5f", curves[i].final_error)
                                  : "";
    absl::StrAppendFormat(svg, "<text x=\"%.1f\" y=\"%.1f\">%s%s</text>\n", kLeft + 32, y,
                          Escaped(curves[i].label), error);
  }
}

// Steps stay in ascending order.
void Add(Points& points, int step, double value) {
  while (!points.empty() && points.back().step >= step) points.pop_back();
  points.push_back({step, value});
}

}  // namespace

Curve& CurveRecorder::Find(const std::string& label) {
  for (Curve& curve : curves_) {
    if (curve.label == label) return curve;
  }
  curves_.push_back({.label = label, .loss = {}, .error = {}, .final_error = kNone});
  return curves_.back();
}

void CurveRecorder::Apply(const v1::JobEvent& event) {
  if (event.has_progress()) {
    const v1::Progress& progress = event.progress();
    Curve& curve = Find(progress.method());
    Add(curve.loss, progress.step(), progress.attention_loss());
    if (progress.has_held_out_error()) {
      Add(curve.error, progress.step(), progress.held_out_error());
    } else if (progress.has_calibration_error()) {
      Add(curve.error, progress.step(), progress.calibration_error());
    }
  } else if (event.has_method_result() && !event.method_result().has_failure()) {
    const auto& error = event.method_result().relative_error();
    Find(event.method_result().method()).final_error =
        error.has_held_out() ? error.held_out() : error.calibration();
  }
}

std::string LossPlot(const std::string& title, const std::vector<Curve>& curves) {
  std::vector<Series> losses, errors;
  for (size_t i = 0; i < curves.size(); ++i) {
    losses.push_back({i, &curves[i].loss, kNone});
    errors.push_back(
        {i, &curves[i].error, curves[i].error.empty() ? curves[i].final_error : kNone});
  }
  const double height = kTop + kPanelHeight + 64 + kLegendRow * static_cast<double>(curves.size());
  std::string svg = absl::StrFormat(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" "
      "font-family=\"sans-serif\" font-size=\"12\">\n"
      "<style>.line{fill:none;stroke-width:2}.grid{stroke:#ddd}.y{text-anchor:end}"
      ".x,.head{text-anchor:middle}.head{font-weight:bold}</style>\n"
      "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n"
      "<text x=\"%.1f\" y=\"22\" class=\"head\" font-size=\"15\">%s</text>\n",
      kWidth, height, kWidth / 2, Escaped(title));
  AddPanel(losses, kLeft, "attention loss", &svg);
  AddPanel(errors, kLeft + kPanelWidth + kGap, "relative error of the attention matrix", &svg);
  AddLegend(curves, &svg);
  return svg + "</svg>\n";
}

}  // namespace attnprune::cli
