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

// Where the `count` smallest of some scores end; sorts them in part.
Cut CutOf(std::vector<float>& scores, Index count) {
  const auto last = scores.begin() + (count - 1);
  std::nth_element(scores.begin(), last, scores.end());
  const float threshold = *last;
  return {.threshold = threshold,
          .equal_pruned = 1 + std::count(scores.begin(), last, threshold),
          .equal = std::count(scores.begin(), scores.end(), threshold)};
}

// Calls visit(index) for the last of those that equal the threshold, which stay.
template <typename Visit>
void ForEachKeptTie(absl::Span<const float> scores, const Cut& cut, Visit visit) {
  Index kept = cut.equal - cut.equal_pruned;
  for (size_t i = scores.size(); kept > 0;) {
    if (scores[--i] != cut.threshold) continue;
    visit(static_cast<Index>(i));
    --kept;
  }
}

}  // namespace

Cut FindCut(absl::Span<const float> scores, Index count, ThreadPool& pool) {
  const Histogram histogram = Count(scores, pool);
  size_t bin = 0;
  for (; histogram[bin] < count; ++bin) count -= histogram[bin];
  std::vector<float> candidates = Collect(scores, bin, pool);
  return CutOf(candidates, count);
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
  ForEachKeptTie(scores.flat(), cut, [&mask](Index i) { mask.data()[i] = 1.0f; });
}

Cut SmallestFinder::Find(absl::Span<const float> scores, Index count) {
  sorted_.assign(scores.begin(), scores.end());
  return CutOf(sorted_, count);
}

void SmallestFinder::ForEach(absl::Span<const float> scores, Index count,
                             absl::FunctionRef<void(Index)> visit) {
  if (count == 0) return;
  const Cut cut = Find(scores, count);
  Index ties_left = cut.equal_pruned;
  for (Index i = 0; i < static_cast<Index>(scores.size()); ++i) {
    const float score = scores[static_cast<size_t>(i)];
    if (score < cut.threshold || (score == cut.threshold && ties_left-- > 0)) visit(i);
  }
}

std::vector<Index> SmallestIndices(absl::Span<const float> scores, Index count) {
  std::vector<Index> indices;
  indices.reserve(static_cast<size_t>(count));
  SmallestFinder().ForEach(scores, count, [&](Index i) { indices.push_back(i); });
  return indices;
}

BitMask PruneSmallest(const Matrix& scores, Index count, ThreadPool& pool) {
  BitMask mask(scores.rows(), scores.cols(), /*kept=*/true);
  if (count == 0) return mask;
  const Cut cut = FindCut(scores.flat(), count, pool);
  static_assert(kRun % 8 == 0, "no two runs may share a byte of the mask");
  ForRuns(scores.flat(), pool, [&](size_t run, absl::Span<const float> some) {
    mask.PruneUpTo(some, cut.threshold, static_cast<Index>(run) * kRun);
  });
  ForEachKeptTie(scores.flat(), cut, [&mask](Index i) { mask.Keep(i); });
  return mask;
}

BitMask PruneSmallestPerGroup(Index rows, Index cols, RowScores row_scores, Index count,
                              Index group, ThreadPool& pool) {
  BitMask mask(rows, cols, /*kept=*/true);
  if (count == 0) return mask;
  constexpr Index kRows = 64;  // of a shard; a multiple of 8, so that no two share a byte
  pool.ParallelFor((rows + kRows - 1) / kRows, [&](Index shard) {
    SmallestFinder finder;
    std::vector<float> scores(static_cast<size_t>(cols));
    const Index end = std::min(rows, (shard + 1) * kRows);
    for (Index row = shard * kRows; row < end; ++row) {
      row_scores(row, absl::MakeSpan(scores));
      for (Index begin = 0; begin < cols; begin += group) {
        const auto some = absl::MakeConstSpan(scores).subspan(static_cast<size_t>(begin),
                                                              static_cast<size_t>(group));
        const Cut cut = finder.Find(some, count);
        const Index first = row * cols + begin;
        mask.PruneUpTo(some, cut.threshold, first);
        ForEachKeptTie(some, cut, [&mask, first](Index i) { mask.Keep(first + i); });
      }
    }
  });
  return mask;
}

BitMask PruneSmallestPerGroup(const Matrix& scores, Index count, Index group, ThreadPool& pool) {
  const auto copy_row = [&scores](Index row, absl::Span<float> out) {
    std::copy_n(scores.row(row), out.size(), out.data());
  };
  return PruneSmallestPerGroup(scores.rows(), scores.cols(), copy_row, count, group, pool);
}

}  // namespace attnprune
