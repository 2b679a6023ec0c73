#include "core/methods/attention_cost.h"

namespace attnprune {
namespace {

constexpr double kSoftmaxOperations = 100;  // an entry: exp, maximum, sum, division

double HeadsOperations(const ProblemShape& shape, const DataSize& data, double per_entry) {
  return data.allowed * static_cast<double>(shape.heads()) * per_entry;
}

}  // namespace

double Entries(const ProblemShape& shape) {
  return static_cast<double>(shape.features()) * static_cast<double>(shape.outputs());
}

double LossOperations(const ProblemShape& shape, const DataSize& data, DenseAttention dense) {
  const double head_dim = static_cast<double>(shape.head_dim());
  const double products = dense == DenseAttention::kRecompute ? 4 : 2;
  const double attentions = dense == DenseAttention::kKeep ? 1 : 2;
  return products * data.tokens * Entries(shape) +
         attentions * HeadsOperations(shape, data, 2 * head_dim + kSoftmaxOperations);
}

double GradientOperations(const ProblemShape& shape, const DataSize& data, DenseAttention dense) {
  return LossOperations(shape, data, dense) + 2 * data.tokens * Entries(shape) +
         HeadsOperations(shape, data, 4 * static_cast<double>(shape.head_dim()));
}

}  // namespace attnprune
