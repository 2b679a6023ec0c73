// The hidden states from which a run goes on, in memory or a temporary file while it works on them,
// in the blob store between two blocks.
#ifndef ATTNPRUNE_SERVER_EXECUTION_RUN_STATES_H_
#define ATTNPRUNE_SERVER_EXECUTION_RUN_STATES_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "attnprune/v1/run.pb.h"
#include "core/io/spilled_matrix.h"
#include "core/model/forward.h"
#include "core/model/model_pass.h"
#include "core/sequential/layer_pruner.h"
#include "server/execution/claimed_job.h"
#include "server/execution/run_spec.h"

namespace attnprune {

// One thread at a time.
class RunStates {
 public:
  // The input of the first block. beside: whether the calibration rows go through the dense model
  // too. rows must outlive it. Errors: of MakeHiddenStates, Forward::Embed.
  static absl::StatusOr<RunStates> Begin(const Forward& forward, const RunRows& rows, bool beside,
                                         const PassOptions& options);

  TokenStates calibration() { return {rows_->calibration.lengths, calibration_.view()}; }
  TokenStates beside() { return Of(rows_->calibration, beside_); }  // empty if not asked for
  // Empty without held-out rows.
  TokenStates dense() { return Of(rows_->held_out, dense_); }
  TokenStates pruned() { return Of(rows_->held_out, pruned_); }

  // ||h~ - h||_F^2 / ||h||_F^2 of the held-out rows; nullopt without them.
  absl::optional<double> OutputError();

  // Stores all of them, and adds them to `result`. No other run's have their digests.
  absl::Status Store(ClaimedJob& job, v1::RunResult& result);
  // Takes up what Store added. DATA_LOSS: they are gone or damaged.
  absl::Status Load(ClaimedJob& job, const v1::RunResult& result);

 private:
  RunStates(const RunRows& rows, ScratchMatrix calibration)
      : rows_(&rows), calibration_(std::move(calibration)) {}

  struct Part {
    v1::HiddenStates::Kind kind;
    MutableMatrixView state;
  };
  std::vector<Part> Parts();  // those that are there

  static TokenStates Of(const Tokens& rows, absl::optional<ScratchMatrix>& states) {
    if (!states.has_value()) return {};
    return {rows.lengths, states->view()};
  }

  const RunRows* rows_;
  ScratchMatrix calibration_;
  absl::optional<ScratchMatrix> beside_, dense_, pruned_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_EXECUTION_RUN_STATES_H_
