#include "core/kernels/select.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

namespace attnprune {
namespace {

// Scores are told apart by the leading bits of a key that orders them as the numbers do.
constexpr int kBinBits = 12;
using Histogram = std::array<Index, size_t{1} << kBinBits>;
constexpr Index kRun = 1 << 16;  // scores that one shard looks at

uint32_t OrderedKey(float score) {
  const auto bits = std::bit_cast<uint32_t>(score + 0.0f);  // -0 + 0 is 0
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
}
size_t BinOf(float score) { return OrderedKey(score) >> (32 - kBinBits); }

// Calls work(shard, scores of that shard) on the pool's threads.
template <typename Work>
void ForRuns(absl::Span<const float> scores, ThreadPool& pool, Work work) {
  const auto size = static_cast<Index>(scores.size());
  pool.ParallelFor((size + kRun - 1) / kRun, [&](Index i) {
    work(static_cast<size_t>(i), scores.subspan(static_cast<size_t>(i * kRun), kRun));
  });
}

size_t RunsOf(absl::Span<const float> scores) { return (scores.size() + kRun - 1) / kRun; }

Histogram Count(absl::Span<const float> scores, ThreadPool& pool) {
  std::vector<Histogram> parts(RunsOf(scores));
  ForRuns(scores, pool, [&parts](size_t run, absl::Span<const float> some) {
    Histogram& part = parts[run];
    part.fill(0);
    for (const float score : some) ++part[BinOf(score)];
  });
  Histogram total{};
  for (const Histogram& part : parts) {
    for (size_t bin = 0; bin < total.size(); ++bin) total[bin] += part[bin];
  }
  return total;
}

// The scores of one bin, in any order.
std::vector<float> Collect(absl::Span<const float> scores, size_t bin, ThreadPool& pool) {
  std::vector<std::vector<float>> parts(RunsOf(scores));
  ForRuns(scores, pool, [&parts, bin](size_t run, absl::Span<const float> some) {
    for (const float score : some) {
      if (BinOf(score) == bin) parts[run].push_back(score);
    }
  });
  std::vector<float> all;
  for (const std::vector<float>& part : parts) all.insert(all.end(), part.begin(), part.end());
  return all;
}

}  // namespace

Cut FindCut(absl::Span<const float> scores, Index count, ThreadPool& pool) {
  const Histogram histogram = Count(scores, pool);
  size_t bin = 0;
  for (; histogram[bin] < count; ++bin) count -= histogram[bin];
  std::vector<float> candidates = Collect(scores, bin, pool);
  const auto last = candidates.begin() + (count - 1);
  std::nth_element(candidates.begin(), last, candidates.end());
  const float threshold = *last;
  return {.threshold = threshold,
          .equal_pruned = 1 + std::count(candidates.begin(), last, threshold),
          .equal = std::count(candidates.begin(), candidates.end(), threshold)};
}

void PruneSmallestInto(const Matrix& scores, Index count, ThreadPool& pool, Matrix& mask) {
  if (count == 0) {
    std::ranges::fill(mask.flat(), 1.0f);
    return;
  }
  const Cut cut = FindCut(scores.flat(), count, pool);
  ForRuns(scores.flat(), pool, [&](size_t run, absl::Span<const float> some) {
    float* out = mask.data() + run * static_cast<size_t>(kRun);
    for (size_t i = 0; i < some.size(); ++i) out[i] = some[i] <= cut.threshold ? 0.0f : 1.0f;
  });
  Index kept = cut.equal - cut.equal_pruned;  // the last of those that equal the threshold
  for (Index i = scores.size(); kept > 0;) {
    if (scores.data()[--i] != cut.threshold) continue;
    mask.data()[i] = 1.0f;
    --kept;
  }
}

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
