#include "server/execution/run_plan.h"

#include <algorithm>
#include <numeric>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"

namespace attnprune {

std::vector<std::string> RolesOf(absl::Span<const LinearMap> maps) {
  std::vector<std::string> roles;
  for (const LinearMap map : maps) roles.emplace_back(ToString(map));
  return roles;
}

absl::Status CheckBlockSparsities(absl::Span<const double> block_sparsities) {
  for (size_t i = 0; i < block_sparsities.size(); ++i) {
    if (block_sparsities[i] >= 0 && block_sparsities[i] < 1) continue;
    return MustError("run.allocation", "give every block a sparsity in [0, 1)",
                     absl::StrCat(block_sparsities[i], " for block ", i));
  }
  return absl::OkStatus();
}

SharedSparsities RunPlan::Sparsities(Index block) const {
  SharedSparsities shared{.of_block = absl::nullopt, .by_tensor = tensor_sparsities};
  if (!block_sparsities.empty()) shared.of_block = block_sparsities[static_cast<size_t>(block)];
  return shared;
}

double BlockCost::OfPieces(int count) const {
  const auto end = prune.begin() + std::min<std::ptrdiff_t>(count, std::ssize(prune));
  const double collected = count > 0 ? std::accumulate(collect.begin(), collect.end(), 0.0) : 0;
  return collected + std::accumulate(prune.begin(), end, 0.0);
}

double BlockCost::OfPart() const {
  return advance + reconstruct + OfPieces(static_cast<int>(prune.size()));
}

PassOptions PassOptionsOf(const RunPlan& plan, const JobRunnerOptions& options) {
  PassOptions pass;
  pass.memory_budget = plan.places.spilled ? 1 : 0;
  pass.spill_folder = options.spill_folder;
  return pass;
}

LayerPlaces LayerPlacesOf(const RunPlan& plan, const JobRunnerOptions& options) {
  const auto folder_if = [&](bool in_file) {
    return in_file ? options.spill_folder : std::string();
  };
  return {.attention = plan.places.attention,
          .tokens_folder = folder_if(plan.places.attention == DenseAttention::kRecompute),
          .keeps_values = plan.places.keeps_values,
          .values_folder = folder_if(plan.places.spilled)};
}

}  // namespace attnprune
