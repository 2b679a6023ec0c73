#include "client/cli/jobs/run_by_time.h"

#include <cstddef>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "client/cli/jobs/server_runs.h"
#include "client/cli/views/format.h"
#include "core/base/status_macros.h"

namespace attnprune::cli {

absl::StatusOr<std::vector<v1::Run>> RunsByTime(const Shell& shell, client::Client& client,
                                                const PruneFlags& flags, std::vector<v1::Run> runs,
                                                int threads) {
  if (flags.time == absl::ZeroDuration()) return runs;
  size_t choice = 0;
  for (; choice < runs.size(); ++choice) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const v1::Run checked,
                               CreateRun(client, runs[choice], SubmitMode::kValidateOnly));
    const double seconds = checked.estimate().seconds() / threads;
    const bool fits = seconds <= absl::ToDoubleSeconds(flags.time);
    const bool last = choice + 1 == runs.size();
    if (!fits && !last) continue;
    Note(shell, absl::StrCat("--time ", absl::FormatDuration(flags.time), ": --recipe ",
                             flags.variants[choice].label, ", about ", SecondsText(seconds),
                             fits ? "" : "; no recipe takes less"));
    break;
  }
  return std::vector<v1::Run>{std::move(runs[choice])};
}

}  // namespace attnprune::cli
