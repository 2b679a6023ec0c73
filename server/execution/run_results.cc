#include "server/execution/run_results.h"

#include <algorithm>
#include <utility>

#include "core/base/status_macros.h"

namespace attnprune {

std::vector<std::string> StatesOf(const v1::RunResult& result) {
  std::vector<std::string> digests;
  digests.reserve(static_cast<size_t>(result.states_size()));
  for (const v1::HiddenStates& states : result.states()) {
    digests.push_back(states.tensor().sha256());
  }
  return digests;
}

absl::Status RunResults::Read(absl::Span<const std::string> results) {
  old_.clear();
  tensors_.clear();
  blocks_.clear();
  old_.reserve(results.size());
  for (const std::string& bytes : results) {
    if (!old_.emplace_back().ParseFromString(bytes)) {
      return absl::DataLossError("a stored result is not a message of the API");
    }
    Enter(old_count() - 1);
  }
  return absl::OkStatus();
}

void RunResults::Enter(int number) {
  const v1::RunResult& result = old_[static_cast<size_t>(number)];
  for (const v1::PrunedTensor& tensor : result.tensors())
    tensors_[tensor.name()] = {number, &tensor};
  if (result.tensors_size() == 0 && !result.has_model_score()) blocks_[result.block()] = number;
  if (result.states_size() > 0) kept_states_ = StatesOf(result);
}

RunResults::OldTensor RunResults::FindTensor(const std::string& name) const {
  const auto found = tensors_.find(name);
  return found == tensors_.end() ? OldTensor() : found->second;
}

const v1::RunResult* RunResults::FindBlock(Index block) const {
  const auto found = blocks_.find(static_cast<int>(block));
  return found == blocks_.end() ? nullptr : &old_[static_cast<size_t>(found->second)];
}

absl::Status RunResults::Store(v1::RunResult& result, absl::Span<const std::string> digests,
                               const absl::optional<std::vector<std::string>>& state) {
  const auto now = std::chrono::steady_clock::now();
  result.set_seconds(std::chrono::duration<double>(now - since_).count());
  since_ = now;
  ATTNPRUNE_RETURN_IF_ERROR(job_.StoreResult(next_, result.SerializeAsString(), digests, state));
  ++next_;
  if (!state.has_value()) return absl::OkStatus();
  for (const std::string& digest : std::exchange(kept_states_, *state)) {
    const bool still_used = std::find(state->begin(), state->end(), digest) != state->end();
    if (!still_used) job_.tensors()->Remove(digest).IgnoreError();
  }
  return absl::OkStatus();
}

}  // namespace attnprune
