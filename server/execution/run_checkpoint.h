// What a run writes down in the middle of a block, so that a crash costs seconds of it: the moments
// of a stretch, the state of the method at work, the hidden states that are through the block; and
// before all blocks, the rows that it samples and where the pass of the curvature is.
//
// The bulk is in blobs that only the checkpoint names. One that is lost costs the work that it
// holds, of a training or the curvature's pass all that was saved, and nothing else.
#ifndef ATTNPRUNE_SERVER_EXECUTION_RUN_CHECKPOINT_H_
#define ATTNPRUNE_SERVER_EXECUTION_RUN_CHECKPOINT_H_

#include <chrono>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "attnprune/v1/run.pb.h"
#include "core/methods/method.h"
#include "core/model/sampler.h"
#include "core/sequential/curvature.h"
#include "core/sequential/layer_pruner.h"
#include "core/sequential/stretch.h"
#include "core/sequential/training.h"
#include "server/execution/claimed_job.h"

namespace attnprune {

// That of the job's claim, on a run or on a part of it. One thread. Writes are best effort: what
// fails is reported, and the run goes on.
class RunCheckpoint {
 public:
  // job must outlive it.
  explicit RunCheckpoint(ClaimedJob& job);

  // Takes up what an earlier attempt wrote; a damaged one is a warning.
  void Read();

  // Where a stretch without a piece of attention goes on; empty: at its beginning.
  StretchMoments TakeMoments(Index block, size_t stretch, size_t groups);
  // Of the method on the piece that begins with this tensor; empty: at its beginning.
  std::string TakeMethodState(Index block, const std::string& tensor);
  // Reads what is through the block into `states`, and returns how many rows that is.
  Index TakeAdvanced(Index block, v1::HiddenStates::Kind kind, MutableMatrixView states);

  // Takes a block's reconstruction to where it goes on; or the distillation, all of whose layers
  // are added: of the number of blocks. A warning where that is damaged or gone: it stays at its
  // beginning. CANCELLED: the job is to stop; or what was whole a moment ago cannot be read.
  absl::Status TakeTraining(Index block, Training& training);

  // Rows that the model was writing; empty: none.
  SampledSoFar TakeSampled();
  // Takes the pass to where it goes on, and returns what was saved with that: curvature and scores.
  // A warning where it is damaged or gone: the pass stays at its beginning. CANCELLED: the job is
  // to stop.
  absl::StatusOr<v1::RunCheckpoint::Measuring> TakeMeasuring(CurvaturePass& pass);

  // Each saves only where that is worth its time, or the last chance: the run drains.
  void SaveMoments(Index block, size_t stretch, const LayerPruner& pruner);
  // whole: the stretch has moments to go on from; else its pass is done anew.
  void SaveMethod(Index block, size_t stretch, const LayerPruner& pruner, bool whole,
                  const std::string& tensor, const Resumable& run);
  void SaveAdvanced(Index block, v1::HiddenStates::Kind kind, MatrixView states, Index rows);

  void SaveTraining(Index block, Training& training);
  void SaveSampled(const SampledSoFar& rows);
  // measured: of the layers that are through, curvature and scores.
  // Nothing, where the disk has no room for it beside `needed` bytes.
  void SaveMeasuring(CurvaturePass& pass, const v1::RunCheckpoint::Measuring& measured,
                     int64_t needed);

  // A result was stored, which drops the checkpoint: what is left of it is written anew.
  void AfterResult();
  // The pass through the block, a stretch, or all is over: what was saved of it is removed.
  void ForgetAdvanced();
  void ForgetStretch(Index block, size_t stretch);
  void Forget();
  // The run does not go on: what no result names either.
  void Abandon();

 private:
  // bytes: that the save would write.
  bool Due(int64_t bytes) const;
  void Begin(Index block, size_t stretch);
  bool HasMomentsOf(const LayerPruner& pruner) const;
  void PutMoments(const LayerPruner& pruner);
  absl::Status CheckTraining(Training& training);
  absl::Status ReadMeasuring(CurvaturePass& pass);
  void KeepRows(v1::RunCheckpoint::Measuring& saved);
  absl::Status PutMeasuring(CurvaturePass& pass, v1::RunCheckpoint::Measuring& saved);
  absl::Status ReadMoments(StretchMoments& moments, size_t groups);
  // The blob stays until a checkpoint is written that does not name it.
  absl::StatusOr<std::string> Put(absl::Span<const char> bytes, const std::string& tail);
  // start, bytes: of the whole save, for the cost of the next.
  void Write(std::chrono::steady_clock::time_point start, int64_t bytes);
  void Warn(absl::string_view what, const absl::Status& status);

  ClaimedJob& job_;
  const std::string tail_;  // of its blobs (own_blobs.h)
  v1::RunCheckpoint message_;
  std::set<std::string> stored_;  // blobs of its own that it found or put, and has not removed
  absl::Time last_;
  absl::Duration cost_of_a_byte_;                         // by the last save of bulk
  absl::Duration cost_of_little_ = absl::ZeroDuration();  // the last save without
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_EXECUTION_RUN_CHECKPOINT_H_
