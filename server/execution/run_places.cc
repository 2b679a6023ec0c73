#include "server/execution/run_places.h"

#include <algorithm>
#include <iterator>

#include "absl/types/span.h"

namespace attnprune {
namespace {

struct Way {
  bool spilled;
  size_t attention;  // of kAttentionWays
};

double PeakOf(const RunSizes& s, Way way) {
  const auto states = [&way](double bytes) { return way.spilled ? 0 : bytes; };
  const double method = std::max(s.method, s.attention_method[way.attention]);
  return std::max(
      {s.sampling, s.measuring + states(s.measuring_states),
       s.layer + method + states(s.hidden_states + s.kept_states),
       s.reconstructing + states(s.hidden_states + s.kept_states + s.reconstructing_states),
       s.distilling + states(s.hidden_states + s.distilling_states)});
}

double FilesOf(const RunSizes& s) {
  return std::max({s.measuring_states, s.hidden_states + s.kept_states + s.reconstructing_states,
                   s.hidden_states + s.distilling_states});
}

}  // namespace

void ChoosePlaces(const RunSizes& sizes, int64_t memory_budget, RunPlan& plan) {
  constexpr Way kWays[] = {{false, 0}, {true, 0}, {true, 1}, {true, 2}};
  const auto count = sizes.by_attention ? std::size(kWays) : size_t{2};
  const auto ways = absl::MakeConstSpan(kWays).first(count);
  const auto fits = [&](Way way) {
    return memory_budget <= 0 || PeakOf(sizes, way) <= static_cast<double>(memory_budget);
  };
  const auto found = std::find_if(ways.begin(), ways.end(), fits);
  const Way way = found == ways.end() ? ways.back() : *found;
  plan.places.spilled = way.spilled;
  plan.places.attention = kAttentionWays[way.attention];
  plan.memory_bytes = PeakOf(sizes, way);
  if (way.spilled) plan.disk_bytes += FilesOf(sizes);
  if (plan.places.attention == DenseAttention::kRecompute) plan.disk_bytes += sizes.tokens;
}

}  // namespace attnprune
