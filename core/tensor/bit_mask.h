// A pruning mask of one bit a weight.
#ifndef ATTNPRUNE_CORE_TENSOR_BIT_MASK_H_
#define ATTNPRUNE_CORE_TENSOR_BIT_MASK_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// rows x cols bits, row-major by flat index, least significant bit of byte 0 first, no padding
// between rows; unused bits of the last byte are 0. 1 means that the weight is kept.
class BitMask {
 public:
  BitMask() = default;
  BitMask(Index rows, Index cols, bool kept);  // all bits alike
  // bytes: the layout above. INVALID_ARGUMENT on a wrong size or a set unused bit.
  static absl::StatusOr<BitMask> FromBytes(Index rows, Index cols, absl::Span<const uint8_t> bytes);

  Index rows() const { return rows_; }
  Index cols() const { return cols_; }
  Index size() const { return rows_ * cols_; }
  bool kept(Index flat) const { return (bytes_[flat / 8] >> (flat % 8)) & 1; }
  bool kept(Index i, Index j) const { return kept(i * cols_ + j); }
  void Prune(Index flat) { bytes_[flat / 8] &= static_cast<uint8_t>(~(1u << (flat % 8))); }
  void Keep(Index flat) { bytes_[flat / 8] |= static_cast<uint8_t>(1u << (flat % 8)); }
  // Prunes entry first + i where scores[i] <= threshold.
  void PruneUpTo(absl::Span<const float> scores, float threshold, Index first);
  Index CountPruned() const;
  // kept(row, j) of every j, as 0 and 1: bits in a loop cost many times what bytes do.
  void UnpackRow(Index row, absl::Span<uint8_t> kept) const;
  absl::Span<const uint8_t> bytes() const { return bytes_; }

  // Whether every weight is finite, and 0 where the mask prunes. Shapes must agree.
  bool Masks(MatrixView weights) const;
  // The matrix with exact zeros where the mask prunes. Shapes must agree.
  Matrix Apply(MatrixView matrix) const;
  void ApplyInto(MatrixView matrix, MutableMatrixView out) const;  // the same, in the caller's
  // 1.0f where kept, 0.0f where pruned.
  Matrix ToMatrix() const;

  friend bool operator==(const BitMask&, const BitMask&) = default;

 private:
  Index rows_ = 0, cols_ = 0;
  std::vector<uint8_t> bytes_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_TENSOR_BIT_MASK_H_
