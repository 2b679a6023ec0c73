// What the passes over a whole model share: where hidden states are, who is told, who may stop it.
#ifndef ATTNPRUNE_CORE_MODEL_MODEL_PASS_H_
#define ATTNPRUNE_CORE_MODEL_MODEL_PASS_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/io/spilled_matrix.h"
#include "core/model/forward.h"
#include "core/model/tokens.h"

namespace attnprune {

struct PassProgress {
  Index layer = 0, layers = 0;  // layer == layers: the head
  double share = 0;             // of all the pass's work, in [0, 1]
};

struct PassOptions {
  // Bytes for hidden states, beside one layer's weights and its working memory; more of them are in
  // a temporary file in spill_folder. 0: all in memory.
  int64_t memory_budget = 0;
  std::string spill_folder = "/var/tmp";
  // Called by the calling thread after each piece of work; returns quickly. Null: nobody looks.
  std::function<void(const PassProgress& progress)> progress;
  std::function<bool()> stopped;  // asked there too; true ends the pass with CANCELLED
};

int64_t HiddenStatesBytes(const ModelOptions& model, Index tokens);

// Room for the hidden states of so many tokens.
absl::StatusOr<ScratchMatrix> MakeHiddenStates(const ModelOptions& model, Index tokens,
                                               const PassOptions& options);

// Hooks that tell the pass's progress within `layer` of a pass over `layers` of them, and let it be
// stopped. total: rows of x.
LayerHooks PassHooks(const PassOptions& options, Index layer, Index layers, Index total);

// -log p of every token but the first of each row, in nats: by the model alone on each row.
// INVALID_ARGUMENT unless Forward::Check passes; FAILED_PRECONDITION for masked models.
absl::StatusOr<std::vector<double>> TokenLosses(Forward& forward, const Tokens& tokens,
                                                const PassOptions& options = {});

// Of the losses of one model on some rows, and of another's on the same.
struct LossSummary {
  Index tokens = 0;  // that were predicted
  double nats_per_token = 0;
  double perplexity = 0;  // e^nats_per_token
};
struct LossDifference {
  double mean = 0;  // nats a token, the other's less the first's
  // Of the mean: tokens taken for independent; rows taken for independent (0 with a single row).
  double standard_error_by_token = 0, standard_error_by_row = 0;
};

LossSummary Summarize(absl::Span<const double> losses);
// lengths: tokens of each row; a row has one loss less than that.
LossDifference Compare(absl::Span<const double> first, absl::Span<const double> other,
                       absl::Span<const Index> lengths);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_MODEL_MODEL_PASS_H_
