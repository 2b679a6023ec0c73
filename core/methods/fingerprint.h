// A 64-bit digest of everything that decides a run: weights, calibration data, options, parameters.
// Held-out data has no part in it, since it never decides.
#ifndef ATTNPRUNE_CORE_METHODS_FINGERPRINT_H_
#define ATTNPRUNE_CORE_METHODS_FINGERPRINT_H_

#include <cstdint>

#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "core/problem/problem.h"

namespace attnprune {

// parameters: the method's values in a fixed order. seed: of a method that draws random numbers;
// the others leave it out, since it decides nothing of theirs.
uint64_t Fingerprint(const Problem& problem, absl::string_view method,
                     absl::Span<const double> parameters,
                     absl::optional<uint64_t> seed = absl::nullopt);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_METHODS_FINGERPRINT_H_
