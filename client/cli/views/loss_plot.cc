#include "client/cli/views/loss_plot.h"

#include <cmath>
#include <limits>

#include "absl/strings/str_format.h"
#include "client/cli/views/line_plot.h"
#include "client/cli/views/result_table.h"

namespace attnprune::cli {
namespace {

constexpr double kNoValue = std::numeric_limits<double>::quiet_NaN();

PlotLine LineOf(size_t legend, const std::vector<Curve::Point>& points, double level) {
  PlotLine line{.legend = legend, .points = {}, .level = level};
  for (const Curve::Point& point : points) {
    line.points.push_back({.x = static_cast<double>(point.step), .y = point.value});
  }
  return line;
}

PlotPanel PanelBySteps(const std::string& title) {
  return {
      .title = title, .x_label = "step", .x_scale = XScale::kFromZero, .x_ticks = {}, .lines = {}};
}

std::string LegendOf(const Curve& curve) {
  if (!std::isfinite(curve.final_error)) return curve.label;
  return absl::StrFormat("%s  relative error %.5f", curve.label, curve.final_error);
}

// Steps stay in ascending order.
void Add(std::vector<Curve::Point>& points, int step, double value) {
  while (!points.empty() && points.back().step >= step) points.pop_back();
  points.push_back({step, value});
}

}  // namespace

Curve& CurveRecorder::Find(const std::string& label) {
  for (Curve& curve : curves_) {
    if (curve.label == label) return curve;
  }
  curves_.push_back({.label = label, .loss = {}, .error = {}, .final_error = kNoValue});
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
    Find(event.method_result().method()).final_error = JudgedError(event.method_result());
  }
}

std::string LossPlot(const std::string& title, const std::vector<Curve>& curves) {
  PlotPanel losses = PanelBySteps("attention loss");
  PlotPanel errors = PanelBySteps("relative error of the attention matrix");
  std::vector<std::string> legend;
  for (size_t i = 0; i < curves.size(); ++i) {
    const Curve& curve = curves[i];
    losses.lines.push_back(LineOf(i, curve.loss, kNoValue));
    errors.lines.push_back(
        LineOf(i, curve.error, curve.error.empty() ? curve.final_error : kNoValue));
    legend.push_back(LegendOf(curve));
  }
  return LinePlot(title, {losses, errors}, legend, YScales::kOneAPanel);
}

}  // namespace attnprune::cli
