#include "core/model/pass_estimate.h"

#include <algorithm>
#include <array>
#include <numeric>

#include "core/model/layer_forward.h"
#include "core/model/model_pass.h"
#include "core/problem/attention_mask.h"

namespace attnprune {
namespace {

constexpr double kReachedRate = 0.85;      // of sgemm's (docs/performance.md, "A whole model")
constexpr double kSoftmaxOperations = 60;  // an entry
constexpr double kFloat = 4, kBf16 = 2;
constexpr double kAnyPass = 64 << 20;  // bytes: the program, BLAS's buffers, the allocator's

double Width(const ModelOptions& model) {
  return static_cast<double>(model.heads) * static_cast<double>(model.head_dim);
}

// Of q, k, v; of o; of gate, up; of down.
std::array<double, 4> GroupEntries(const ModelOptions& model) {
  const auto d = static_cast<double>(model.hidden_size), ffn = static_cast<double>(model.ffn);
  const auto kv = static_cast<double>(model.kv_heads * model.head_dim);
  const double inner = d * ffn;
  return {d * (Width(model) + 2 * kv), Width(model) * d,
          (model.mlp == MlpKind::kPlain ? 1 : 2) * inner, inner};
}

double MapEntries(const ModelOptions& model) {
  const std::array<double, 4> entries = GroupEntries(model);
  return std::accumulate(entries.begin(), entries.end(), 0.0);
}

double AllowedEntries(const AttentionMask& mask, Index tokens) {
  double entries = 0;
  for (Index i = 0; i < tokens; ++i) {
    const AttentionMask::Range keys = mask.Keys(i, tokens);
    entries += static_cast<double>(keys.end - keys.begin);
  }
  return entries;
}

double InnerFloats(const ModelOptions& model, Index tokens) {
  const auto kv = static_cast<double>(model.kv_heads * model.head_dim);
  const auto mlp_rows = static_cast<double>(std::min(tokens, LayerForward::kMlpRows));
  return static_cast<double>(tokens) *
             (3 * static_cast<double>(model.hidden_size) + 2 * Width(model) + 2 * kv) +
         mlp_rows * (model.mlp == MlpKind::kPlain ? 1 : 2) * static_cast<double>(model.ffn);
}

}  // namespace

double PassEstimate::Seconds(double map_rate, double attention_rate) const {
  return (map_operations / map_rate + attention_operations / attention_rate) / kReachedRate;
}

PassEstimate EstimatePass(const ModelOptions& model, Compute compute,
                          absl::Span<const Index> lengths, Index layers, int64_t memory_budget) {
  const Index total = std::accumulate(lengths.begin(), lengths.end(), Index{0});
  const Index longest = lengths.empty() ? 0 : *std::max_element(lengths.begin(), lengths.end());
  const auto tokens = static_cast<double>(total);
  PassEstimate estimate;
  for (Index layer = 0; layer < layers; ++layer) {
    const AttentionMask mask = model.Mask(layer);
    double entries = 0;
    for (size_t i = 0; i < lengths.size(); ++i) {
      const bool again = i > 0 && lengths[i] == lengths[i - 1];
      // Equal lengths, as those of a corpus are, are counted once.
      if (!again) entries = AllowedEntries(mask, lengths[i]);
      estimate.attention_operations +=
          entries * (4 * Width(model) + kSoftmaxOperations * static_cast<double>(model.heads));
    }
    estimate.map_operations += 2 * tokens * MapEntries(model);
  }
  const Index chunk = std::min(total, std::max(longest, LayerForward::kChunkTokens));
  const bool spilled = HiddenStatesBytes(model, total) > memory_budget && memory_budget > 0;
  const double weight = compute == Compute::kBf16 ? kFloat + kBf16 : kFloat;
  estimate.bytes = weight * MapEntries(model) + kFloat * InnerFloats(model, chunk) +
                   (spilled ? 0 : static_cast<double>(HiddenStatesBytes(model, total))) + kAnyPass;
  return estimate;
}

// Groups before `from` are behind it, those from `until` on are not reached.
double OperationsBetween(const ModelOptions& model, absl::Span<const Index> lengths,
                         LayerPoint from, LayerHooks::Until until) {
  const std::array<double, 4> entries = GroupEntries(model);
  const auto first = static_cast<size_t>(from), end = static_cast<size_t>(until);
  double operations = 0;
  for (size_t group = first; group < end; ++group) {
    operations += 2 * std::accumulate(lengths.begin(), lengths.end(), 0.0) * entries[group];
  }
  if (first > 0 || end == 0) return operations;
  return operations + EstimatePass(model, Compute::kFloat32, lengths, 1, 0).attention_operations;
}

}  // namespace attnprune
