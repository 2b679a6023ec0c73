#include "client/cli/reproduce/figure_rows.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/views/format.h"
#include "client/cli/views/line_plot.h"
#include "client/export/csv.h"
#include "core/base/format.h"

namespace attnprune::cli {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

std::string CsvError(double error) {
  return std::isfinite(error) ? absl::StrFormat("%.6g", error) : "";
}

double ErrorOf(const FigureRow& row, ErrorKind kind) {
  return kind == ErrorKind::kCalibration ? row.calibration_error : row.held_out_error;
}

size_t PlaceOf(const FigureOptions& options, const std::string& method) {
  const auto at = std::find_if(options.methods.begin(), options.methods.end(),
                               [&](const FigureMethod& m) { return m.text == method; });
  return static_cast<size_t>(at - options.methods.begin());
}

std::string MeanText(double error) {
  return std::isfinite(error) ? absl::StrFormat("%.3g", error) : "-";
}

// --- the plot ---

std::string Title(const FigureOptions& options, const AxisPoints& axis, ErrorKind kind) {
  return absl::StrCat(options.figure == Figure::kFigure2 ? "Figure 2" : "Figure 3",
                      ": relative error on ",
                      kind == ErrorKind::kCalibration ? "calibration" : "held-out",
                      " data against ", ToString(axis.axis));
}

std::string PanelTitle(const FigureOptions& options, int64_t k) {
  const std::string title = absl::StrCat("k = ", k, " batches");
  if (options.seeds == 1) return title;
  return absl::StrCat(title, "; mean and range of ", options.seeds, " seeds");
}

std::string XLabel(FigureAxis axis) {
  switch (axis) {
    case FigureAxis::kLambda:
      return "lambda of the paper (gd's is n times it)";
    case FigureAxis::kN:
      return "n, tokens of a batch";
    case FigureAxis::kRho:
      return "rho, fraction of weights removed";
  }
  return "";
}

PlotPanel PanelOf(const FigureOptions& options, const AxisPoints& axis,
                  const std::vector<FigureRow>& rows, ErrorKind kind, int64_t k) {
  PlotPanel panel;
  panel.title = PanelTitle(options, k);
  panel.x_label = XLabel(axis.axis);
  panel.x_scale = axis.axis == FigureAxis::kRho ? XScale::kLinear : XScale::kLogarithmic;
  panel.x_ticks = axis.points;
  for (size_t i = 0; i < options.methods.size(); ++i) {
    PlotLine line{.legend = i, .points = {}, .level = kNone};
    for (const double x : axis.points) {
      const Spread s = SpreadOf(rows, {axis.axis, x}, k, options.methods[i].text, kind);
      line.points.push_back({.x = x, .y = s.mean, .low = s.low, .high = s.high});
    }
    panel.lines.push_back(std::move(line));
  }
  return panel;
}

}  // namespace

std::vector<FigureRow> RowsOf(const FigureJob& job, const v1::Job& ended) {
  std::vector<FigureRow> rows;
  const size_t results = std::min(job.runs.size(), static_cast<size_t>(ended.results_size()));
  for (size_t i = 0; i < results; ++i) {
    const v1::MethodResult& result = ended.results(static_cast<int>(i));
    if (result.has_failure()) continue;
    const auto& error = result.relative_error();
    for (const FigurePlace& place : job.runs[i].places) {
      rows.push_back({.place = place,
                      .k = job.k,
                      .seed = job.seed,
                      .method = job.runs[i].text,
                      .calibration_error = error.calibration(),
                      .held_out_error = error.has_held_out() ? error.held_out() : kNone,
                      .seconds = result.seconds()});
    }
  }
  return rows;
}

std::vector<FigureRow> RowsOfAxis(const FigureOptions& options, FigureAxis axis,
                                  const std::vector<FigureRow>& rows) {
  std::vector<FigureRow> chosen;
  for (const FigureRow& row : rows) {
    if (row.place.axis == axis) chosen.push_back(row);
  }
  const auto key = [&](const FigureRow& row) {
    return std::make_tuple(row.k, row.place.x, PlaceOf(options, row.method), row.seed);
  };
  std::stable_sort(chosen.begin(), chosen.end(),
                   [&](const FigureRow& a, const FigureRow& b) { return key(a) < key(b); });
  return chosen;
}

std::string FigureCsv(Figure figure, const std::vector<FigureRow>& rows_of_axis) {
  std::string csv = "figure,axis,x,k,method,seed,calibration_error,held_out_error,seconds\n";
  for (const FigureRow& row : rows_of_axis) {
    absl::StrAppend(&csv, ToString(figure), ",", ToString(row.place.axis), ",",
                    FormatNumber(row.place.x), ",", row.k, ",", exporting::CsvField(row.method),
                    ",", row.seed, ",", CsvError(row.calibration_error), ",",
                    CsvError(row.held_out_error), ",", absl::StrFormat("%.3f", row.seconds), "\n");
  }
  return csv;
}

Spread SpreadOf(const std::vector<FigureRow>& rows, const FigurePlace& place, int64_t k,
                const std::string& method, ErrorKind kind) {
  Spread spread{.mean = kNone, .low = kNone, .high = kNone};
  double sum = 0;
  int count = 0;
  for (const FigureRow& row : rows) {
    const double error = ErrorOf(row, kind);
    const bool here = row.place.axis == place.axis && row.place.x == place.x && row.k == k &&
                      row.method == method && std::isfinite(error);
    if (!here) continue;
    sum += error;
    spread.low = count == 0 ? error : std::min(spread.low, error);
    spread.high = count == 0 ? error : std::max(spread.high, error);
    spread.mean = sum / ++count;
  }
  return spread;
}

std::string FigureTable(const FigureOptions& options, const AxisPoints& axis,
                        const std::vector<FigureRow>& rows) {
  std::vector<std::vector<std::string>> table = {{"k", ToString(axis.axis)}};
  for (const FigureMethod& method : options.methods) table[0].push_back(method.text);
  for (const int64_t k : options.ks) {
    for (const double x : axis.points) {
      std::vector<std::string> line = {absl::StrCat(k), FormatNumber(x)};
      for (const FigureMethod& method : options.methods) {
        const auto mean = [&](ErrorKind kind) {
          return MeanText(SpreadOf(rows, {axis.axis, x}, k, method.text, kind).mean);
        };
        line.push_back(
            absl::StrCat(mean(ErrorKind::kCalibration), " / ", mean(ErrorKind::kHeldOut)));
      }
      table.push_back(std::move(line));
    }
  }
  return TableText(table);
}

std::string FigurePlot(const FigureOptions& options, const AxisPoints& axis,
                       const std::vector<FigureRow>& rows, ErrorKind kind) {
  std::vector<PlotPanel> panels;
  std::vector<std::string> legend;
  for (const int64_t k : options.ks) panels.push_back(PanelOf(options, axis, rows, kind, k));
  for (const FigureMethod& method : options.methods) legend.push_back(method.text);
  return LinePlot(Title(options, axis, kind), panels, legend, YScales::kOne);
}

}  // namespace attnprune::cli
