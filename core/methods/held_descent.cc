#include "core/methods/held_descent.h"

#include <algorithm>

#include "core/tensor/eigen.h"

namespace attnprune {
namespace {

double DotOfEach(const std::vector<Matrix>& a, const std::vector<Matrix>& b) {
  double sum = 0;
  for (size_t m = 0; m < a.size(); ++m) {
    for (size_t i = 0; i < a[m].flat().size(); ++i) {
      sum += static_cast<double>(a[m].flat()[i]) * static_cast<double>(b[m].flat()[i]);
    }
  }
  return sum;
}

// a + by * b.
std::vector<Matrix> Sums(const std::vector<Matrix>& a, double by, const std::vector<Matrix>& b) {
  std::vector<Matrix> sums;
  for (size_t m = 0; m < a.size(); ++m) {
    sums.push_back(a[m].Clone());
    ArrayOf(sums[m]) += static_cast<float>(by) * ArrayOf(b[m]);
  }
  return sums;
}

}  // namespace

HeldDescent::HeldDescent(const std::vector<Matrix>& start_weights) {
  for (const Matrix& matrix : start_weights) {
    start.push_back(matrix.Clone());
    direction.emplace_back(matrix.rows(), matrix.cols());
  }
}

void HeldDescent::Turn(const std::vector<Matrix>& point, const std::vector<Matrix>& solved,
                       const std::vector<Matrix>& gradients) {
  std::vector<Matrix> step = Sums(solved, -1, point);
  const double last = fall;
  fall = -DotOfEach(step, gradients);
  direction = Sums(step, last > 0 ? fall / last : 0, direction);
  slope_ = DotOfEach(direction, gradients);
  if (slope_ < 0) return;
  direction = std::move(step);
  slope_ = -fall;
}

std::vector<Matrix> HeldDescent::Reached(const std::vector<Matrix>& point) const {
  return Sums(point, length, direction);
}

void HeldDescent::SetLength(double loss, double reached) {
  const double rise = reached - loss - slope_ * length;
  const double least = rise > 0 ? -slope_ * length * length / (2 * rise) : 4 * length;
  length = rise > 0 || rise <= 0 ? std::clamp(least, length / 10, 4 * length) : length / 10;
}

void HeldDescent::Refuse() {
  length /= 4;
  fall = 0;
}

}  // namespace attnprune
