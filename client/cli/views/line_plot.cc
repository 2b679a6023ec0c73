#include "client/cli/views/line_plot.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <iterator>
#include <limits>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace attnprune::cli {
namespace {

// Pixels.
constexpr double kPanelWidth = 420, kPanelHeight = 300, kLeft = 70, kTop = 60, kGap = 90;
constexpr double kRight = 30, kLegendTop = 64, kLegendRow = 18;
constexpr double kLogRatio = 20;
constexpr double kMostLogTicks = 9, kFewestTicks = 5;
constexpr std::array<const char*, 8> kColours = {"#1f77b4", "#d62728", "#2ca02c", "#9467bd",
                                                 "#ff7f0e", "#17becf", "#8c564b", "#7f7f7f"};

const char* ColourOf(size_t i) { return kColours[i % kColours.size()]; }

std::string Escaped(const std::string& text) {
  return absl::StrReplaceAll(text,
                             {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}});
}

struct Range {
  double low = std::numeric_limits<double>::infinity(), high = -low;

  void Take(double value) {
    if (!std::isfinite(value)) return;
    low = std::min(low, value);
    high = std::max(high, value);
  }
  bool empty() const { return low > high; }
};

// From values to places along an axis.
struct Axis {
  double low = 0, high = 1;  // of the values, or of their logarithms
  bool logarithmic = false;
  std::vector<double> ticks;

  // 0 at the lower end, 1 at the upper; not finite for a value the axis does not have.
  double Fraction(double value) const {
    return ((logarithmic ? std::log10(value) : value) - low) / (high - low);
  }
};

Axis AxisOver(double low, double high, bool logarithmic) {
  Axis axis;
  axis.logarithmic = logarithmic;
  axis.low = logarithmic ? std::log10(low) : low;
  axis.high = logarithmic ? std::log10(high) : high;
  return axis;
}

Axis YAxis(const Range& range) {
  if (range.empty()) return Axis();
  const bool logarithmic = range.low > 0 && range.high > kLogRatio * range.low;
  const double low = logarithmic ? range.low : std::min(range.low, 0.0);
  const double high = range.high > low ? range.high : low + 1;
  std::vector<double> ticks = logarithmic ? LogarithmicTicks(low, high) : LinearTicks(low, high);
  Axis axis = AxisOver(ticks.front(), ticks.back(), logarithmic);
  axis.ticks = std::move(ticks);
  return axis;
}

// Of all that is drawn.
Range YRange(const PlotPanel& panel) {
  Range range;
  for (const PlotLine& line : panel.lines) {
    range.Take(line.level);
    for (const PlotPoint& point : line.points) {
      for (const double value : {point.y, point.low, point.high}) range.Take(value);
    }
  }
  return range;
}

Axis XAxis(const PlotPanel& panel) {
  Range range;
  for (const PlotLine& line : panel.lines) {
    for (const PlotPoint& point : line.points) range.Take(point.x);
  }
  for (const double tick : panel.x_ticks) range.Take(tick);
  if (panel.x_scale == XScale::kFromZero) range.Take(0);
  if (range.empty()) range.Take(0);
  const bool logarithmic = panel.x_scale == XScale::kLogarithmic && range.low > 0;
  if (range.low == range.high) range.high = logarithmic ? 10 * range.low : range.low + 1;
  Axis axis = AxisOver(range.low, range.high, logarithmic);
  axis.ticks = panel.x_ticks;
  if (!axis.ticks.empty()) return axis;
  const auto round =
      logarithmic ? LogarithmicTicks(range.low, range.high) : LinearTicks(range.low, range.high);
  std::copy_if(round.begin(), round.end(), std::back_inserter(axis.ticks),
               [&](double tick) { return tick >= range.low && tick <= range.high; });
  return axis;
}

// One panel's places in pixels.
struct Frame {
  double left;
  Axis x, y;

