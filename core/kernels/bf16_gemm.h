// Products of bfloat16 factors with float32 sums, by oneDNN, where the CPU has instructions for
// them (AVX512-BF16; oneDNN takes AMX where that is there too).
#ifndef ATTNPRUNE_CORE_KERNELS_BF16_GEMM_H_
#define ATTNPRUNE_CORE_KERNELS_BF16_GEMM_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// rows x cols bfloat16, row-major. Keeps its memory from Resize to Resize.
class Bf16Matrix {
 public:
  void Resize(Index rows, Index cols);
  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  bool empty() const { return rows_ == 0 || cols_ == 0; }
  const uint16_t* row(Index i) const { return data_.data() + i * cols_; }
  // Row i from cols() floats, each rounded to the nearest, ties to even.
  void SetRow(Index i, const float* values);

 private:
  Index rows_ = 0, cols_ = 0;
  std::vector<uint16_t> data_;
};

// FAILED_PRECONDITION, saying why, unless this build has oneDNN and this CPU such instructions.
absl::Status CheckBf16Products();

// c = a b', with rows [a_row, a_row + c.rows()) of a and rows [b_row, b_row + c.cols()) of b. On
// the calling thread; callable from many at once. CheckBf16Products must have passed. Throws
// std::bad_alloc where memory runs out.
void Bf16Gemm(const Bf16Matrix& a, Index a_row, const Bf16Matrix& b, Index b_row,
              MutableMatrixView c);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_KERNELS_BF16_GEMM_H_
