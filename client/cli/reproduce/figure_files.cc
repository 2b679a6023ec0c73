#include "client/cli/reproduce/figure_files.h"

#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "client/cli/files/text_file.h"
#include "core/base/status_macros.h"

namespace attnprune::cli {
namespace {

std::string PathOf(const FigureOptions& options, const std::string& folder, const AxisPoints& axis,
                   const char* ending) {
  return absl::StrCat(folder, "/", ToString(options.figure), "-", ToString(axis.axis), ending);
}

absl::Status WriteRows(const FigureOptions& options, const std::string& folder,
                       const std::vector<FigureRow>& rows, const char* ending) {
  for (const AxisPoints& axis : options.axes) {
    ATTNPRUNE_RETURN_IF_ERROR(
        WriteText(PathOf(options, folder, axis, ending),
                  FigureCsv(options.figure, RowsOfAxis(options, axis.axis, rows))));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status WritePartialRows(const FigureOptions& options, const std::string& folder,
                              const std::vector<FigureRow>& rows) {
  return WriteRows(options, folder, rows, kPartialRows);
}

absl::Status WriteFigures(const FigureOptions& options, const std::string& folder,
                          const std::vector<FigureRow>& rows) {
  ATTNPRUNE_RETURN_IF_ERROR(WriteRows(options, folder, rows, ".csv"));
  for (const AxisPoints& axis : options.axes) {
    const std::vector<FigureRow> of_axis = RowsOfAxis(options, axis.axis, rows);
    ATTNPRUNE_RETURN_IF_ERROR(
        WriteText(PathOf(options, folder, axis, ".svg"),
                  FigurePlot(options, axis, of_axis, ErrorKind::kCalibration)));
    ATTNPRUNE_RETURN_IF_ERROR(WriteText(PathOf(options, folder, axis, "-held-out.svg"),
                                        FigurePlot(options, axis, of_axis, ErrorKind::kHeldOut)));
    std::error_code ignored;
    std::filesystem::remove(PathOf(options, folder, axis, kPartialRows), ignored);
  }
  return absl::OkStatus();
}

void TellFigures(std::ostream& told, const FigureOptions& options, const std::string& folder,
                 const std::vector<FigureRow>& rows) {
  for (const AxisPoints& axis : options.axes) {
    told << ToString(options.figure) << ", mean relative error, calibration / held out\n"
         << FigureTable(options, axis, rows) << "\n";
  }
  for (const AxisPoints& axis : options.axes) {
    for (const char* ending : {".csv", ".svg", "-held-out.svg"}) {
      told << PathOf(options, folder, axis, ending) << "\n";
    }
  }
  told << std::flush;
}

}  // namespace attnprune::cli