  double X(double value) const { return left + kPanelWidth * x.Fraction(value); }
  double Y(double value) const { return kTop + kPanelHeight * (1 - y.Fraction(value)); }
  // "M1.0 2.0" or "L1.0 2.0"; empty where there is no such place.
  std::string To(const char* how, double x_value, double y_value) const {
    const double at_x = X(x_value), at_y = Y(y_value);
    if (!std::isfinite(at_x) || !std::isfinite(at_y)) return "";
    return absl::StrFormat("%s%.1f %.1f", how, at_x, at_y);
  }
};

void AddText(double x, double y, const char* css_class, const std::string& text, std::string* svg) {
  absl::StrAppendFormat(svg, "<text x=\"%.1f\" y=\"%.1f\" class=\"%s\">%s</text>\n", x, y,
                        css_class, Escaped(text));
}

void AddAxes(const Frame& frame, const PlotPanel& panel, std::string* svg) {
  constexpr double kBottom = kTop + kPanelHeight;
  AddText(frame.left + kPanelWidth / 2, kTop - 12, "head", panel.title, svg);
  for (const double tick : frame.y.ticks) {
    absl::StrAppendFormat(svg, "<path d=\"M%.1f %.1fh%.1f\" class=\"grid\"/>\n", frame.left,
                          frame.Y(tick), kPanelWidth);
    AddText(frame.left - 6, frame.Y(tick) + 4, "y", absl::StrFormat("%.4g", tick), svg);
  }
  for (const double tick : frame.x.ticks) {
    absl::StrAppendFormat(svg, "<path d=\"M%.1f %.1fv5\" class=\"tick\"/>\n", frame.X(tick),
                          kBottom);
    AddText(frame.X(tick), kBottom + 18, "x", absl::StrFormat("%.4g", tick), svg);
  }
  absl::StrAppendFormat(svg, "<path d=\"M%.1f %.1fv%.1fh%.1f\" class=\"tick\"/>\n", frame.left,
                        kTop, kPanelHeight, kPanelWidth);
  AddText(frame.left + kPanelWidth / 2, kBottom + 36, "x", panel.x_label, svg);
}

void AddBand(const Frame& frame, const PlotLine& line, std::string* svg) {
  std::string path;
  for (const PlotPoint& point : line.points) {
    path += frame.To(path.empty() ? "M" : "L", point.x, point.high);
  }
  for (auto point = line.points.rbegin(); point != line.points.rend(); ++point) {
    path += frame.To(path.empty() ? "M" : "L", point->x, point->low);
  }
  if (path.empty()) return;
  absl::StrAppendFormat(svg, "<path d=\"%sZ\" class=\"band\" fill=\"%s\"/>\n", path,
                        ColourOf(line.legend));
}

void AddMarks(const Frame& frame, const PlotLine& line, std::string* svg) {
  std::string path;  // a round stroke of no length is a dot
  for (const PlotPoint& point : line.points) {
    if (!std::isfinite(point.low)) continue;
    const std::string place = frame.To("M", point.x, point.y);
    if (!place.empty()) path += place + "h0";
  }
  if (path.empty()) return;
  absl::StrAppendFormat(svg, "<path d=\"%s\" class=\"mark\" stroke=\"%s\"/>\n", path,
                        ColourOf(line.legend));
}

void AddLine(const Frame& frame, const PlotLine& line, std::string* svg) {
  std::string path;
  for (const PlotPoint& point : line.points) {
    path += frame.To(path.empty() ? "M" : "L", point.x, point.y);
  }
  if (!path.empty()) {
    absl::StrAppendFormat(svg, "<path d=\"%s\" class=\"line\" stroke=\"%s\"/>\n", path,
                          ColourOf(line.legend));
  }
  AddMarks(frame, line, svg);
  if (std::isfinite(line.level)) {
    absl::StrAppendFormat(
        svg,
        "<path d=\"M%.1f %.1fh%.1f\" class=\"line\" stroke=\"%s\" stroke-dasharray=\"6 4\"/>\n",
        frame.left, frame.Y(line.level), kPanelWidth, ColourOf(line.legend));
  }
}

void AddPanel(const PlotPanel& panel, const Frame& frame, std::string* svg) {
  AddAxes(frame, panel, svg);
  for (const PlotLine& line : panel.lines) AddBand(frame, line, svg);
  for (const PlotLine& line : panel.lines) AddLine(frame, line, svg);
}

