#include "core/kernels/triangle.h"

#include <algorithm>
#include <vector>

#include "core/kernels/blas.h"

extern "C" {
#include <cblas.h>
}

namespace attnprune {
namespace {

constexpr Index kTriangleBlock = 256;
constexpr Index kColumnsPerShard = 64;

blasint Int(Index value) { return static_cast<blasint>(value); }

// The lower triangle of a matrix, block by block.
class Triangle {
 public:
  Triangle(Index n, absl::Span<double> a, ThreadPool& pool) : n_(n), a_(a.data()), pool_(pool) {}

  bool Factor();
  bool Invert();

 private:
  double* At(Index row, Index column) { return a_ + row * n_ + column; }
  // Works on the square block at (first, first) by itself.
  template <typename Work>
  bool OnDiagonal(Index first, Index size, const Work& work);

  const Index n_;
  double* const a_;
  ThreadPool& pool_;
};

template <typename Work>
bool Triangle::OnDiagonal(Index first, Index size, const Work& work) {
  std::vector<double> block(static_cast<size_t>(size * size));
  for (Index i = 0; i < size; ++i) {
    std::copy_n(At(first + i, first), size, block.data() + i * size);
  }
  if (!work(size, absl::MakeSpan(block))) return false;
  for (Index i = 0; i < size; ++i) {
    std::copy_n(block.data() + i * size, i + 1, At(first + i, first));
  }
  return true;
}

// Right-looking: a block of columns is finished, then all that is to its right is brought up to
// date, tile by tile.
bool Triangle::Factor() {
  for (Index first = 0; first < n_; first += kTriangleBlock) {
    const Index size = std::min(kTriangleBlock, n_ - first), below = first + size;
    const auto factor = [](Index n, absl::Span<double> block) { return CholeskyInPlace(n, block); };
    if (!OnDiagonal(first, size, factor)) return false;
    const Index blocks = (n_ - below + kTriangleBlock - 1) / kTriangleBlock;
    pool_.ParallelFor(blocks, [&](Index i) {
      const Index row = below + i * kTriangleBlock, rows = std::min(kTriangleBlock, n_ - row);
      cblas_dtrsm(CblasRowMajor, CblasRight, CblasLower, CblasTrans, CblasNonUnit, Int(rows),
                  Int(size), 1.0, At(first, first), Int(n_), At(row, first), Int(n_));
    });
    pool_.ParallelFor(blocks * blocks, [&](Index tile) {
      const Index i = tile / blocks, j = tile % blocks;
      if (j > i) return;
      const Index row = below + i * kTriangleBlock, column = below + j * kTriangleBlock;
      cblas_dgemm(CblasRowMajor, CblasNoTrans, CblasTrans, Int(std::min(kTriangleBlock, n_ - row)),
                  Int(std::min(kTriangleBlock, n_ - column)), Int(size), -1.0, At(row, first),
                  Int(n_), At(column, first), Int(n_), 1.0, At(row, column), Int(n_));
    });
  }
  return true;
}

// From the last block of columns to the first: what is below and to the right is inverted already.
bool Triangle::Invert() {
  const Index blocks = (n_ + kTriangleBlock - 1) / kTriangleBlock;
  for (Index b = blocks - 1; b >= 0; --b) {
    const Index first = b * kTriangleBlock, size = std::min(kTriangleBlock, n_ - first),
                below = first + size;
    const auto invert = [](Index n, absl::Span<double> block) {
      return InvertLowerTriangleInPlace(n, block);
    };
    if (!OnDiagonal(first, size, invert)) return false;
    const Index rows = n_ - below;
    if (rows == 0) continue;
    pool_.ParallelFor((size + kColumnsPerShard - 1) / kColumnsPerShard, [&](Index i) {
      const Index column = first + i * kColumnsPerShard;
      const Index columns = std::min(kColumnsPerShard, below - column);
      cblas_dtrmm(CblasRowMajor, CblasLeft, CblasLower, CblasNoTrans, CblasNonUnit, Int(rows),
                  Int(columns), -1.0, At(below, below), Int(n_), At(below, column), Int(n_));
    });
    pool_.ParallelFor((rows + kTriangleBlock - 1) / kTriangleBlock, [&](Index i) {
      const Index row = below + i * kTriangleBlock;
      cblas_dtrmm(CblasRowMajor, CblasRight, CblasLower, CblasNoTrans, CblasNonUnit,
                  Int(std::min(kTriangleBlock, n_ - row)), Int(size), 1.0, At(first, first),
                  Int(n_), At(row, first), Int(n_));
    });
  }
  return true;
}

}  // namespace

bool CholeskyInPlace(Index n, absl::Span<double> a, ThreadPool& pool) {
  return n <= kLapackRows ? CholeskyInPlace(n, a) : Triangle(n, a, pool).Factor();
}

bool InvertLowerTriangleInPlace(Index n, absl::Span<double> a, ThreadPool& pool) {
  return n <= kLapackRows ? InvertLowerTriangleInPlace(n, a) : Triangle(n, a, pool).Invert();
}

}  // namespace attnprune
