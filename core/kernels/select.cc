#include "core/kernels/select.h"

#include <algorithm>

namespace attnprune {

void SmallestFinder::ForEach(absl::Span<const float> scores, Index count,
                             absl::FunctionRef<void(Index)> visit) {
  if (count == 0) return;
  sorted_.assign(scores.begin(), scores.end());
  const auto last = sorted_.begin() + (count - 1);
  std::nth_element(sorted_.begin(), last, sorted_.end());
  const float threshold = *last;
  // Everything below the threshold goes, and of what equals it the first few, `count` in all.
  Index ties_left = 1 + std::count(sorted_.begin(), last, threshold);
  for (Index i = 0; i < static_cast<Index>(scores.size()); ++i) {
    const float score = scores[static_cast<size_t>(i)];
    if (score < threshold || (score == threshold && ties_left-- > 0)) visit(i);
  }
}

std::vector<Index> SmallestIndices(absl::Span<const float> scores, Index count) {
  std::vector<Index> indices;
  indices.reserve(static_cast<size_t>(count));
  SmallestFinder().ForEach(scores, count, [&](Index i) { indices.push_back(i); });
  return indices;
}

BitMask PruneSmallest(const Matrix& scores, Index count) {
  return PruneSmallestPerGroup(scores, count, scores.size());
}

BitMask PruneSmallestPerRow(const Matrix& scores, Index count) {
  return PruneSmallestPerGroup(scores, count, scores.cols());
}

// Rows and the whole matrix are runs of consecutive entries too.
BitMask PruneSmallestPerGroup(const Matrix& scores, Index count, Index group) {
  BitMask mask(scores.rows(), scores.cols(), /*kept=*/true);
  SmallestFinder finder;
  for (Index begin = 0; begin < scores.size(); begin += group) {
    const auto run = scores.flat().subspan(static_cast<size_t>(begin), static_cast<size_t>(group));
    finder.ForEach(run, count, [&](Index i) { mask.Prune(begin + i); });
  }
  return mask;
}

}  // namespace attnprune