void AddLegend(const std::vector<std::string>& legend, std::string* svg) {
  for (size_t i = 0; i < legend.size(); ++i) {
    const double y = kTop + kPanelHeight + kLegendTop + kLegendRow * static_cast<double>(i);
    absl::StrAppendFormat(svg, "<path d=\"M%.1f %.1fh24\" class=\"line\" stroke=\"%s\"/>\n", kLeft,
                          y - 4, ColourOf(i));
    absl::StrAppendFormat(svg, "<text x=\"%.1f\" y=\"%.1f\">%s</text>\n", kLeft + 32, y,
                          Escaped(legend[i]));
  }
}

std::string Opening(const std::string& title, double width, double height) {
  return absl::StrFormat(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" "
      "font-family=\"sans-serif\" font-size=\"12\">\n"
      "<style>.line,.mark,.tick{fill:none}.line{stroke-width:2}.mark{stroke-width:6;"
      "stroke-linecap:round}.band{fill-opacity:0.15}.grid{stroke:#ddd}.tick{stroke:#444}"
      ".y{text-anchor:end}.x,.head{text-anchor:middle}.head{font-weight:bold}</style>\n"
      "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n"
      "<text x=\"%.1f\" y=\"22\" class=\"head\" font-size=\"15\">%s</text>\n",
      width, height, width / 2, Escaped(title));
}

// All ticks that are `factor` times a power of ten, from the last at or below `low` to the first at
// or above `high`.
std::vector<double> Decades(double low, double high, const std::vector<double>& factors) {
  std::vector<double> ticks;
  const int first = static_cast<int>(std::floor(std::log10(low))) - 1;
  const int last = static_cast<int>(std::ceil(std::log10(high))) + 1;
  for (int power = first; power <= last; ++power) {
    for (const double factor : factors) {
      const double tick = factor * std::pow(10, power);
      if (tick <= low) ticks.clear();
      ticks.push_back(tick);
      if (tick >= high) return ticks;
    }
  }
  return ticks;
}

}  // namespace

std::vector<double> LogarithmicTicks(double low, double high) {
  std::vector<double> ticks = Decades(low, high, {1, 2, 5});
  return ticks.size() > kMostLogTicks ? Decades(low, high, {1}) : ticks;
}

std::vector<double> LinearTicks(double low, double high) {
  const double power = std::pow(10, std::floor(std::log10(high - low)));
  double step = power;
  for (const double factor : {0.5, 0.2, 0.1}) {
    if ((high - low) / step >= kFewestTicks - 1) break;
    step = factor * power;
  }
  std::vector<double> ticks;
  const auto first = static_cast<int64_t>(std::floor(low / step));
  const auto last = static_cast<int64_t>(std::ceil(high / step * (1 - 1e-12)));
  for (int64_t i = first; i <= last; ++i) ticks.push_back(static_cast<double>(i) * step);
  return ticks;
}

std::string LinePlot(const std::string& title, const std::vector<PlotPanel>& panels,
                     const std::vector<std::string>& legend, YScales y_scales) {
  const auto count = static_cast<double>(std::max<size_t>(panels.size(), 1));
  const double width = kLeft + count * kPanelWidth + (count - 1) * kGap + kRight;
  const double height =
      kTop + kPanelHeight + kLegendTop + kLegendRow * static_cast<double>(legend.size());
  Range all;
  for (const PlotPanel& panel : panels) {
    const Range range = YRange(panel);
    all.Take(range.low);
    all.Take(range.high);
  }
  std::string svg = Opening(title, width, height);
  double left = kLeft;
  for (const PlotPanel& panel : panels) {
    const Range range = y_scales == YScales::kOne ? all : YRange(panel);
    AddPanel(panel, {.left = left, .x = XAxis(panel), .y = YAxis(range)}, &svg);
    left += kPanelWidth + kGap;
  }
  AddLegend(legend, &svg);
  return svg + "</svg>\n";
}

}  // namespace attnprune::cli
