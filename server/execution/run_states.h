// The hidden states from which a run goes on, in memory or a temporary file while it works on them,
// in the blob store between two blocks.
#ifndef ATTNPRUNE_SERVER_EXECUTION_RUN_STATES_H_
#define ATTNPRUNE_SERVER_EXECUTION_RUN_STATES_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
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
  // Which there are; held-out ones only of a run with such rows.
  struct Kinds {
    bool calibration = true;  // what blocks are pruned on
    bool beside = false;      // the calibration rows in the dense model
    bool dense = true;        // the held-out rows in the dense model
    bool pruned = true;       // and in the pruned one
  };

  // The input of the first block. rows must outlive it. Errors: of MakeHiddenStates,
  // Forward::Embed.
  static absl::StatusOr<RunStates> Begin(const Forward& forward, const RunRows& rows,
                                         const Kinds& kinds, const PassOptions& options);

  // Empty where there are none.
  TokenStates calibration() { return Of(rows_->calibration, calibration_); }
  TokenStates beside() { return Of(rows_->calibration, beside_); }
  TokenStates dense() { return Of(rows_->held_out, dense_); }
  TokenStates pruned() { return Of(rows_->held_out, pruned_); }

  // ||h~ - h||_F^2 / ||h||_F^2 of the held-out rows; nullopt without them.
  absl::optional<double> OutputError();

  // Takes the place of what `from` has, of the same kinds.
  void CopyFrom(RunStates& from);

  // Stores all of them, and adds them to `result`. No other run's have their digests.
  absl::Status Store(ClaimedJob& job, v1::RunResult& result);
  // Takes up what Store added. DATA_LOSS: they are gone or damaged.
  absl::Status Load(ClaimedJob& job, const v1::RunResult& result);

  // The same for the part of the run that begins with them; the digests in a fixed order.
  absl::StatusOr<std::vector<std::string>> StoreForPart(ClaimedJob& job, int part);
  absl::Status LoadForPart(ClaimedJob& job, int part, absl::Span<const std::string> digests);

 private:
  explicit RunStates(const RunRows& rows) : rows_(&rows) {}

  struct State {
    v1::HiddenStates::Kind kind;
    MutableMatrixView values;
  };
  std::vector<State> All();  // those that are there

  static TokenStates Of(const Tokens& rows, absl::optional<ScratchMatrix>& states) {
    if (!states.has_value()) return {};
    return {rows.lengths, states->view()};
  }

  const RunRows* rows_;
  absl::optional<ScratchMatrix> calibration_, beside_, dense_, pruned_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_EXECUTION_RUN_STATES_H_
