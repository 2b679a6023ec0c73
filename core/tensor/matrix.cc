#include "core/tensor/matrix.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <new>

namespace attnprune {
namespace {

constexpr size_t kAlignment = 64;

// Zeros. calloc, not aligned_alloc: the system's fresh pages are zeros already, so that a
// large matrix that is filled on many threads is touched there for the first time. In front of the
// floats lies what is to be freed.
float* Allocate(size_t bytes) {
  size_t with_room = 0;
  if (__builtin_add_overflow(bytes, sizeof(void*) + kAlignment, &with_room)) throw std::bad_alloc();
  char* const allocated = static_cast<char*>(std::calloc(with_room, 1));
  if (allocated == nullptr) throw std::bad_alloc();
  char* const least = allocated + sizeof(void*);
  const size_t past = reinterpret_cast<uintptr_t>(least) % kAlignment;
  void** const floats = reinterpret_cast<void**>(past == 0 ? least : least + kAlignment - past);
  floats[-1] = allocated;
  return reinterpret_cast<float*>(floats);
}

}  // namespace

void Matrix::Free::operator()(float* p) const {
  if (p != nullptr) std::free(reinterpret_cast<void**>(p)[-1]);
}

Matrix::Matrix(Index rows, Index cols) : rows_(rows), cols_(cols) {
  size_t bytes = 0;
  if (__builtin_mul_overflow(rows, cols, &bytes) ||
      __builtin_mul_overflow(bytes, sizeof(float), &bytes)) {
    throw std::bad_alloc();
  }
  data_.reset(Allocate(bytes));
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
