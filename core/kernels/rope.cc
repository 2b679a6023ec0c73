#include "core/kernels/rope.h"

#include <cmath>

namespace attnprune {

RopeTable MakeRopeTable(double theta, Index head_dim, Index positions, bool interleaved) {
  const Index half = head_dim / 2;
  RopeTable table{Matrix(positions, half), Matrix(positions, half), interleaved};
  for (Index i = 0; i < half; ++i) {
    const double frequency =
        std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
    for (Index t = 0; t < positions; ++t) {
      const double angle = static_cast<double>(t) * frequency;
      table.cos(t, i) = static_cast<float>(std::cos(angle));
      table.sin(t, i) = static_cast<float>(std::sin(angle));
    }
  }
  return table;
}

void RotateToken(const RopeTable& table, Index position, Index heads, float sign, float* row) {
  const Index half = table.cos.cols();
  const Index pair_step = table.interleaved ? 2 : 1;   // from one pair's first entry to the next
  const Index partner = table.interleaved ? 1 : half;  // from a pair's first entry to its second
  const float* cos = table.cos.row(position);
  const float* sin = table.sin.row(position);
  for (Index h = 0; h < heads; ++h, row += 2 * half) {
    for (Index i = 0; i < half; ++i) {
      float& first = row[i * pair_step];
      float& second = row[i * pair_step + partner];
      const float a = first, b = second, s = sign * sin[i];
      first = a * cos[i] - b * s;
      second = a * s + b * cos[i];
    }
  }
}

}  // namespace attnprune
