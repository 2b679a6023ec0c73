// The figures' numbers: from ended jobs to rows, and rows as CSV, as a table and as a plot. Pure.
#ifndef ATTNPRUNE_CLIENT_CLI_REPRODUCE_FIGURE_ROWS_H_
#define ATTNPRUNE_CLIENT_CLI_REPRODUCE_FIGURE_ROWS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "attnprune/v1/job.pb.h"
#include "client/cli/reproduce/figure_plan.h"

namespace attnprune::cli {

// One method's result at one point with one seed.
struct FigureRow {
  FigurePlace place;
  int64_t k;
  uint64_t seed;
  std::string method;
  double calibration_error, held_out_error;  // relative, binary mask; NaN: there is none
  double seconds;                            // of solving
};

// ended: the job as it ended, its results in the order of job.runs. Methods that failed or did not
// run have no rows.
std::vector<FigureRow> RowsOf(const FigureJob& job, const v1::Job& ended);

// The rows of one axis, ordered by k, x, method (in the order of the options) and seed.
std::vector<FigureRow> RowsOfAxis(const FigureOptions& options, FigureAxis axis,
                                  const std::vector<FigureRow>& rows);

// figure,axis,x,k,method,seed,calibration_error,held_out_error,seconds with a heading (RFC 4180).
std::string FigureCsv(Figure figure, const std::vector<FigureRow>& rows_of_axis);

// Of the seeds at one point; not finite without any.
struct Spread {
  double mean, low, high;
};
enum class ErrorKind { kCalibration, kHeldOut };
Spread SpreadOf(const std::vector<FigureRow>& rows, const FigurePlace& place, int64_t k,
                const std::string& method, ErrorKind kind);

// A line for each k and x: every method's mean error over the seeds, calibration / held out.
std::string FigureTable(const FigureOptions& options, const AxisPoints& axis,
                        const std::vector<FigureRow>& rows);

// An SVG document with a panel for each k: the mean over the seeds and a band from the smallest to
// the largest.
std::string FigurePlot(const FigureOptions& options, const AxisPoints& axis,
                       const std::vector<FigureRow>& rows, ErrorKind kind);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_REPRODUCE_FIGURE_ROWS_H_
