// The golden models' gradients, and how far others are from them.
#ifndef ATTNPRUNE_TESTS_CORE_MODEL_GRADIENT_DISTANCE_H_
#define ATTNPRUNE_TESTS_CORE_MODEL_GRADIENT_DISTANCE_H_

#include <cmath>
#include <string>

#include "core/io/safetensors.h"
#include "core/tensor/matrix.h"
#include "tests/core/model/golden_models.h"
#include "tests/support/value_or_die.h"

namespace attnprune::testing {

// Of Distance. The stored gradients are within 1e-7 (float32 and the differences' rounding); those
// of a pass in float32 within some ten roundings of 6e-8: the worst of all models is 1.7e-6.
inline constexpr double kGradientTolerance = 5e-6;

inline SafetensorsFile OpenGradients(const std::string& name) {
  return ValueOrDie(SafetensorsFile::Open(GoldenModel(name) + "/gradients.safetensors"));
}

// ||got - wanted||_F / ||wanted||_F; infinite where the shapes differ.
inline double Distance(MatrixView got, MatrixView wanted) {
  if (got.rows() != wanted.rows() || got.cols() != wanted.cols()) return INFINITY;
  double difference = 0, norm = 0;
  for (Index i = 0; i < got.rows(); ++i) {
    for (Index j = 0; j < got.cols(); ++j) {
      const double value = double{wanted(i, j)}, error = double{got(i, j)} - value;
      difference += error * error;
      norm += value * value;
    }
  }
  return std::sqrt(difference / norm);
}

// The same from a stored gradient.
inline double Distance(MatrixView got, const SafetensorsFile& file, const std::string& name) {
  const Matrix wanted = ValueOrDie(file.ReadMatrix(name));
  return Distance(got, wanted);
}

}  // namespace attnprune::testing

#endif  // ATTNPRUNE_TESTS_CORE_MODEL_GRADIENT_DISTANCE_H_
