#include "server/api/estimate.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/base/thread_pool.h"
#include "core/kernels/gemm_rate.h"
#include "core/objective/attention_objective.h"
#include "server/execution/job_spec.h"

namespace attnprune::api {
namespace {

constexpr double kFloat = 4, kDouble = 8;
constexpr double kReachedRate = 0.5;
constexpr double kScoringLosses = 4;  // on all data, a method
constexpr double kAnyJob = 8 << 20;   // bytes of a small job: events, results, the allocator's

// Tokens stay in their file, and the dense projections exist for a chunk at a time.
bool Streams(DenseAttention dense) { return dense == DenseAttention::kRecompute; }

double LargestInput(const ProblemShape& shape) {
  double largest = 0;
  for (const auto* groups : {&shape.calibration, &shape.held_out}) {
    for (const BatchGroup& group : *groups) {
      largest = std::max(largest, kDouble * static_cast<double>(group.batches) *
                                      static_cast<double>(group.length) *
                                      static_cast<double>(group.features));
    }
  }
  return largest;
}

// One job in all ways that it can run.
class JobEstimate {
 public:
  JobEstimate(const CheckedJob& job, int threads)
      : job_(job),
        shape_(job.spec.shape),
        threads_(threads),
        calibration_(CalibrationSize(shape_)),
        held_out_(HeldOutSize(shape_)) {}

  double Bytes(DenseAttention dense) const;
  double Operations(DenseAttention dense) const;

 private:
  double MethodsBytes(DenseAttention dense) const;

  const CheckedJob& job_;
  const ProblemShape& shape_;
  const int threads_;
  const DataSize calibration_, held_out_;
};

// The methods one after the other, each judged by second moments that are kept from the first
// judgement on, or made for each use.
double JobEstimate::MethodsBytes(DenseAttention dense) const {
  constexpr double kFloatsOfAResult = 4;  // a weight: its own, as stored, under either mask
  const double features = static_cast<double>(shape_.features());
  const double moments = kDouble * features * features;
  const double sides = held_out_.tokens > 0 ? 2 : 1;
  const double judging = kFloat * kFloatsOfAResult * Entries(shape_) +
                         (dense == DenseAttention::kKeep ? sides * moments : moments);
  double most = judging, kept = 0;
  for (const ChosenMethod& method : job_.methods) {
    const double used = method.info->uses_moments ? moments : 0;
    most = std::max(
        most, method.info->bytes(shape_, method.values, dense, threads_) + std::max(kept, used));
    if (dense == DenseAttention::kKeep) kept = sides * moments;
  }
  return most;
}

double JobEstimate::Bytes(DenseAttention dense) const {
  const double data = ObjectiveBytes(shape_, calibration_, dense, threads_) +
                      ObjectiveBytes(shape_, held_out_, dense, threads_);
  const double reading = Streams(dense) ? 0
                                        : kFloat * static_cast<double>(shape_.features()) *
                                                  (calibration_.tokens + held_out_.tokens) +
                                              LargestInput(shape_);
  return std::max(data + MethodsBytes(dense), reading) + kAnyJob;
}

double JobEstimate::Operations(DenseAttention dense) const {
  const double losses =
      LossOperations(shape_, calibration_, dense) + LossOperations(shape_, held_out_, dense);
  double operations = 0;
  for (const ChosenMethod& method : job_.methods) {
    const int steps = method.StepsAtMost(), every = EvaluateEvery(job_.spec, steps);
    const double evaluations = every == 0 ? 0 : std::ceil(static_cast<double>(steps) / every);
    operations += method.info->operations(shape_, method.values, dense) +
                  (evaluations + kScoringLosses) * losses;
  }
  return operations;
}

int64_t ToBytes(double bytes) {
  return bytes < 9e18 ? static_cast<int64_t>(bytes) : std::numeric_limits<int64_t>::max();
}

}  // namespace

MachineRate MeasureRate() {
  ThreadPool one(1);
  return {.flops_per_second = MeasureGemmRate(one)};
}

v1::Estimate EstimateJob(const CheckedJob& job, const MachineRate& rate, int64_t budget) {
  const JobEstimate needs(job, rate.threads);
  v1::Estimate estimate;
  estimate.set_memory_keeping_attention_bytes(ToBytes(needs.Bytes(DenseAttention::kKeep)));
  estimate.set_memory_rebuilding_attention_bytes(ToBytes(needs.Bytes(DenseAttention::kRebuild)));
  const DenseAttention dense = WithinBudget(estimate, budget);
  estimate.set_memory_bytes(ToBytes(needs.Bytes(dense)));
  estimate.set_seconds(needs.Operations(dense) / (kReachedRate * rate.flops_per_second));
  return estimate;
}

}  // namespace attnprune::api
