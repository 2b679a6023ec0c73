#include "core/model/model_pass.h"

#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/sum.h"

namespace attnprune {

int64_t HiddenStatesBytes(const ModelOptions& model, Index tokens) {
  return tokens * model.hidden_size * static_cast<int64_t>(sizeof(float));
}

absl::StatusOr<ScratchMatrix> MakeHiddenStates(const ModelOptions& model, Index tokens,
                                               const PassOptions& options) {
  const bool spill =
      options.memory_budget > 0 && HiddenStatesBytes(model, tokens) > options.memory_budget;
  return ScratchMatrix::Create(tokens, model.hidden_size, spill ? options.spill_folder : "");
}

LayerHooks PassHooks(const PassOptions& options, Index layer, Index layers, Index total) {
  LayerHooks hooks;
  hooks.goes_on = [&options, layer, layers, total](Index rows) {
    const double of_layer = static_cast<double>(rows) / static_cast<double>(total);
    const double done = static_cast<double>(layer) + of_layer;
    if (options.progress) options.progress({layer, layers, done / static_cast<double>(layers)});
    return !options.stopped || !options.stopped();
  };
  return hooks;
}

absl::StatusOr<std::vector<double>> TokenLosses(Forward& forward, const Tokens& tokens,
                                                const PassOptions& options) {
  const ModelOptions& model = forward.options();
  ATTNPRUNE_RETURN_IF_ERROR(forward.CheckPredicts());
  ATTNPRUNE_RETURN_IF_ERROR(forward.Check(tokens));
  ATTNPRUNE_ASSIGN_OR_RETURN(ScratchMatrix hidden,
                             MakeHiddenStates(model, tokens.total(), options));
  const MutableMatrixView x = hidden.view();
  ATTNPRUNE_RETURN_IF_ERROR(forward.Embed(tokens, x));
  const Index layers = model.layer_count();
  for (Index layer = 0; layer < layers; ++layer) {
    const LayerHooks hooks = PassHooks(options, layer, layers + 1, tokens.total());
    ATTNPRUNE_RETURN_IF_ERROR(forward.RunLayer(layer, tokens.lengths, x, hooks));
  }
  return forward.TokenLosses(tokens, x, [&](double share) {
    const double done = (static_cast<double>(layers) + share) / static_cast<double>(layers + 1);
    if (options.progress) options.progress({layers, layers, done});
    return !options.stopped || !options.stopped();
  });
}

LossSummary Summarize(absl::Span<const double> losses) {
  LossSummary summary;
  summary.tokens = static_cast<Index>(losses.size());
  if (summary.tokens == 0) return summary;
  summary.nats_per_token = Sum(losses) / static_cast<double>(summary.tokens);
  summary.perplexity = std::exp(summary.nats_per_token);
  return summary;
}

LossDifference Compare(absl::Span<const double> first, absl::Span<const double> other,
                       absl::Span<const Index> lengths) {
  LossDifference out;
  const auto tokens = static_cast<double>(first.size());
  if (first.empty()) return out;
  for (size_t i = 0; i < first.size(); ++i) out.mean += (other[i] - first[i]) / tokens;
  double by_token = 0, by_row = 0;
  size_t token = 0;
  for (const Index length : lengths) {
    double row = 0;
    for (Index t = 0; t + 1 < length; ++t, ++token) {
      const double residual = other[token] - first[token] - out.mean;
      by_token += residual * residual;
      row += residual;
    }
    by_row += row * row;
  }
  const auto rows = static_cast<double>(lengths.size());
  if (tokens > 1) out.standard_error_by_token = std::sqrt(by_token / (tokens - 1) / tokens);
  if (rows > 1) out.standard_error_by_row = std::sqrt(by_row * rows / (rows - 1)) / tokens;
  return out;
}

}  // namespace attnprune
