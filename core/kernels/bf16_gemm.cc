#include "core/kernels/bf16_gemm.h"

#include <bit>

#ifdef ATTNPRUNE_HAS_ONEDNN
#include <new>
#include <oneapi/dnnl/dnnl.hpp>

extern "C" void omp_set_num_threads(int);  // libgomp's; clang has no omp.h of its own
#endif

namespace attnprune {

void Bf16Matrix::Resize(Index rows, Index cols) {
  rows_ = rows;
  cols_ = cols;
  const auto size = static_cast<size_t>(rows * cols);
  if (data_.size() < size) data_.resize(size);
}

void Bf16Matrix::SetRow(Index i, const float* values) {
  uint16_t* const out = data_.data() + i * cols_;
  for (Index j = 0; j < cols_; ++j) {
    const auto bits = std::bit_cast<uint32_t>(values[j]);
    const bool is_nan = (bits & 0x7fffffff) > 0x7f800000;
    const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    out[j] = static_cast<uint16_t>(is_nan ? (bits >> 16) | 0x40 : rounded);
  }
}

#ifdef ATTNPRUNE_HAS_ONEDNN

absl::Status CheckBf16Products() {
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512bf16")) return absl::OkStatus();
  return absl::FailedPreconditionError(
      "this CPU has no instructions for products of bf16 (AVX512-BF16)");
}

void Bf16Gemm(const Bf16Matrix& a, Index a_row, const Bf16Matrix& b, Index b_row,
              MutableMatrixView c) {
  using dnnl::memory;
  // Threads are the pool's. oneDNN's are OpenMP's, whose number is each calling thread's own.
  thread_local const bool alone = (omp_set_num_threads(1), true);
  static_cast<void>(alone);
  static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  try {
    const auto plain = [](Index rows, Index cols, memory::data_type type, Index row_stride,
                          Index col_stride) {
      return memory::desc({rows, cols}, type, memory::dims{row_stride, col_stride});
    };
    const Index inner = a.cols();
    const memory::desc left = plain(c.rows(), inner, memory::data_type::bf16, inner, 1);
    const memory::desc right = plain(inner, c.cols(), memory::data_type::bf16, 1, inner);
    const memory::desc out = plain(c.rows(), c.cols(), memory::data_type::f32, c.stride(), 1);
    // Kept by oneDNN, for the next of these shapes.
    const dnnl::matmul product({{left, right, out}, engine});
    const auto at = [](const Bf16Matrix& m, Index row) {
      return const_cast<uint16_t*>(m.row(row));
    };
    dnnl::stream stream(engine);
    product.execute(stream, {{DNNL_ARG_SRC, memory(left, engine, at(a, a_row))},
                             {DNNL_ARG_WEIGHTS, memory(right, engine, at(b, b_row))},
                             {DNNL_ARG_DST, memory(out, engine, c.row(0))}});
    stream.wait();
  } catch (const dnnl::error&) {  // of products that the CPU has: memory alone can lack
    throw std::bad_alloc();
  }
}

#else

absl::Status CheckBf16Products() {
  return absl::FailedPreconditionError("this build has no oneDNN (ATTNPRUNE_WITH_ONEDNN)");
}

void Bf16Gemm(const Bf16Matrix&, Index, const Bf16Matrix&, Index, MutableMatrixView) {}

#endif

}  // namespace attnprune
