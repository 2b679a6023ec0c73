#include "core/kernels/select.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

namespace attnprune {
namespace {

constexpr Index kRun = 1 << 16;  // scores that one shard looks at

// Keys order scores as the numbers do; -0 + 0 is 0.
uint32_t KeyOf(float score) {
  const auto bits = std::bit_cast<uint32_t>(score + 0.0f);
  return (bits >> 31) != 0 ? ~bits : bits | 0x80000000u;
}
float ScoreOf(uint32_t key) {
  return std::bit_cast<float>((key >> 31) != 0 ? key & 0x7fffffffu : ~key);
}

// Calls work(shard, scores of that shard) on the pool's threads.
template <typename Work>
void ForRuns(absl::Span<const float> scores, ThreadPool& pool, Work work) {
  const auto size = static_cast<Index>(scores.size());
  pool.ParallelFor((size + kRun - 1) / kRun, [&](Index i) {
    work(static_cast<size_t>(i), scores.subspan(static_cast<size_t>(i * kRun), kRun));
  });
}

size_t RunsOf(absl::Span<const float> scores) { return (scores.size() + kRun - 1) / kRun; }

// The leading bits of a key.
struct Prefix {
  uint32_t value = 0;
  int bits = 0;

  uint32_t Of(uint32_t key) const { return key >> (32 - bits); }  // of 1 to 32 bits
};

constexpr Index kFew = 16;                // of so many scores one is sooner sorted than counted
constexpr int kPassBits[] = {12, 12, 8};  // of a key that one pass tells apart; 32 together
using Histogram = std::array<uint32_t, size_t{1} << 12>;

// How many of the scores whose keys begin with `prefix` have which next `bits`.
std::vector<Index> CountNext(absl::Span<const float> scores, Prefix prefix, int bits,
                             ThreadPool& pool) {
  const Prefix longer = {.bits = prefix.bits + bits};
  const uint32_t last_bits = (uint32_t{1} << bits) - 1;
  std::vector<Histogram> runs(RunsOf(scores));
  ForRuns(scores, pool, [&](size_t run, absl::Span<const float> some) {
    Histogram& counts = runs[run];
    counts.fill(0);
    if (prefix.bits == 0) {
      for (const float score : some) ++counts[longer.Of(KeyOf(score))];
      return;
    }
    for (const float score : some) {
      const uint32_t key = KeyOf(score);
      if (prefix.Of(key) == prefix.value) ++counts[longer.Of(key) & last_bits];
    }
  });
  std::vector<Index> total(size_t{1} << bits);
  for (const Histogram& counts : runs) {
    for (size_t bin = 0; bin < total.size(); ++bin) total[bin] += counts[bin];
  }
  return total;
}

// The scores whose keys begin with `prefix`, in any order.
std::vector<float> Collect(absl::Span<const float> scores, Prefix prefix, ThreadPool& pool) {
  std::vector<std::vector<float>> runs(RunsOf(scores));
  ForRuns(scores, pool, [&](size_t run, absl::Span<const float> some) {
    for (const float score : some) {
      if (prefix.Of(KeyOf(score)) == prefix.value) runs[run].push_back(score);
    }
  });
  std::vector<float> all;
  for (const std::vector<float>& run : runs) all.insert(all.end(), run.begin(), run.end());
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
  Prefix threshold;
  Index equal = 0;
  for (const int bits : kPassBits) {
    const std::vector<Index> counts = CountNext(scores, threshold, bits, pool);
    uint32_t bin = 0;
    for (; counts[bin] < count; ++bin) count -= counts[bin];
    threshold = {.value = threshold.value << bits | bin, .bits = threshold.bits + bits};
    equal = counts[bin];
    if (equal <= static_cast<Index>(scores.size()) / kFew) {
      std::vector<float> candidates = Collect(scores, threshold, pool);
      return CutOf(candidates, count);
    }
  }
  return {.threshold = ScoreOf(threshold.value), .equal_pruned = count, .equal = equal};
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
