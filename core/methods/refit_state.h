// What "BASE+refit" writes down to be resumed: BASE's own state while that runs, then BASE's result
// and the state of the refit. `joint` does likewise: its one-shot answer is the base, its later
// phases have a result before them, and its rounds another fingerprint than its search.
//
// The bytes are one line and one or two solver states (solver_state.h):
//   "attnprune-refit-state-2 base FINGERPRINT\n" BASE's state
//   "attnprune-refit-state-2 refit FINGERPRINT SIZE\n" BASE's result, SIZE bytes; the refit's state
// FINGERPRINT: 16 hex digits, of the problem and all parameters. The line needs no checksum: every
// byte of it is compared with what it must be, or decides where the states begin, which have one.
#ifndef ATTNPRUNE_CORE_METHODS_REFIT_STATE_H_
#define ATTNPRUNE_CORE_METHODS_REFIT_STATE_H_

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/methods/method.h"

namespace attnprune {

struct RefitState {
  std::string base_state;                 // empty once BASE is done
  std::string base_result, search_state;  // empty before
};

// The line alone, which the states are to follow. result_size: bytes of BASE's result; 0 while BASE
// runs.
std::string RefitStateLine(size_t result_size, uint64_t fingerprint);
// ResumeRefused. The states in it are not looked into.
absl::StatusOr<RefitState> ParseRefitState(absl::string_view bytes, uint64_t fingerprint);

// Matrices, steps, damping retries and lambda of a finished result; not its reason or time.
std::string SerializeResult(const PruneResult& result, uint64_t fingerprint);
// ResumeRefused unless it is such a result, of `problem`.
absl::StatusOr<PruneResult> ParseResult(const std::string& bytes, const Problem& problem,
                                        uint64_t fingerprint);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_METHODS_REFIT_STATE_H_
