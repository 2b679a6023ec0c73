// The logarithm of a sum of exponentials, taken in pieces: log-softmax without all logits at once.
#ifndef ATTNPRUNE_CORE_KERNELS_LOG_SUM_EXP_H_
#define ATTNPRUNE_CORE_KERNELS_LOG_SUM_EXP_H_

#include <limits>

#include "core/tensor/matrix.h"

namespace attnprune {

// Of the values added so far; -infinity before the first. Within 1e-6 of the exact value; NaN where
// a value is NaN or infinite.
class LogSumExp {
 public:
  void Add(const float* values, Index count);
  double value() const;

 private:
  double largest_ = -std::numeric_limits<double>::infinity();
  double sum_ = 0;  // of e^(value - largest_)
};

// values <- e^(value - log_sum): probabilities, where log_sum is the LogSumExp of all. A value
// above log_sum counts as log_sum. Pure; callable from any thread.
void ToProbabilities(double log_sum, float* values, Index count);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_KERNELS_LOG_SUM_EXP_H_
