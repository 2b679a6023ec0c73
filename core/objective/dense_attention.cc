#include "core/objective/dense_attention.h"

#include <new>
#include <numeric>

namespace attnprune {
namespace {

AttentionLayout MakeLayout(const AttentionMask& mask, Index tokens) {
  std::vector<KeyRange> ranges;
  ranges.reserve(static_cast<size_t>(tokens));
  for (Index i = 0; i < tokens; ++i) {
    const AttentionMask::Range range = mask.Keys(i, tokens);
    ranges.push_back({range.begin, range.end});
  }
  return AttentionLayout(std::move(ranges));
}

}  // namespace

DenseAttentionStore::DenseAttentionStore(const AttentionMask& mask, const Batches& batches,
                                         Index heads)
    : heads_(heads), norms_(static_cast<size_t>(batches.count() * heads)) {
  Index total = 0;
  for (Index j = 0; j < batches.count(); ++j) {
    const Index tokens = batches.length(j);
    auto [entry, is_new] = by_length_.try_emplace(tokens);
    if (is_new) entry->second = MakeLayout(mask, tokens);
    layouts_.push_back(&entry->second);
    offsets_.push_back(total);
    Index all_heads = 0;
    if (__builtin_mul_overflow(heads, entry->second.packed_size(), &all_heads) ||
        __builtin_add_overflow(total, all_heads, &total)) {
      throw std::bad_alloc();
    }
  }
  storage_ = Matrix(1, total);
}

std::vector<double> DenseAttentionStore::NormPerHead() const {
  return SumOverBatches(norms_, heads_);
}

double DenseAttentionStore::TotalNorm() const {
  const std::vector<double> heads = NormPerHead();
  return std::accumulate(heads.begin(), heads.end(), 0.0);
}

std::vector<double> SumOverBatches(const std::vector<double>& table, Index heads) {
  std::vector<double> sums(static_cast<size_t>(heads), 0.0);
  for (size_t i = 0; i < table.size(); ++i) sums[i % static_cast<size_t>(heads)] += table[i];
  return sums;
}

}  // namespace attnprune
