// Which jobs one of the paper's figures is made of. Pure.
#ifndef ATTNPRUNE_CLIENT_CLI_REPRODUCE_FIGURE_PLAN_H_
#define ATTNPRUNE_CLIENT_CLI_REPRODUCE_FIGURE_PLAN_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "attnprune/v1/job.pb.h"

namespace attnprune::cli {

enum class Figure {
  kFigure2,  // synthetic data, fused problem (Section 6.1)
  kFigure3,  // a real layer, separate masks (Section 7)
};

// What is varied while the rest stays as it is.
enum class FigureAxis { kLambda, kN, kRho };

std::string ToString(Figure figure);    // "figure2"
std::string ToString(FigureAxis axis);  // "lambda"

struct AxisPoints {
  FigureAxis axis;
  std::vector<double> points;
};

enum class Points { kFew, kFull };

// The axes that the figure has. The paper's plots give no list of points; these cover their ranges.
std::vector<AxisPoints> DefaultAxes(Figure figure, Points points);

// "n=16,32"; "n" alone takes the default points. INVALID_ARGUMENT names --axis, rule and value.
absl::StatusOr<AxisPoints> ParseAxis(const std::string& text, Figure figure, Points points);

struct FigureMethod {
  std::string text;  // as it was given; its name in the figure
  v1::Method method;
};

struct FigureOptions {
  Figure figure = Figure::kFigure2;
  std::vector<int64_t> ks;  // calibration batches; a panel each
  int64_t seeds = 3;        // the seeds are 0, 1, ...
  // Where they are not varied.
  double lambda = 0.04;  // the paper's; figure 2 only
  int64_t n = 128;       // tokens of a batch
  double rho = 0.5;
  std::vector<AxisPoints> axes;
  std::vector<FigureMethod> methods;
};

// INVALID_ARGUMENT names the flag, its rule and the value.
absl::Status Validate(const FigureOptions& options);

// A point of a curve.
struct FigurePlace {
  FigureAxis axis;
  double x;
};

// One method of one job, and every point that its result makes: what does not depend on lambda
// runs once for the whole axis, and the point that all axes have in common once for all of them.
struct MethodRun {
  std::string text;
  v1::Method method;
  std::vector<FigurePlace> places;
};

struct FigureJob {
  int64_t k = 0;
  uint64_t seed = 0;
  int64_t n = 0;
  double rho = 0;
  std::vector<MethodRun> runs;
};

// The jobs in an order that completes one seed's curves before the next seed's. `gd` (and gd+refit)
// gets the paper's settings, unless they are given: in figure 2 lambda = n times the paper's and
// eta = 0.1 / lambda (Section 6.1), in figure 3 lambda = 0.05 and eta = 0.005 (Section 7).
std::vector<FigureJob> PlanFigure(const FigureOptions& options);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_REPRODUCE_FIGURE_PLAN_H_
