// The results of a run: what earlier attempts left, and what this one adds.
#ifndef ATTNPRUNE_SERVER_EXECUTION_RUN_RESULTS_H_
#define ATTNPRUNE_SERVER_EXECUTION_RUN_RESULTS_H_

#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "attnprune/v1/run.pb.h"
#include "core/tensor/matrix.h"
#include "server/blobs/blob_store.h"
#include "server/execution/claimed_job.h"

namespace attnprune {

// Digests of what a run goes on from after the result: hidden states, curvature.
std::vector<std::string> StatesOf(const v1::RunResult& result);

// What the disk holds already of a run with these results: pruned tensors, masks and the hidden
// states to go on from, each content once. What is lost counts as 0: it is found missing later.
int64_t StoredBytes(absl::Span<const v1::RunResult> results, const BlobStore& tensors);

// One thread.
class RunResults {
 public:
  // job must outlive it. stored: how many there are under the job's claim, on a job or a part.
  RunResults(ClaimedJob& job, int stored) : job_(job), next_(stored) {}

  // Takes up those of a job's record, by block, in place of what was taken up before. DATA_LOSS:
  // one is damaged.
  absl::Status Read(absl::Span<const std::string> results);
  absl::Span<const v1::RunResult> old() const { return old_; }
  int old_count() const { return static_cast<int>(old_.size()); }

  // Of an earlier attempt; nullptr, or no tensor, where there is none.
  struct OldTensor {
    const v1::PrunedTensor* tensor = nullptr;
    std::string field;    // "run.results[3].tensors[0].weights"
    std::string weights;  // their digest: those of the last training, where there is any
  };
  OldTensor FindTensor(const std::string& name) const;
  const v1::RunResult* FindBlock(Index block) const;      // that ended the block
  const v1::Trained* distilled() const;                   // null: no result has it
  const v1::Trained* ReconstructedOf(Index block) const;  // likewise
  // Tokens of rows that the model has written; null: no result has them.
  const v1::TensorRef* sampled_rows() const;
  // Every block's; empty: no result has them.
  const std::vector<double>& block_sparsities() const { return block_sparsities_; }
  // By a tensor's name, of a by_loss allocation; empty: no result has them.
  const std::map<std::string, double>& tensor_sparsities() const { return tensor_sparsities_; }
  // Digests of the curvature of the last blocks: as many as there are.
  const std::vector<std::string>& curvature() const { return curvature_; }
  // Of one block of so many; empty: there is none.
  std::string CurvatureOf(Index block, Index blocks) const;

  // Stores one more, with the digests of its tensors. Its seconds are those since the result
  // before, or since this was made. state: as JobStore::FinishMethod; the states before are removed
  // once the result is stored, since nothing goes on from them any more.
  absl::Status Store(v1::RunResult& result, absl::Span<const std::string> digests,
                     const absl::optional<std::vector<std::string>>& state);

 private:
  void Enter(int number);
  // field: within the result.
  void EnterTrained(int number, const std::string& field, const v1::Trained& trained);
  void TakeUp(const google::protobuf::Map<std::string, double>& tensor_sparsities);

  ClaimedJob& job_;
  std::vector<v1::RunResult> old_;
  std::map<std::string, OldTensor> tensors_;
  std::map<int, int> blocks_;  // by block: the number of the result that ended it
  std::vector<double> block_sparsities_;
  std::map<std::string, double> tensor_sparsities_;
  std::vector<std::string> curvature_;
  int next_;
  std::vector<std::string> kept_states_;  // of the newest result with states
  std::chrono::steady_clock::time_point since_ = std::chrono::steady_clock::now();
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_EXECUTION_RUN_RESULTS_H_
