#include "client/cli/reproduce/figure_plan.h"

#include <google/protobuf/util/message_differencer.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "core/base/format.h"
#include "core/base/status_macros.h"

namespace attnprune::cli {
namespace {

constexpr int64_t kMaxTokens = 1 << 20;

absl::Status Usage(const std::string& text) { return absl::InvalidArgumentError(text); }

std::vector<double> DefaultPoints(FigureAxis axis, Points points) {
  const bool few = points == Points::kFew;
  switch (axis) {
    case FigureAxis::kLambda:
      if (few) return {0.01, 0.04, 0.16};
      return {0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32};
    case FigureAxis::kN:
      if (few) return {32, 64, 128};
      return {16, 32, 64, 128, 256};
    case FigureAxis::kRho:
      if (few) return {0.3, 0.5, 0.7, 0.9};
      return {0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9};
  }
  return {};
}

absl::Status CheckPoint(const std::string& flag, FigureAxis axis, double x) {
  const std::string got = absl::StrCat(", got ", FormatNumber(x));
  switch (axis) {
    case FigureAxis::kLambda:
      if (std::isfinite(x) && x > 0) return absl::OkStatus();
      return Usage(absl::StrCat(flag, " must be above 0", got));
    case FigureAxis::kN:
      if (x >= 1 && x <= kMaxTokens && x == std::floor(x)) return absl::OkStatus();
      return Usage(absl::StrCat(flag, " must be a whole number in [1, ", kMaxTokens, "]", got));
    case FigureAxis::kRho:
      if (x >= 0 && x < 1) return absl::OkStatus();
      return Usage(absl::StrCat(flag, " must be in [0, 1)", got));
  }
  return absl::OkStatus();
}

template <typename T>
absl::Status CheckOnce(const std::string& flag, const std::vector<T>& values) {
  for (auto value = values.begin(); value != values.end(); ++value) {
    if (std::find(values.begin(), value, *value) == value) continue;
    return Usage(absl::StrCat(flag, " must name each once, got ", *value, " twice"));
  }
  return absl::OkStatus();
}

// One point's values of all that can be varied.
struct Setting {
  double lambda;
  int64_t n;
  double rho;
};

Setting SettingAt(const FigureOptions& options, const FigurePlace& place) {
  Setting setting{.lambda = options.lambda, .n = options.n, .rho = options.rho};
  if (place.axis == FigureAxis::kLambda) setting.lambda = place.x;
  if (place.axis == FigureAxis::kN) setting.n = static_cast<int64_t>(place.x);
  if (place.axis == FigureAxis::kRho) setting.rho = place.x;
  return setting;
}

// insert: keeps what was given.
v1::Method WithThePapersSettings(v1::Method method, Figure figure, const Setting& setting) {
  const std::vector<std::string> parts = absl::StrSplit(method.name(), '+');
  if (parts[0] != "gd") return method;
  auto& parameters = *method.mutable_parameters();
  if (figure == Figure::kFigure3) {
    parameters.insert({"lambda", 0.05});
    parameters.insert({"eta", 0.005});
    return method;
  }
  parameters.insert({"lambda", static_cast<double>(setting.n) * setting.lambda});
  const double lambda = parameters.at("lambda");
  if (lambda > 0) parameters.insert({"eta", 0.1 / lambda});
  return method;
}

MethodRun& FindOrAdd(std::vector<MethodRun>& runs, const std::string& text,
                     const v1::Method& method) {
  for (MethodRun& run : runs) {
    const bool same =
        run.text == text && google::protobuf::util::MessageDifferencer::Equals(run.method, method);
    if (same) return run;
  }
  return runs.emplace_back(MethodRun{.text = text, .method = method, .places = {}});
}

FigureJob& FindOrAdd(std::vector<FigureJob>& jobs, int64_t k, uint64_t seed,
                     const Setting& setting) {
  for (FigureJob& job : jobs) {
    const bool same =
        job.k == k && job.seed == seed && job.n == setting.n && job.rho == setting.rho;
    if (same) return job;
  }
  return jobs.emplace_back(
      FigureJob{.k = k, .seed = seed, .n = setting.n, .rho = setting.rho, .runs = {}});
}

void AddPlace(const FigureOptions& options, int64_t k, uint64_t seed, const FigurePlace& place,
              std::vector<FigureJob>& jobs) {
  const Setting setting = SettingAt(options, place);
  FigureJob& job = FindOrAdd(jobs, k, seed, setting);
  for (const FigureMethod& method : options.methods) {
    const v1::Method full = WithThePapersSettings(method.method, options.figure, setting);
    FindOrAdd(job.runs, method.text, full).places.push_back(place);
  }
}

}  // namespace

std::string ToString(Figure figure) { return figure == Figure::kFigure2 ? "figure2" : "figure3"; }

std::string ToString(FigureAxis axis) {
  switch (axis) {
    case FigureAxis::kLambda:
      return "lambda";
    case FigureAxis::kN:
      return "n";
    case FigureAxis::kRho:
      return "rho";
  }
  return "";
}

std::vector<AxisPoints> DefaultAxes(Figure figure, Points points) {
  std::vector<AxisPoints> axes;
  for (const FigureAxis axis : {FigureAxis::kLambda, FigureAxis::kN, FigureAxis::kRho}) {
    if (axis == FigureAxis::kLambda && figure == Figure::kFigure3) continue;
    axes.push_back({axis, DefaultPoints(axis, points)});
  }
  return axes;
}

absl::StatusOr<AxisPoints> ParseAxis(const std::string& text, Figure figure, Points points) {
  const std::vector<std::string> sides = absl::StrSplit(text, absl::MaxSplits('=', 1));
  std::vector<std::string> names;
  for (AxisPoints& axis : DefaultAxes(figure, points)) {
    names.push_back(ToString(axis.axis));
    if (names.back() != sides[0]) continue;
    if (sides.size() == 1) return axis;
    axis.points.clear();
    for (const absl::string_view number : absl::StrSplit(sides[1], ',')) {
      double& x = axis.points.emplace_back();
      if (absl::SimpleAtod(number, &x)) continue;
      return Usage(absl::StrCat("--axis must be NAME or NAME=X,..., got ", text));
    }
    std::sort(axis.points.begin(), axis.points.end());
    return axis;
  }
  return Usage(absl::StrCat("--axis must be one of ", absl::StrJoin(names, ", "), " in ",
                            ToString(figure), ", got ", text));
}

absl::Status Validate(const FigureOptions& options) {
  std::vector<std::string> methods;
  for (const FigureMethod& method : options.methods) methods.push_back(method.text);
  ATTNPRUNE_RETURN_IF_ERROR(CheckOnce("--method", methods));
  ATTNPRUNE_RETURN_IF_ERROR(CheckOnce("--k", options.ks));
  ATTNPRUNE_RETURN_IF_ERROR(CheckPoint("--n", FigureAxis::kN, static_cast<double>(options.n)));
  ATTNPRUNE_RETURN_IF_ERROR(CheckPoint("--rho", FigureAxis::kRho, options.rho));
  ATTNPRUNE_RETURN_IF_ERROR(CheckPoint("--lambda", FigureAxis::kLambda, options.lambda));
  std::vector<std::string> axes;
  for (const AxisPoints& axis : options.axes) {
    axes.push_back(ToString(axis.axis));
    const std::string flag = absl::StrCat("--axis ", axes.back());
    for (const double x : axis.points) {
      ATTNPRUNE_RETURN_IF_ERROR(CheckPoint(flag, axis.axis, x));
    }
    ATTNPRUNE_RETURN_IF_ERROR(CheckOnce(flag, axis.points));
  }
  return CheckOnce("--axis", axes);
}

std::vector<FigureJob> PlanFigure(const FigureOptions& options) {
  std::vector<FigureJob> jobs;
  for (int64_t seed = 0; seed < options.seeds; ++seed) {
    for (const int64_t k : options.ks) {
      for (const AxisPoints& axis : options.axes) {
        for (const double x : axis.points) {
          AddPlace(options, k, static_cast<uint64_t>(seed), {axis.axis, x}, jobs);
        }
      }
    }
  }
  return jobs;
}

}  // namespace attnprune::cli
