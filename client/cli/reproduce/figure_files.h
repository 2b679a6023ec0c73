// A figure's files: rows as CSV, pictures as SVG, in one folder.
#ifndef ATTNPRUNE_CLIENT_CLI_REPRODUCE_FIGURE_FILES_H_
#define ATTNPRUNE_CLIENT_CLI_REPRODUCE_FIGURE_FILES_H_

#include <ostream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "client/cli/reproduce/figure_plan.h"
#include "client/cli/reproduce/figure_rows.h"

namespace attnprune::cli {

// Ends the names of the files of WritePartialRows.
inline constexpr char kPartialRows[] = ".partial.csv";

// The rows so far, in a file of their own: an earlier figure stays until this one is whole.
absl::Status WritePartialRows(const FigureOptions& options, const std::string& folder,
                              const std::vector<FigureRow>& rows);

// The figures, whole: "figure2-lambda.csv", ".svg" and "-held-out.svg" an axis. The partial rows
// go.
absl::Status WriteFigures(const FigureOptions& options, const std::string& folder,
                          const std::vector<FigureRow>& rows);

// Their tables and their files.
void TellFigures(std::ostream& told, const FigureOptions& options, const std::string& folder,
                 const std::vector<FigureRow>& rows);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_REPRODUCE_FIGURE_FILES_H_
