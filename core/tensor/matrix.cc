#include "core/tensor/matrix.h"

#include <algorithm>
#include <new>

namespace attnprune {
namespace {
constexpr std::align_val_t kAlignment{64};
}

void Matrix::Free::operator()(float* p) const { ::operator delete[](p, kAlignment); }

Matrix::Matrix(Index rows, Index cols) : rows_(rows), cols_(cols) {
  size_t bytes = 0;
  if (__builtin_mul_overflow(rows, cols, &bytes) ||
      __builtin_mul_overflow(bytes, sizeof(float), &bytes)) {
    throw std::bad_alloc();
  }
  data_.reset(static_cast<float*>(::operator new[](bytes, kAlignment)));
  std::fill_n(data_.get(), static_cast<size_t>(size()), 0.0f);
}

Matrix& Matrix::operator=(Matrix&& other) noexcept {
  data_ = std::move(other.data_);
  rows_ = std::exchange(other.rows_, 0);
  cols_ = std::exchange(other.cols_, 0);
  return *this;
}

Matrix Matrix::Constant(Index rows, Index cols, float value) {
  Matrix out(rows, cols);
  std::fill_n(out.data(), static_cast<size_t>(out.size()), value);
  return out;
}

Matrix Matrix::CopyFrom(MatrixView view) {
  Matrix out(view.rows(), view.cols());
  for (Index i = 0; i < view.rows(); ++i) {
    std::copy_n(view.row(i), static_cast<size_t>(view.cols()), out.row(i));
  }
  return out;
}

std::vector<MatrixView> Views(const std::vector<Matrix>& matrices) {
  return {matrices.begin(), matrices.end()};
}

}  // namespace attnprune
