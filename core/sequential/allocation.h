// How much of each block is pruned, where blocks differ.
#ifndef ATTNPRUNE_CORE_SEQUENTIAL_ALLOCATION_H_
#define ATTNPRUNE_CORE_SEQUENTIAL_ALLOCATION_H_

#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/base/thread_pool.h"
#include "core/model/forward.h"
#include "core/sequential/layer_pruner.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// D of every block of the dense model, by OWL (arXiv 2310.05175): the share of the scores
// |W_ab| ||X_b|| of all its linear maps that are above `outlier` times their matrix's mean, with
// ||X_b|| the norm of input b over the tokens. states: of the tokens, on their way into the first
// block; spent. listener: told the share of the whole pass. CANCELLED: it ended it. The bits do not
// depend on the pool's threads.
absl::StatusOr<std::vector<double>> OutlierShares(const Forward& forward, ThreadPool& pool,
                                                  double outlier, const TokenStates& states,
                                                  const PassListener& listener = nullptr);

// Every block's fraction: rho - (z - mean z), z = 2 limit (D - min D) / (max D - min D); rho where
// all D are equal. Not clamped: the caller's to check. shares: at least one.
std::vector<double> OwlSparsities(double rho, double limit, absl::Span<const double> shares);

// rho + step (i - (blocks - 1) / 2), as arXiv 2502.14770. Not clamped.
std::vector<double> ProgressionSparsities(double rho, double step, Index blocks);
// The step that takes 0.06 from the first to the last block.
double DefaultProgressionStep(Index blocks);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_SEQUENTIAL_ALLOCATION_H_
