#include "core/objective/dense_attention.h"

#include <algorithm>
#include <atomic>
#include <new>
#include <utility>

#include "core/base/sum.h"

namespace attnprune {
namespace {

std::atomic<int64_t> made{0};

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
                                         Index heads, DenseAttention use)
    : heads_(heads), use_(use), norms_(static_cast<size_t>(batches.count() * heads)) {
  ++made;
  Index total = 0;
  for (Index j = 0; j < batches.count(); ++j) {
    const Index tokens = batches.length(j);
    auto [entry, is_new] = by_length_.try_emplace(tokens);
    if (is_new) entry->second = MakeLayout(mask, tokens);
    layouts_.push_back(&entry->second);
    offsets_.push_back(total);
    first_tokens_.push_back(batches.begin(j));
    Index all_heads = 0;
    if (__builtin_mul_overflow(heads, entry->second.packed_size(), &all_heads) ||
        __builtin_add_overflow(total, all_heads, &total)) {
      throw std::bad_alloc();
    }
  }
  if (keeps_attention()) {
    packed_ = Matrix(1, total);
  } else {
    row_max_ = Matrix(1, heads * batches.total_tokens());
    row_inverse_sum_ = Matrix(1, heads * batches.total_tokens());
  }
}

int64_t DenseAttentionStore::Made() { return made; }

Index DenseAttentionStore::scratch_size(Index width) const {
  Index largest = 0;
  for (const auto& [tokens, layout] : by_length_) {
    largest = std::max(largest, AttentionScratchSize(layout, width));
  }
  return largest;
}

Index DenseAttentionStore::PackedOffset(Index batch, Index head) const {
  return offsets_[static_cast<size_t>(batch)] + head * layout(batch).packed_size();
}

Index DenseAttentionStore::QueryOffset(Index batch, Index head) const {
  return first_tokens_[static_cast<size_t>(batch)] * heads_ + head * layout(batch).tokens();
}

double DenseAttentionStore::Fill(Index batch, Index head, const AttentionHead& dense,
                                 float* scratch) {
  const AttentionKernels& kernels = AttentionKernelsOfThisCpu();
  if (keeps_attention()) {
    return kernels.dense(dense, scratch, packed_.data() + PackedOffset(batch, head), nullptr,
                         nullptr);
  }
  const Index first = QueryOffset(batch, head);
  return kernels.dense(dense, scratch, nullptr, row_max_.data() + first,
                       row_inverse_sum_.data() + first);
}

DenseRows DenseAttentionStore::rows(Index batch, Index head) const {
  DenseRows rows{};
  if (keeps_attention()) {
    rows.packed = packed_.data() + PackedOffset(batch, head);
  } else {
    const Index first = QueryOffset(batch, head);
    rows.row_max = row_max_.data() + first;
    rows.row_inverse_sum = row_inverse_sum_.data() + first;
  }
  return rows;
}

std::vector<double> DenseAttentionStore::NormPerHead() const {
  return SumOverBatches(norms_, heads_);
}

double DenseAttentionStore::TotalNorm() const { return Sum(NormPerHead()); }

std::vector<double> SumOverBatches(const std::vector<double>& table, Index heads) {
  std::vector<double> sums(static_cast<size_t>(heads), 0.0);
  for (size_t i = 0; i < table.size(); ++i) sums[i % static_cast<size_t>(heads)] += table[i];
  return sums;
}

}  // namespace attnprune
