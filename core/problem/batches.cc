#include "core/problem/batches.h"

#include <algorithm>
#include <utility>

namespace attnprune {

Batches::Batches(Matrix tokens, std::vector<Index> lengths)
    : tokens_(std::move(tokens)), lengths_(std::move(lengths)) {
  begins_.reserve(lengths_.size());
  Index begin = 0;
  for (const Index length : lengths_) {
    begins_.push_back(begin);
    begin += length;
  }
}

Batches Batches::Stack(const std::vector<Matrix>& batches) {
  std::vector<Index> lengths;
  Index total = 0;
  for (const Matrix& batch : batches) {
    lengths.push_back(batch.rows());
    total += batch.rows();
  }
  Matrix tokens(total, batches.empty() ? 0 : batches.front().cols());
  float* out = tokens.data();
  for (const Matrix& batch : batches) {
    out = std::copy_n(batch.data(), static_cast<size_t>(batch.size()), out);
  }
  return Batches(std::move(tokens), std::move(lengths));
}

Index Batches::longest() const {
  return lengths_.empty() ? 0 : *std::max_element(lengths_.begin(), lengths_.end());
}

}  // namespace attnprune
