#include "core/tensor/bit_mask.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <limits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace attnprune {
namespace {

size_t BytesFor(Index bits) { return static_cast<size_t>(bits / 8 + (bits % 8 != 0)); }

// The bits of the last byte that stand for entries.
uint8_t UsedBitsOfLastByte(Index bits) {
  return bits % 8 == 0 ? 0xFF : static_cast<uint8_t>((1u << (bits % 8)) - 1);
}

}  // namespace

BitMask::BitMask(Index rows, Index cols, bool kept)
    : rows_(rows), cols_(cols), bytes_(BytesFor(rows * cols), kept ? 0xFF : 0x00) {
  if (!bytes_.empty()) bytes_.back() &= UsedBitsOfLastByte(size());
}

absl::StatusOr<BitMask> BitMask::FromBytes(Index rows, Index cols,
                                           absl::Span<const uint8_t> bytes) {
  Index size = 0;
  if (rows < 0 || cols < 0 || __builtin_mul_overflow(rows, cols, &size)) {
    return absl::InvalidArgumentError(
        absl::StrCat("mask shape must be at least 0 x 0 and fit 63 bits, got ", rows, " x ", cols));
  }
  if (bytes.size() != BytesFor(size)) {
    return absl::InvalidArgumentError(absl::StrCat("mask of ", rows, " x ", cols, " must have ",
                                                   BytesFor(size), " bytes, got ", bytes.size()));
  }
  if (!bytes.empty() && (bytes.back() & ~UsedBitsOfLastByte(size)) != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "unused bits of the mask's last byte must be 0, got ", static_cast<int>(bytes.back())));
  }
  BitMask mask(0, 0, false);
  mask.rows_ = rows;
  mask.cols_ = cols;
  mask.bytes_.assign(bytes.begin(), bytes.end());
  return mask;
}

void BitMask::PruneUpTo(absl::Span<const float> scores, float threshold, Index first) {
  // Without a branch: half of them would be guessed wrong.
  for (const float score : scores) {
    const auto pruned = static_cast<unsigned>(score <= threshold);
    bytes_[first / 8] &= static_cast<uint8_t>(~(pruned << (first % 8)));
    ++first;
  }
}

Index BitMask::CountPruned() const {
  Index kept = 0;
  for (const uint8_t byte : bytes_) kept += std::popcount(byte);
  return size() - kept;
}

void BitMask::UnpackRow(Index row, absl::Span<uint8_t> kept) const {
  Index flat = row * cols_, j = 0;
  const auto unpack_one = [&] { kept[j++] = this->kept(flat++) ? 1 : 0; };
  while (j < cols_ && flat % 8 != 0) unpack_one();
  for (; j + 8 <= cols_; j += 8, flat += 8) {
    const unsigned byte = bytes_[flat / 8];
    for (unsigned bit = 0; bit < 8; ++bit) kept[j + bit] = (byte >> bit) & 1u;
  }
  while (j < cols_) unpack_one();
}

bool BitMask::Masks(MatrixView weights) const {
  std::vector<uint8_t> kept(static_cast<size_t>(cols_));
  int broken = 0;
  for (Index i = 0; i < rows_; ++i) {
    UnpackRow(i, absl::MakeSpan(kept));
    const float* const row = weights.row(i);
    for (Index j = 0; j < cols_; ++j) {  // no branch
      const int finite = std::fabs(row[j]) <= std::numeric_limits<float>::max();
      broken |= (finite ^ 1) | (static_cast<int>(row[j] != 0.0f) & (kept[j] ^ 1));
    }
  }
  return broken == 0;
}

Matrix BitMask::Apply(MatrixView matrix) const {
  Matrix out(rows_, cols_);
  ApplyInto(matrix, out);
  return out;
}

void BitMask::ApplyInto(MatrixView matrix, MutableMatrixView out) const {
  std::vector<uint8_t> kept(static_cast<size_t>(cols_));
  for (Index i = 0; i < rows_; ++i) {
    UnpackRow(i, absl::MakeSpan(kept));
    const float* const from = matrix.row(i);
    float* const to = out.row(i);
    for (Index j = 0; j < cols_; ++j) to[j] = kept[j] != 0 ? from[j] : 0.0f;
  }
}

Matrix BitMask::ToMatrix() const {
  Matrix out(rows_, cols_);
  for (Index flat = 0; flat < size(); ++flat) out.data()[flat] = kept(flat) ? 1.0f : 0.0f;
  return out;
}

}  // namespace attnprune
