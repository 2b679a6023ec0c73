// The calibration batches cut in two: what a method learns from, and what decides for it.
#ifndef ATTNPRUNE_CORE_METHODS_CALIBRATION_SPLIT_H_
#define ATTNPRUNE_CORE_METHODS_CALIBRATION_SPLIT_H_

#include <vector>

#include "core/tensor/matrix.h"

namespace attnprune {

// Which of `batches` are set apart: `fraction` in [0, 1) of them, rounded, but at least one on each
// side, evenly spaced (the middles of as many equal stretches), so that neither side is all
// beginning or all end. None of a single batch, none with fraction 0.
std::vector<bool> BatchesSetApart(Index batches, double fraction);

// The indices of the batches of each side.
struct SplitIndices {
  std::vector<std::vector<Index>> fit;  // parts, one a step in turn; each at least one batch
  std::vector<Index> validation;        // empty: what is learned from decides too
};

// A pure function of the count of the batches. BatchesSetApart are for validation; the rest are
// dealt out like cards to the fewest parts of at most `per_part` batches (at least 1).
SplitIndices SplitBatches(Index batches, double fraction, Index per_part);

// Batches a step where nobody says how many: a quarter of the calibration batches, rounded up, 4 at
// most. So a step costs no more than a quarter of one on all of them, but with fewer than 4.
Index DefaultBatchesPerStep(Index calibration_batches);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_METHODS_CALIBRATION_SPLIT_H_
