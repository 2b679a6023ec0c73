// Row-major float32 matrices and views of them. Nothing here copies unless it is called Clone or
// CopyFrom.
#ifndef ATTNPRUNE_CORE_TENSOR_MATRIX_H_
#define ATTNPRUNE_CORE_TENSOR_MATRIX_H_

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "absl/types/span.h"

namespace attnprune {

using Index = std::ptrdiff_t;

class Matrix;

// A read-only window on rows x cols floats, row i starting at data + i * stride. Valid as long as
// what it looks at; cheap to copy.
class MatrixView {
 public:
  MatrixView() = default;
  MatrixView(const float* data, Index rows, Index cols, Index stride)
      : data_(data), rows_(rows), cols_(cols), stride_(stride) {}
  MatrixView(const float* data, Index rows, Index cols) : MatrixView(data, rows, cols, cols) {}
  MatrixView(const Matrix& matrix);  // NOLINT(google-explicit-constructor): a view of it
  MatrixView(Matrix&&) = delete;     // would dangle

  const float* data() const { return data_; }
  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  Index stride() const { return stride_; }
  Index size() const { return rows_ * cols_; }
  const float* row(Index i) const { return data_ + i * stride_; }
  float operator()(Index i, Index j) const { return data_[i * stride_ + j]; }

  MatrixView Block(Index row, Index col, Index rows, Index cols) const {
    return {data_ + row * stride_ + col, rows, cols, stride_};
  }
  MatrixView Rows(Index row, Index rows) const { return Block(row, 0, rows, cols_); }
  MatrixView Cols(Index col, Index cols) const { return Block(0, col, rows_, cols); }

 private:
  const float* data_ = nullptr;
  Index rows_ = 0, cols_ = 0, stride_ = 0;
};

// The same with permission to write.
class MutableMatrixView {
 public:
  MutableMatrixView() = default;
  MutableMatrixView(float* data, Index rows, Index cols, Index stride)
      : data_(data), rows_(rows), cols_(cols), stride_(stride) {}
  MutableMatrixView(float* data, Index rows, Index cols)
      : MutableMatrixView(data, rows, cols, cols) {}
  MutableMatrixView(Matrix& matrix);  // NOLINT(google-explicit-constructor): a view of it

  operator MatrixView() const {  // NOLINT(google-explicit-constructor): gives up a permission
    return {data_, rows_, cols_, stride_};
  }
  float* data() const { return data_; }
  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  Index stride() const { return stride_; }
  Index size() const { return rows_ * cols_; }
  float* row(Index i) const { return data_ + i * stride_; }
  float& operator()(Index i, Index j) const { return data_[i * stride_ + j]; }

  MutableMatrixView Block(Index row, Index col, Index rows, Index cols) const {
    return {data_ + row * stride_ + col, rows, cols, stride_};
  }
  MutableMatrixView Rows(Index row, Index rows) const { return Block(row, 0, rows, cols_); }
  MutableMatrixView Cols(Index col, Index cols) const { return Block(0, col, rows_, cols); }

 private:
  float* data_ = nullptr;
  Index rows_ = 0, cols_ = 0, stride_ = 0;
};

// Owns rows x cols floats, contiguous, row-major, aligned to 64 bytes. Moves, never copies by
// itself. Not thread-safe; concurrent reads are fine.
class Matrix {
 public:
  Matrix() = default;
  // Zeros; rows and cols at least 0. Throws std::bad_alloc where memory or its addresses run out.
  Matrix(Index rows, Index cols);
  Matrix(Matrix&& other) noexcept { *this = std::move(other); }
  Matrix& operator=(Matrix&& other) noexcept;
  Matrix(const Matrix&) = delete;
  Matrix& operator=(const Matrix&) = delete;

  static Matrix Constant(Index rows, Index cols, float value);
  static Matrix CopyFrom(MatrixView view);
  Matrix Clone() const { return CopyFrom(*this); }

  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  Index size() const { return rows_ * cols_; }
  bool empty() const { return size() == 0; }
  float* data() { return data_.get(); }
  const float* data() const { return data_.get(); }
  float* row(Index i) { return data_.get() + i * cols_; }
  const float* row(Index i) const { return data_.get() + i * cols_; }
  float& operator()(Index i, Index j) { return data_[i * cols_ + j]; }
  float operator()(Index i, Index j) const { return data_[i * cols_ + j]; }

  absl::Span<float> flat() { return {data_.get(), static_cast<size_t>(size())}; }
  absl::Span<const float> flat() const { return {data_.get(), static_cast<size_t>(size())}; }

  friend bool SameShape(const Matrix& a, const Matrix& b) {
    return a.rows_ == b.rows_ && a.cols_ == b.cols_;
  }

 private:
  struct Free {
    void operator()(float* p) const;
  };
  std::unique_ptr<float[], Free> data_;
  Index rows_ = 0, cols_ = 0;
};

// Views of all of them.
std::vector<MatrixView> Views(const std::vector<Matrix>& matrices);

inline MatrixView::MatrixView(const Matrix& matrix)
    : MatrixView(matrix.data(), matrix.rows(), matrix.cols()) {}
inline MutableMatrixView::MutableMatrixView(Matrix& matrix)
    : MutableMatrixView(matrix.data(), matrix.rows(), matrix.cols()) {}

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_TENSOR_MATRIX_H_
