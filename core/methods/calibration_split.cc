#include "core/methods/calibration_split.h"

#include <algorithm>
#include <cmath>

namespace attnprune {
namespace {

Index ValidationCount(Index batches, double fraction) {
  if (batches < 2 || fraction <= 0) return 0;
  const auto wanted = static_cast<Index>(std::lround(fraction * static_cast<double>(batches)));
  return std::clamp<Index>(wanted, 1, batches - 1);
}

}  // namespace

std::vector<bool> BatchesSetApart(Index batches, double fraction) {
  std::vector<bool> apart(static_cast<size_t>(batches), false);
  const Index chosen = ValidationCount(batches, fraction);
  for (Index i = 0; i < chosen; ++i) {
    apart[static_cast<size_t>((2 * i + 1) * batches / (2 * chosen))] = true;
  }
  return apart;
}

Index DefaultBatchesPerStep(Index calibration_batches) {
  return std::min<Index>((calibration_batches + 3) / 4, 4);
}

SplitIndices SplitBatches(Index batches, double fraction, Index per_part) {
  const std::vector<bool> decides = BatchesSetApart(batches, fraction);
  SplitIndices split;
  std::vector<Index> fit;
  for (Index j = 0; j < batches; ++j) {
    (decides[static_cast<size_t>(j)] ? split.validation : fit).push_back(j);
  }
  const Index parts = (static_cast<Index>(fit.size()) + per_part - 1) / per_part;
  split.fit.resize(static_cast<size_t>(parts));
  for (size_t i = 0; i < fit.size(); ++i) split.fit[i % split.fit.size()].push_back(fit[i]);
  return split;
}

}  // namespace attnprune
