// Curves as a picture: panels side by side, with axes, spreads and one legend. Pure.
#ifndef ATTNPRUNE_CLIENT_CLI_VIEWS_LINE_PLOT_H_
#define ATTNPRUNE_CLIENT_CLI_VIEWS_LINE_PLOT_H_

#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

namespace attnprune::cli {

struct PlotPoint {
  double x = 0, y = 0;
  // What the y of repeated runs ranges over, drawn as a band and the point with a mark; not
  // finite: neither is drawn.
  double low = NAN, high = NAN;
};

struct PlotLine {
  size_t legend = 0;              // its place in the legend, which gives its colour
  std::vector<PlotPoint> points;  // in ascending x
  double level = NAN;             // of a dashed line across the panel; not finite: none
};

enum class XScale { kFromZero, kLinear, kLogarithmic };

struct PlotPanel {
  std::string title, x_label;
  XScale x_scale = XScale::kLinear;
  std::vector<double> x_ticks;  // within the points' range; empty: round numbers
  std::vector<PlotLine> lines;
};

enum class YScales { kOne, kOneAPanel };

// An SVG document. Values that are not finite, and those that a logarithm does not have, are left
// out. The y axis is logarithmic where all values are above 0 and the largest is over 20 times the
// smallest; else it begins at 0 (or below).
std::string LinePlot(const std::string& title, const std::vector<PlotPanel>& panels,
                     const std::vector<std::string>& legend, YScales y_scales);

// Round numbers (1, 2 or 5 times a power of ten, or whole powers) from at most `low` to at least
// `high`, ascending, about five to ten of them; the first and the last are the ends of an axis.
std::vector<double> LinearTicks(double low, double high);       // low < high
std::vector<double> LogarithmicTicks(double low, double high);  // 0 < low < high

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_VIEWS_LINE_PLOT_H_
