#include "core/kernels/log_sum_exp.h"

#include <algorithm>
#include <cmath>

#include "core/kernels/lanes.h"

namespace attnprune {
namespace {

// sum of e^(value - largest), no value above it. Runs of 64 vectors are summed in float32, the runs
// in float64.
double SumOfExponentials(const float* values, Index count, float largest) {
  constexpr Index kRun = 64 * kLanes;
  const Index whole = FloorToLanes(count);
  double total = 0;
  for (Index first = 0; first < whole; first += kRun) {
    Lanes sum{};
    for (Index i = first; i < std::min(first + kRun, whole); i += kLanes) {
      sum += ExpNonPositive(LoadLanes(values + i) - largest);
    }
    total += static_cast<double>(SumLanes(sum));
  }
  for (Index i = whole; i < count; ++i) {
    total += std::exp(static_cast<double>(values[i]) - static_cast<double>(largest));
  }
  return total;
}

float Largest(const float* values, Index count) {
  const Index whole = FloorToLanes(count);
  Lanes lanes = Broadcast(-std::numeric_limits<float>::infinity());
  for (Index i = 0; i < whole; i += kLanes) lanes = Max(LoadLanes(values + i), lanes);
  float largest = MaxLanes(lanes);
  for (Index i = whole; i < count; ++i) largest = std::max(largest, values[i]);
  return largest;
}

}  // namespace

void LogSumExp::Add(const float* values, Index count) {
  const float largest = Largest(values, count);
  const double sum = SumOfExponentials(values, count, largest);
  const double above = std::max(largest_, static_cast<double>(largest));
  sum_ = sum_ == 0 ? 0 : sum_ * std::exp(largest_ - above);
  sum_ += sum * std::exp(static_cast<double>(largest) - above);
  largest_ = above;
}

double LogSumExp::value() const { return largest_ + std::log(sum_); }

void ToProbabilities(double log_sum, float* values, Index count) {
  const auto shift = static_cast<float>(log_sum);
  const auto rest = static_cast<float>(std::exp(static_cast<double>(shift) - log_sum));
  const auto probability = [=](Lanes v) {
    const Lanes below = v - shift;
    return ExpNonPositive(below > 0.0f ? Lanes{} : below) * rest;
  };
  const Index whole = FloorToLanes(count);
  for (Index j = 0; j < whole; j += kLanes) {
    StoreLanes(values + j, probability(LoadLanes(values + j)));
  }
  Lanes tail{};
  for (Index j = whole; j < count; ++j) tail[j - whole] = values[j];
  tail = probability(tail);
  for (Index j = whole; j < count; ++j) values[j] = tail[j - whole];
}

}  // namespace attnprune
