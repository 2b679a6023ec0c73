#include "server/execution/run_results.h"

#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace attnprune {

std::vector<std::string> StatesOf(const v1::RunResult& result) {
  std::vector<std::string> digests;
  digests.reserve(static_cast<size_t>(result.states_size()) +
                  static_cast<size_t>(result.curvature_size()));
  for (const v1::HiddenStates& states : result.states()) {
    digests.push_back(states.tensor().sha256());
  }
  digests.insert(digests.end(), result.curvature().begin(), result.curvature().end());
  return digests;
}

namespace {

// What a run goes on from: the newest end of a block, or before the first of these its curvature,
// which lies behind all blocks. results: by block. Null: there is none.
const v1::RunResult* NewestState(absl::Span<const v1::RunResult> results) {
  const v1::RunResult* newest = nullptr;
  for (const v1::RunResult& result : results) {
    const bool before_blocks = newest == nullptr && result.has_measured_curvature();
    if (result.states_size() > 0 || before_blocks) newest = &result;
  }
  return newest;
}

}  // namespace

int64_t StoredBytes(absl::Span<const v1::RunResult> results, const BlobStore& tensors) {
  std::set<std::string> digests;
  for (const v1::RunResult& result : results) {
    for (const v1::PrunedTensor& tensor : result.tensors()) {
      digests.insert({tensor.weights().sha256(), tensor.mask().sha256()});
    }
    if (result.has_sampled_rows()) digests.insert(result.sampled_rows().sha256());
    for (const v1::Trained* const trained : {&result.reconstructed(), &result.distilled()}) {
      for (const v1::TensorRef& weights : trained->weights()) digests.insert(weights.sha256());
    }
  }
  if (const v1::RunResult* const newest = NewestState(results); newest != nullptr) {
    const std::vector<std::string> states = StatesOf(*newest);
    digests.insert(states.begin(), states.end());
  }
  int64_t bytes = 0;
  for (const std::string& digest : digests) bytes += tensors.SizeOf(digest).value_or(0);
  return bytes;
}

absl::Status RunResults::Read(absl::Span<const std::string> results) {
  old_.clear();
  tensors_.clear();
  blocks_.clear();
  block_sparsities_.clear();
  tensor_sparsities_.clear();
  curvature_.clear();
  kept_states_.clear();
  old_.reserve(results.size());
  for (const std::string& bytes : results) {
    if (!old_.emplace_back().ParseFromString(bytes)) {
      return absl::DataLossError("a stored result is not a message of the API");
    }
  }
  // As GetRun shows them: those of parts come as workers get done.
  std::stable_sort(old_.begin(), old_.end(),
                   [](const auto& a, const auto& b) { return a.block() < b.block(); });
  for (int i = 0; i < old_count(); ++i) Enter(i);
  if (const v1::RunResult* const newest = NewestState(old_); newest != nullptr) {
    kept_states_ = StatesOf(*newest);
    curvature_.assign(newest->curvature().begin(), newest->curvature().end());
  }
  return absl::OkStatus();
}

void RunResults::Enter(int number) {
  const v1::RunResult& result = old_[static_cast<size_t>(number)];
  for (int place = 0; place < result.tensors_size(); ++place) {
    const v1::PrunedTensor& tensor = result.tensors(place);
    tensors_[tensor.name()] = {
        &tensor, absl::StrCat("run.results[", number, "].tensors[", place, "].weights"),
        tensor.weights().sha256()};
  }
  EnterTrained(number, "reconstructed", result.reconstructed());
  EnterTrained(number, "distilled", result.distilled());
  TakeUp(result.tensor_sparsities());
  const auto& sparsities = result.block_sparsities();
  if (!sparsities.empty()) {
    block_sparsities_.assign(sparsities.begin(), sparsities.end());
  } else if (result.tensors_size() == 0 && !result.has_model_score() &&
             !result.has_measured_curvature() && !result.has_sampled_rows() &&
             !result.has_reconstructed() && !result.has_distilled()) {
    blocks_[result.block()] = number;
  }
}

void RunResults::EnterTrained(int number, const std::string& field, const v1::Trained& trained) {
  for (int place = 0; place < trained.weights_size(); ++place) {
    const v1::TensorRef& weights = trained.weights(place);
    OldTensor& tensor = tensors_[weights.name()];
    tensor.field = absl::StrCat("run.results[", number, "].", field, ".weights[", place, "]");
    tensor.weights = weights.sha256();
  }
}

void RunResults::TakeUp(const google::protobuf::Map<std::string, double>& tensor_sparsities) {
  if (tensor_sparsities.empty()) return;
  tensor_sparsities_ = {tensor_sparsities.begin(), tensor_sparsities.end()};
}

RunResults::OldTensor RunResults::FindTensor(const std::string& name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? OldTensor() : found->second;
}

const v1::RunResult* RunResults::FindBlock(Index block) const {
  const auto found = blocks_.find(static_cast<int>(block));
  return found == blocks_.end() ? nullptr : &old_[static_cast<size_t>(found->second)];
}

const v1::Trained* RunResults::distilled() const {
  for (const v1::RunResult& result : old_) {
    if (result.has_distilled()) return &result.distilled();
  }
  return nullptr;
}

const v1::Trained* RunResults::ReconstructedOf(Index block) const {
  for (const v1::RunResult& result : old_) {
    if (result.has_reconstructed() && result.block() == block) return &result.reconstructed();
  }
  return nullptr;
}

const v1::TensorRef* RunResults::sampled_rows() const {
  for (const v1::RunResult& result : old_) {
    if (result.has_sampled_rows()) return &result.sampled_rows();
  }
  return nullptr;
}

std::string RunResults::CurvatureOf(Index block, Index blocks) const {
  const Index place = block - (blocks - std::ssize(curvature_));
  return place < 0 ? "" : curvature_[static_cast<size_t>(place)];
}

absl::Status RunResults::Store(v1::RunResult& result, absl::Span<const std::string> digests,
                               const absl::optional<std::vector<std::string>>& state) {
  const auto now = std::chrono::steady_clock::now();
  result.set_seconds(std::chrono::duration<double>(now - since_).count());
  since_ = now;
  ATTNPRUNE_RETURN_IF_ERROR(job_.StoreResult(next_, result.SerializeAsString(), digests, state));
  ++next_;
  if (!state.has_value()) return absl::OkStatus();
  curvature_.assign(result.curvature().begin(), result.curvature().end());
  TakeUp(result.tensor_sparsities());
  for (const std::string& digest : std::exchange(kept_states_, *state)) {
    const bool still_used = std::find(state->begin(), state->end(), digest) != state->end();
    if (!still_used) job_.tensors()->Remove(digest).IgnoreError();
  }
  return absl::OkStatus();
}

}  // namespace attnprune
