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

namespace {

// Pairs (i, i + half) of one head.
void RotateHalves(const float* __restrict cos, const float* __restrict sin, Index half, float sign,
                  float* __restrict first, float* __restrict second) {
  for (Index i = 0; i < half; ++i) {
    const float a = first[i], b = second[i], s = sign * sin[i];
    first[i] = a * cos[i] - b * s;
    second[i] = a * s + b * cos[i];
  }
}

// Pairs (2 i, 2 i + 1) of one head.
void RotateNeighbours(const float* cos, const float* sin, Index half, float sign, float* head) {
  for (Index i = 0; i < half; ++i) {
    const float a = head[2 * i], b = head[2 * i + 1], s = sign * sin[i];
    head[2 * i] = a * cos[i] - b * s;
    head[2 * i + 1] = a * s + b * cos[i];
  }
}

}  // namespace

void Rotate(const RopeTable& table, const Index* positions, float sign, MutableMatrixView heads) {
  const Index half = table.cos.cols();
  for (Index t = 0; t < heads.rows(); ++t) {
    const float *cos = table.cos.row(positions[t]), *sin = table.sin.row(positions[t]);
    float* const end = heads.row(t) + heads.cols();
    for (float* head = heads.row(t); head != end; head += 2 * half) {
      if (table.interleaved) {
        RotateNeighbours(cos, sin, half, sign, head);
      } else {
        RotateHalves(cos, sin, half, sign, head, head + half);
      }
    }
  }
}

}  // namespace attnprune
