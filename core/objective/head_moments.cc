#include "core/objective/head_moments.h"

#include <algorithm>
#include <cmath>

#include "core/kernels/blas.h"

namespace attnprune {

HeadMoments::HeadMoments(Index longest, float scale, float softcap)
    : scale_(scale),
      softcap_(softcap),
      attention_(longest, longest),
      slopes_(softcap > 0 ? Matrix(longest, longest) : Matrix()),
      squares_(static_cast<size_t>(longest)) {}

void HeadMoments::Begin(MatrixView q, MatrixView k, const float* key_bias,
                        const AttentionMask& mask) {
  q_ = q;
  k_ = k;
  key_bias_ = key_bias;
  ranges_.clear();
  for (Index i = 0; i < q.rows(); ++i) ranges_.push_back(mask.Keys(i, q.rows()));
}

void HeadMoments::FillRows(Index first, Index count) {
  const Index end = ranges_[static_cast<size_t>(first + count - 1)].end;
  Gemm(Trans::kNo, Trans::kYes, scale_, q_.Rows(first, count), k_.Rows(0, end), 0.0f,
       MutableMatrixView(attention_).Block(first, 0, count, end));
  for (Index i = first; i < first + count; ++i) Softmax(i);
}

void HeadMoments::Softmax(Index query) {
  const auto [begin, end] = ranges_[static_cast<size_t>(query)];
  float* const p = attention_.row(query);
  float largest = -INFINITY;
  for (Index j = begin; j < end; ++j) {
    if (key_bias_ != nullptr) p[j] += key_bias_[j];
    if (softcap_ > 0) {
      const float capped = std::tanh(p[j] / softcap_);
      slopes_(query, j) = 1 - capped * capped;
      p[j] = softcap_ * capped;
    }
    largest = std::max(largest, p[j]);
  }
  double sum = 0, squares = 0;
  for (Index j = begin; j < end; ++j) {
    p[j] = std::exp(p[j] - largest);
    sum += static_cast<double>(p[j]);
  }
  const auto inverse = static_cast<float>(1 / sum);
  for (Index j = begin; j < end; ++j) {
    p[j] *= inverse;
    squares += static_cast<double>(p[j]) * static_cast<double>(p[j]);
  }
  squares_[static_cast<size_t>(query)] = static_cast<float>(squares);
}

void HeadMoments::OfQuery(Index query, MutableMatrixView moment) const {
  const auto [begin, end] = ranges_[static_cast<size_t>(query)];
  const float* const p = attention_.row(query);
  const Index dim = k_.cols();
  std::vector<float> mean(static_cast<size_t>(dim));
  for (Index j = begin; j < end; ++j) {
    const float by = p[j] * Slope(query, j);
    for (Index a = 0; a < dim; ++a) mean[static_cast<size_t>(a)] += by * k_(j, a);
  }
  Matrix rows(end - begin, dim);
  for (Index j = begin; j < end; ++j) {
    const float slope = Slope(query, j);
    float* const row = rows.row(j - begin);
    for (Index a = 0; a < dim; ++a) {
      row[a] = p[j] * (slope * k_(j, a) - mean[static_cast<size_t>(a)]);
    }
  }
  Gemm(Trans::kYes, Trans::kNo, scale_ * scale_, rows, rows, 0.0f, moment);
}

// The queries that may attend to a key follow each other.
void HeadMoments::OfKey(Index key, MutableMatrixView moment) const {
  const auto sees = [key](const AttentionMask::Range& range) {
    return range.begin <= key && key < range.end;
  };
  const auto first = std::find_if(ranges_.begin(), ranges_.end(), sees);
  const auto last = std::find_if_not(first, ranges_.end(), sees);
  const Index dim = q_.cols(), begin = first - ranges_.begin();
  Matrix rows(last - first, dim);
  for (Index i = begin; i < begin + rows.rows(); ++i) {
    const float p = attention_(i, key);
    const float square = 1 - 2 * p + squares_[static_cast<size_t>(i)];
    const float by = p * std::sqrt(std::max(square, 0.0f)) * Slope(i, key);
    for (Index a = 0; a < dim; ++a) rows(i - begin, a) = by * q_(i, a);
  }
  Gemm(Trans::kYes, Trans::kNo, scale_ * scale_, rows, rows, 0.0f, moment);
}

}  // namespace attnprune
