// The course of a job as a picture. Pure.
#ifndef ATTNPRUNE_CLIENT_CLI_VIEWS_LOSS_PLOT_H_
#define ATTNPRUNE_CLIENT_CLI_VIEWS_LOSS_PLOT_H_

#include <string>
#include <vector>

#include "attnprune/v1/prune_service.pb.h"

namespace attnprune::cli {

// One method's figures by step, in ascending steps. A method that makes no steps has no points.
struct Curve {
  struct Point {
    int step;
    double value;
  };
  std::string label;
  std::vector<Point> loss;   // attention loss of the mask that entered the step
  std::vector<Point> error;  // relative error, binary mask: held out, or calibration without
  double final_error = 0;    // the judged one; not finite: none
};

// Gathers curves from events in their order. A step that is computed again (after a lost worker)
// replaces what came of it before. Not thread-safe.
class CurveRecorder {
 public:
  void Apply(const v1::JobEvent& event);
  const std::vector<Curve>& curves() const { return curves_; }

 private:
  Curve& Find(const std::string& label);
  std::vector<Curve> curves_;
};

// An SVG document of two panels: attention loss by step and relative error by step, with a dashed
// line for the final error of each method that makes no steps. Values that are not finite are left
// out. A panel is logarithmic where all values are above 0 and the largest is over 20 times the
// smallest.
std::string LossPlot(const std::string& title, const std::vector<Curve>& curves);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_VIEWS_LOSS_PLOT_H_
