// A 64-bit digest of everything that decides a run: weights, calibration data, options, parameters.
// Held-out data has no part in it, since it never decides.
#ifndef ATTNPRUNE_CORE_OBJECTIVE_FINGERPRINT_H_
#define ATTNPRUNE_CORE_OBJECTIVE_FINGERPRINT_H_

#include <cstdint>
#include <memory>

#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "core/problem/problem.h"

struct XXH3_state_s;

namespace attnprune {

// What the runs of one problem have in common, digested once. Immutable.
class ProblemFingerprint {
 public:
  explicit ProblemFingerprint(const Problem& problem);

  // That of one run. parameters: the method's values in a fixed order. seed: of a method that draws
  // random numbers; the others leave it out, since it decides nothing of theirs.
  uint64_t Of(absl::string_view method, absl::Span<const double> parameters,
              absl::optional<uint64_t> seed = absl::nullopt) const;

 private:
  std::shared_ptr<const XXH3_state_s> problem_;  // the digest's state after the problem
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_OBJECTIVE_FINGERPRINT_H_
