// A figure's jobs on a server, one after the other.
#ifndef ATTNPRUNE_CLIENT_CLI_REPRODUCE_FIGURE_JOBS_H_
#define ATTNPRUNE_CLIENT_CLI_REPRODUCE_FIGURE_JOBS_H_

#include <string>

#include "client/cli/reproduce/figure_data.h"
#include "client/cli/reproduce/figure_plan.h"
#include "client/cli/shell/shell.h"
#include "client/library/client.h"

namespace attnprune::cli {

// On a given server a job goes on when its watch is interrupted.
enum class ServerKind { kGiven, kItsOwn };

// Runs the jobs of the figure, keeps the rows there are in a file of `folder` and draws them at the
// end. A job that failed is told, and its rows are missing. Returns an exit code, errors told.
int RunFigure(const Shell& shell, client::Client& client, ServerKind server,
              const FigureOptions& options, const FigureSource& source, const std::string& folder);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_REPRODUCE_FIGURE_JOBS_H_
