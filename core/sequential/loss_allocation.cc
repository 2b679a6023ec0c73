#include "core/sequential/loss_allocation.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

namespace attnprune {
namespace {

constexpr Index kHistogramRows = 64;
// Sign, exponent and five bits of the mantissa of a float that is not negative: in its order.
constexpr int kDroppedBits = 18;
constexpr int kBisections = 60;
constexpr double kBelowOne = 1 - 1e-9;

size_t BinOf(float score) { return std::bit_cast<uint32_t>(score) >> kDroppedBits; }

}  // namespace

absl::optional<ScoreHistogram> ScoreHistogram::Of(absl::Span<const int64_t> counts) {
  constexpr int64_t kMost = int64_t{1} << 48;  // whose sum does not overflow
  const bool valid =
      counts.size() == kBins &&
      std::all_of(counts.begin(), counts.end(), [](int64_t n) { return n >= 0 && n <= kMost; });
  if (!valid) return absl::nullopt;
  ScoreHistogram histogram;
  histogram.counts_.assign(counts.begin(), counts.end());
  histogram.size_ = std::accumulate(counts.begin(), counts.end(), int64_t{0});
  return histogram;
}

void ScoreHistogram::Add(MatrixView w, absl::Span<const double> inputs,
                         absl::Span<const double> outputs, ThreadPool& pool) {
  const Index shards = (w.rows() + kHistogramRows - 1) / kHistogramRows;
  std::vector<std::vector<int64_t>> by_worker(static_cast<size_t>(pool.threads()));
  pool.ParallelFor(shards, [&](Index shard, int worker) {
    std::vector<int64_t>& counts = by_worker[static_cast<size_t>(worker)];
    counts.resize(kBins);
    const Index end = std::min(w.rows(), (shard + 1) * kHistogramRows);
    for (Index a = shard * kHistogramRows; a < end; ++a) {
      const float* const row = w.row(a);
      for (size_t b = 0; b < inputs.size(); ++b) {
        const double weight = row[b];
        const double score = weight * weight * inputs[b] * outputs[static_cast<size_t>(a)];
        ++counts[std::min(BinOf(static_cast<float>(score)), kBins - 1)];
      }
    }
  });
  for (const std::vector<int64_t>& counts : by_worker) {
    for (size_t bin = 0; bin < counts.size(); ++bin) counts_[bin] += counts[bin];
  }
  size_ += w.size();
}

void ScoreHistogram::Add(const ScoreHistogram& other) {
  for (size_t bin = 0; bin < kBins; ++bin) counts_[bin] += other.counts_[bin];
  size_ += other.size_;
}

double ScoreHistogram::Below(double threshold) const {
  const double whole = std::floor(threshold);
  const auto bin = static_cast<size_t>(whole);
  const auto end = counts_.begin() + static_cast<std::ptrdiff_t>(std::min(bin, kBins));
  const auto below = static_cast<double>(std::accumulate(counts_.begin(), end, int64_t{0}));
  return bin < kBins ? below + (threshold - whole) * static_cast<double>(counts_[bin]) : below;
}

std::vector<double> SparsitiesByLoss(absl::Span<const ScoreHistogram> maps, double rho,
                                     double range) {
  const double least = std::max(0.0, rho - range), most = std::min(kBelowOne, rho + range);
  std::vector<double> sparsities(maps.size());
  double all = 0;
  for (const ScoreHistogram& map : maps) all += static_cast<double>(map.size());
  // Returns how many weights go.
  const auto share_out = [&](double threshold) {
    double gone = 0;
    for (size_t i = 0; i < maps.size(); ++i) {
      const auto size = static_cast<double>(maps[i].size());
      sparsities[i] = std::clamp(maps[i].Below(threshold) / size, least, most);
      gone += sparsities[i] * size;
    }
    return gone;
  };
  double low = 0, high = ScoreHistogram::bins();
  for (int i = 0; i < kBisections; ++i) {
    const double middle = (low + high) / 2;
    (share_out(middle) < rho * all ? low : high) = middle;
  }
  share_out(high);
  return sparsities;
}

}  // namespace attnprune
