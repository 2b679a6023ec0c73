#include "client/cli/jobs/captured_input.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/cli/files/token_input.h"
#include "client/cli/views/pass_view.h"
#include "core/base/status_macros.h"
#include "core/base/thread_pool.h"
#include "core/model/capture.h"
#include "core/model/forward.h"

namespace attnprune::cli {
namespace {

absl::Status CheckCaptureFlags(const JobFlags& flags) {
  if (flags.model.empty() || flags.layer == kNoLayer) {
    return absl::InvalidArgumentError("--text and --tokens need --model DIR and --layer N");
  }
  if (!flags.calibration.empty()) {
    return absl::InvalidArgumentError("--calibration goes without --text and --tokens");
  }
  return CheckTokenFlags(flags.tokens);
}

std::string TemporaryParent() {
  const char* const given = std::getenv("TMPDIR");
  return given != nullptr && *given != '\0' ? given : "/var/tmp";
}

}  // namespace

absl::StatusOr<CapturedInput> CaptureInput(const Shell& shell, const JobFlags& flags, int threads,
                                           int64_t memory_budget) {
  CapturedInput out{flags, nullptr};
  if (!flags.tokens.given()) return out;
  ATTNPRUNE_RETURN_IF_ERROR(CheckCaptureFlags(flags));
  ThreadPool pool(ThreadsOr(threads));
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::unique_ptr<Forward> forward,
                             Forward::Open(flags.model, pool, ComputeOf(flags.tokens)));
  TokenFlags tokens = flags.tokens;
  tokens.seed = flags.seed;
  ATTNPRUNE_ASSIGN_OR_RETURN(const TokenInput input,
                             ReadSamples(tokens, flags.model, forward->options()));
  if (shell.interrupt.stop_requested()) return absl::CancelledError("interrupted");
  for (const std::string& note : input.notes) Note(shell, absl::StrCat("note: ", note));
  const std::string parent = TemporaryParent();
  out.folder = std::make_unique<OwnTemporaryFolder>(parent, "attnprune-capture");
  if (out.folder->path().empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat(parent, ": cannot make a folder in it: ", std::strerror(errno)));
  }
  PassView view(shell, "capture");
  CaptureOptions options{.layers = {flags.layer},
                         .output = out.folder->path(),
                         .shard_bytes = std::numeric_limits<int64_t>::max(),
                         .save_every = absl::InfiniteDuration(),
                         .pass = view.Options()};
  options.pass.memory_budget = memory_budget;
  options.pass.spill_folder = parent;
  if (!flags.quiet) {
    TellPassEstimate(shell, "capture", *forward, pool, input.rows.tokens.lengths,
                     options.layers.back(), memory_budget);
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(const CaptureResult captured, Capture(*forward, input.rows, options));
  out.flags.calibration = captured.files;
  return out;
}

// By Ctrl-C, by the disk, or by files that are not as they must be.
int CaptureError(const Shell& shell, const absl::Status& status) {
  if (absl::IsCancelled(status)) return Interrupted(shell);
  const bool local = absl::IsResourceExhausted(status) || absl::IsInternal(status);
  return local ? LocalError(shell, status) : UsageError(shell, status);
}

void TellNotes(const Shell& shell, const JobTensors& tensors) {
  for (const std::string& note : tensors.notes()) Note(shell, absl::StrCat("note: ", note));
}

}  // namespace attnprune::cli
