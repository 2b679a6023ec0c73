#include "core/kernels/attention.h"

#include <immintrin.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/kernels/blas.h"
#include "core/kernels/lanes.h"

namespace attnprune {
namespace {

using Block = AttentionLayout::Block;

// Small enough that a causal block wastes little above the diagonal and stays in the second-level
// cache with n = 4096. 64 and 128 rows were 5 and 30 % slower at the paper's size, and within the
// noise at d = 2048.
constexpr Index kBlockRows = 32;

// Lanes of a row that hold allowed keys, in columns of the block.
struct RowSpan {
  Index begin, end;            // allowed columns
  Index lane_begin, lane_end;  // the whole lanes that cover them
};

RowSpan SpanOf(const AttentionLayout& layout, const Block& block, Index row) {
  const KeyRange keys = layout.keys(block.row + row);
  const Index begin = keys.begin - block.key, end = keys.end - block.key;
  return {begin, end, FloorToLanes(begin), PadToLanes(end)};
}

void Fill(float* row, Index begin, Index end, float value) {
  std::fill(row + begin, row + end, value);
}

// logits = scale a b' over the block's rows and keys.
void BlockLogits(const Block& block, MatrixView a, MatrixView b, float scale, float* logits) {
  Gemm(Trans::kNo, Trans::kYes, scale, a.Rows(block.row, block.rows), b.Rows(block.key, block.keys),
       0.0f, MutableMatrixView(logits, block.rows, block.keys, block.stride));
}

float RowMax(const float* row, const RowSpan& span) {
  Lanes max = LoadLanes(row + span.lane_begin);
  for (Index j = span.lane_begin + kLanes; j < span.lane_end; j += kLanes) {
    max = Max(max, LoadLanes(row + j));
  }
  return MaxLanes(max);
}

// row: logits on entry, e^(logit - max) on return, 0 in every column that is not allowed.
// Returns the sum of the exponentials; NaN if a logit is NaN or +infinity.
float ExponentiateRow(float* row, const RowSpan& span, Index stride) {
  constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
  Fill(row, span.lane_begin, span.begin, kMinusInfinity);
  Fill(row, span.end, span.lane_end, kMinusInfinity);
  const Lanes max = Broadcast(RowMax(row, span));
  Lanes sum{};
  for (Index j = span.lane_begin; j < span.lane_end; j += kLanes) {
    const Lanes e = ExpNonPositive(LoadLanes(row + j) - max);
    sum += e;
    StoreLanes(row + j, e);
  }
  Fill(row, 0, span.lane_begin, 0.0f);
  Fill(row, span.lane_end, stride, 0.0f);
  return SumLanes(sum);
}

// row: exponentials on entry, f~ on return. Returns the row's ||f~||^2.
float NormalizeRow(float* row, const RowSpan& span, float inverse_sum) {
  Lanes norm{};
  for (Index j = span.lane_begin; j < span.lane_end; j += kLanes) {
    const Lanes f = LoadLanes(row + j) * inverse_sum;
    norm += f * f;
    StoreLanes(row + j, f);
  }
  return SumLanes(norm);
}

struct RowSums {
  float squared;   // sum of c^2
  float weighted;  // sum of c f~
};

// row: exponentials on entry, f~ on return; c = f~ - dense.
RowSums CompareRow(float* row, const float* dense, const RowSpan& span, float inverse_sum) {
  Lanes squared{}, weighted{};
  for (Index j = span.lane_begin; j < span.lane_end; j += kLanes) {
    const Lanes f = LoadLanes(row + j) * inverse_sum;
    const Lanes c = f - LoadLanes(dense + j);
    squared += c * c;
    weighted += c * f;
    StoreLanes(row + j, f);
  }
  return {SumLanes(squared), SumLanes(weighted)};
}

// row: f~ on entry, p = f~ o (c - weighted) on return.
void JacobianRow(float* row, const float* dense, const RowSpan& span, float weighted) {
  for (Index j = span.lane_begin; j < span.lane_end; j += kLanes) {
    const Lanes f = LoadLanes(row + j);
    StoreLanes(row + j, f * ((f - LoadLanes(dense + j)) - weighted));
  }
}

// Calls row_function(block, row in block, row of exponentials, span, 1 / sum) for every row, and
// block_function(block, block of rows) after the last row of each block.
template <typename RowFunction, typename BlockFunction>
void ForEachRow(const AttentionLayout& layout, MatrixView a, MatrixView b, float scale,
                RowFunction row_function, BlockFunction block_function) {
  Matrix scratch(1, layout.scratch_size());
  for (const Block& block : layout.blocks()) {
    BlockLogits(block, a, b, scale, scratch.data());
    for (Index i = 0; i < block.rows; ++i) {
      float* row = scratch.data() + i * block.stride;
      const RowSpan span = SpanOf(layout, block, i);
      const float sum = ExponentiateRow(row, span, block.stride);
      row_function(block, i, row, span, 1.0f / sum);
    }
    block_function(block, MatrixView(scratch.data(), block.rows, block.keys, block.stride));
  }
}

constexpr auto kNothingPerBlock = [](const Block&, MatrixView) {};

}  // namespace

AttentionLayout::AttentionLayout(std::vector<KeyRange> ranges) : ranges_(std::move(ranges)) {
  for (Index row = 0; row < tokens(); row += kBlockRows) {
    const Index rows = std::min(kBlockRows, tokens() - row);
    const Index key = keys(row).begin;
    const Index count = keys(row + rows - 1).end - key;
    const Index stride = PadToLanes(count);
    blocks_.push_back({row, rows, key, count, packed_size_, stride});
    packed_size_ += rows * stride;
    scratch_size_ = std::max(scratch_size_, rows * stride);
  }
}

ScopedFlushDenormals::ScopedFlushDenormals() : saved_(_mm_getcsr()) {
  constexpr unsigned kFlushToZero = 0x8000, kDenormalsAreZero = 0x0040;
  _mm_setcsr(saved_ | kFlushToZero | kDenormalsAreZero);
}
ScopedFlushDenormals::~ScopedFlushDenormals() { _mm_setcsr(saved_); }

double DenseAttention(const AttentionLayout& layout, MatrixView a, MatrixView b, float scale,
                      float* packed) {
  double norm = 0;
  ForEachRow(
      layout, a, b, scale,
      [&](const Block& block, Index i, float* row, const RowSpan& span, float inverse_sum) {
        norm += static_cast<double>(NormalizeRow(row, span, inverse_sum));
        std::copy_n(row, block.stride, packed + block.offset + i * block.stride);
      },
      kNothingPerBlock);
  return norm;
}

double AttentionDifference(const AttentionLayout& layout, MatrixView a, MatrixView b, float scale,
                           const float* packed) {
  double difference = 0;
  ForEachRow(
      layout, a, b, scale,
      [&](const Block& block, Index i, float* row, const RowSpan& span, float inverse_sum) {
        const float* dense = packed + block.offset + i * block.stride;
        difference += static_cast<double>(CompareRow(row, dense, span, inverse_sum).squared);
      },
      kNothingPerBlock);
  return difference;
}

double AttentionLossGradient(const AttentionLayout& layout, MatrixView a, MatrixView b, float scale,
                             const float* packed, MutableMatrixView d_a, MutableMatrixView d_b) {
  double difference = 0;
  ForEachRow(
      layout, a, b, scale,
      [&](const Block& block, Index i, float* row, const RowSpan& span, float inverse_sum) {
        const float* dense = packed + block.offset + i * block.stride;
        const RowSums sums = CompareRow(row, dense, span, inverse_sum);
        difference += static_cast<double>(sums.squared);
        JacobianRow(row, dense, span, sums.weighted);
      },
      [&](const Block& block, MatrixView p) {
        Gemm(Trans::kNo, Trans::kNo, scale, p, b.Rows(block.key, block.keys), 0.0f,
             d_a.Rows(block.row, block.rows));
        if (d_b.rows() == 0) return;
        Gemm(Trans::kYes, Trans::kNo, scale, p, a.Rows(block.row, block.rows), 1.0f,
             d_b.Rows(block.key, block.keys));
      });
  return 0.5 * difference;
}

double SmallestLogAttention(const AttentionLayout& layout, MatrixView a, MatrixView b,
                            float scale) {
  double smallest = 0;
  Matrix scratch(1, layout.scratch_size());
  for (const Block& block : layout.blocks()) {
    BlockLogits(block, a, b, scale, scratch.data());
    for (Index i = 0; i < block.rows; ++i) {
      const float* row = scratch.data() + i * block.stride;
      const RowSpan span = SpanOf(layout, block, i);
      const auto [low, high] = std::minmax_element(row + span.begin, row + span.end);
      double sum = 0;
      for (Index j = span.begin; j < span.end; ++j) {
        sum += std::exp(static_cast<double>(row[j]) - static_cast<double>(*high));
      }
      smallest = std::min(smallest,
                          static_cast<double>(*low) - static_cast<double>(*high) - std::log(sum));
    }
  }
  return smallest;
}

Matrix Unpack(const AttentionLayout& layout, const float* packed) {
  Matrix out(layout.tokens(), layout.tokens());
  for (const Block& block : layout.blocks()) {
    for (Index i = 0; i < block.rows; ++i) {
      std::copy_n(packed + block.offset + i * block.stride, block.keys,
                  out.row(block.row + i) + block.key);
    }
  }
  return out;
}

}  // namespace attnprune
