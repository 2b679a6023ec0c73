#include "server/api/estimate.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <map>
#include <string>

#include "core/kernels/blas.h"
#include "core/methods/calibration_split.h"
#include "core/methods/registry.h"
#include "server/api/problem_check.h"
#include "server/execution/memory_plan.h"

namespace attnprune::api {
namespace {

constexpr double kFloat = 4, kDouble = 8;
constexpr double kSoftmaxOperations = 100;  // an entry: exp, maximum, sum, division
constexpr double kReachedRate = 0.5;
constexpr double kAnyJob = 8 << 20;  // bytes of a small job: events, results, the allocator's

// Sizes as doubles: an estimate may be rough, and must not overflow.
struct Layer {
  double features = 0;  // d
  double entries = 0;   // P
  double outputs = 0;   // R
  double heads = 1;     // H
  double head_dim = 0;  // h
  DenseAttention dense = DenseAttention::kKeep;

  bool rebuilds() const { return dense != DenseAttention::kKeep; }
  // Tokens stay in their file, and the dense projections exist for a chunk at a time.
  bool streams() const { return dense == DenseAttention::kRecompute; }
};

struct Data {
  double batches = 0;
  double tokens = 0;   // N
  double allowed = 0;  // A
  double longest = 0;  // n
};

Layer LayerOf(const v1::Problem& problem) {
  const double d = static_cast<double>(InputFeatures(problem));
  if (!problem.has_projections()) {
    return {.features = d, .entries = d * d, .outputs = d, .heads = 1, .head_dim = d};
  }
  const v1::ProjectionProblem& layer = problem.projections();
  const double outputs = static_cast<double>(layer.w_q().shape(0) + layer.w_k().shape(0));
  const double heads = static_cast<double>(layer.heads());
  return {.features = d,
          .entries = outputs * d,
          .outputs = outputs,
          .heads = heads,
          .head_dim = static_cast<double>(layer.w_q().shape(0)) / heads};
}

// Entries allowed in one batch of n tokens.
double Allowed(const v1::AttentionMask& mask, double n) {
  const double size = std::min(n, static_cast<double>(std::max<int64_t>(mask.size(), 1)));
  switch (mask.kind()) {
    case v1::FULL:
      return n * n;
    case v1::BLOCK: {
      const double blocks = std::floor(n / size), rest = n - blocks * size;
      return blocks * size * (size + 1) / 2 + rest * (rest + 1) / 2;
    }
    case v1::WINDOW:
      return size * (size + 1) / 2 + (n - size) * size;
    default:
      return n * (n + 1) / 2;
  }
}

Data DataOf(const v1::AttentionMask& mask,
            const google::protobuf::RepeatedPtrField<v1::TensorRef>& batches) {
  Data data;
  for (const v1::TensorRef& batch : batches) {
    const bool stacked = batch.shape_size() == 3;
    const double count = stacked ? static_cast<double>(batch.shape(0)) : 1;
    const double length = static_cast<double>(batch.shape(stacked ? 1 : 0));
    data.batches += count;
    data.tokens += count * length;
    data.allowed += count * Allowed(mask, length);
    data.longest = std::max(data.longest, length);
  }
  return data;
}

Data Part(const Data& data, double fraction) {
  Data part = data;
  part.batches *= fraction;
  part.tokens *= fraction;
  part.allowed *= fraction;
  return part;
}

double SoftmaxOperations(const Layer& layer, const Data& data) {
  return data.allowed * layer.heads * (2 * layer.head_dim + kSoftmaxOperations);
}

double LossOperations(const Layer& layer, const Data& data) {
  return (layer.streams() ? 4 : 2) * data.tokens * layer.entries +
         (layer.rebuilds() ? 2 : 1) * SoftmaxOperations(layer, data);
}

double GradientOperations(const Layer& layer, const Data& data) {
  return LossOperations(layer, data) + 2 * data.tokens * layer.entries +
         4 * data.allowed * layer.heads * layer.head_dim;
}

double LinearOperations(const Layer& layer, const Data& data) {
  const double d = layer.features;
  return 2 * data.tokens * d * d + 2 * d * d * d + 2 * layer.entries * d;
}

using Parameters = std::map<std::string, double>;

Parameters ParametersOf(const v1::Method& method) {
  return {method.parameters().begin(), method.parameters().end()};
}

// Gradients on all calibration batches that the steps of one kind amount to: those of a search
// learn from `batch` of them each.
double Gradients(const v1::Method& method, const char* steps, const char* batch,
                 const Data& calibration) {
  const Parameters parameters = ParametersOf(method);
  const double count = ValueOf(method.name(), parameters, steps).value_or(0);
  double per_step = ValueOf(method.name(), parameters, batch).value_or(calibration.batches);
  if (std::isnan(per_step)) {
    const auto batches = static_cast<Index>(std::min(calibration.batches, 1e9));
    per_step = static_cast<double>(DefaultBatchesPerStep(batches));
  }
  return count * std::min(per_step / std::max(calibration.batches, 1.0), 1.0);
}

double MethodOperations(const v1::Job& job, const v1::Method& method, const Layer& layer,
                        const Data& calibration, const Data& held_out) {
  const double losses = LossOperations(layer, calibration) + LossOperations(layer, held_out);
  const double scoring = 4 * losses;
  const Parameters parameters = ParametersOf(method);
  const double steps = StepsAtMost(method.name(), parameters);
  if (steps == 0) return LinearOperations(layer, calibration) + scoring;
  const int every = job.evaluate_every() == 0 ? DefaultEvaluateEvery(method.name(), parameters)
                                              : job.evaluate_every();
  const double evaluations = every < 0 ? 0 : std::ceil(steps / every);
  const double gradients = Gradients(method, "steps", "batch", calibration) +
                           Gradients(method, "refit_steps", "refit_batch", calibration);
  return gradients * GradientOperations(layer, calibration) + evaluations * losses + scoring;
}

double LargestInput(const v1::Job& job) {
  double largest = 0;
  for (const auto* batches : {&job.calibration(), &job.held_out()}) {
    for (const v1::TensorRef& batch : *batches) {
      double bytes = kDouble;
      for (const int64_t extent : batch.shape()) bytes *= static_cast<double>(extent);
      largest = std::max(largest, bytes);
    }
  }
  return largest;
}

// Matrices of a weight's size that a method with steps holds at its peak, which is a checkpoint of
// it. Counted by the memory that the server takes for W of 2048 x 2048.
double MatricesAtOnce(const v1::Method& method) {
  const Parameters parameters = ParametersOf(method);
  const auto has = [&](const char* parameter) {
    return ValueOf(method.name(), parameters, parameter).has_value();
  };
  if (has("refit_rate")) return 21;
  if (has("weight_rate")) return 20;  // a search that moves the weights too
  return has("score_rate") ? 15 : 13;
}

// Floats of one set of batches: its tokens, a chunk's projections and gradients, dense attention.
double DataFloats(const Layer& layer, const Data& data) {
  constexpr double kChunkFloats = 8 << 20, kPaddingOfARow = 32;
  const double chunk =
      std::min(data.tokens, std::max(data.longest, kChunkFloats / (layer.heads * layer.head_dim)));
  const double chunks_own = 2 * layer.outputs * chunk;
  const double row_sums = 2 * layer.heads * data.tokens;
  switch (layer.dense) {
    case DenseAttention::kKeep:
      return data.tokens * layer.features + chunks_own +
             layer.heads * (data.allowed + kPaddingOfARow * data.tokens);
    case DenseAttention::kRebuild:
      return data.tokens * (layer.features + layer.outputs) + chunks_own + row_sums;
    case DenseAttention::kRecompute:
      return chunks_own + layer.outputs * chunk + row_sums;
  }
  return 0;
}

double ScratchFloats(const Layer& layer, const Data& data, int threads) {
  constexpr double kTwoBlocksOfRows = 128;
  return threads * data.longest * (4 * layer.head_dim + kTwoBlocksOfRows);
}

// Whether it learns from some calibration batches and chooses by others, of which it has copies.
bool SplitsBatches(const v1::Method& method) {
  const Parameters parameters = ParametersOf(method);
  return ValueOf(method.name(), parameters, "validation").has_value() ||
         ValueOf(method.name(), parameters, "refit_validation").has_value();
}

double SolverBytes(const v1::Method& method, const Layer& layer, const Data& calibration) {
  const double copies =
      SplitsBatches(method) && !layer.streams() ? calibration.tokens * layer.features : 0;
  if (StepsAtMost(method.name(), ParametersOf(method)) > 0) {
    return kFloat * (MatricesAtOnce(method) * layer.entries + copies);
  }
  return kFloat * 10 * layer.entries + 2 * kDouble * layer.features * layer.features;
}

double MemoryBytes(const v1::Job& job, const Layer& layer, const Data& calibration,
                   const Data& held_out, int threads) {
  double solver = 0;
  for (const v1::Method& method : job.methods()) {
    solver = std::max(solver, SolverBytes(method, layer, calibration));
  }
  const double floats = DataFloats(layer, calibration) + DataFloats(layer, held_out) +
                        ScratchFloats(layer, calibration, threads) +
                        ScratchFloats(layer, held_out, threads);
  const double solving = kFloat * floats + solver;
  const double reading =
      layer.streams()
          ? 0
          : kFloat * layer.features * (calibration.tokens + held_out.tokens) + LargestInput(job);
  return std::max(solving, reading) + kAnyJob;
}

int64_t ToBytes(double bytes) {
  return bytes < 9e18 ? static_cast<int64_t>(bytes) : std::numeric_limits<int64_t>::max();
}

}  // namespace

MachineRate MeasureRate() {
  constexpr Index kSize = 512;
  constexpr int kRounds = 8;
  Matrix a(kSize, kSize), b(kSize, kSize), c(kSize, kSize);
  for (Matrix* const factor : {&a, &b}) {
    for (float& entry : factor->flat()) entry = 1.0f;
  }
  double best = std::numeric_limits<double>::infinity();
  for (int round = 0; round < kRounds; ++round) {
    const auto start = std::chrono::steady_clock::now();
    Gemm(Trans::kNo, Trans::kNo, 1.0f, a, b, 0.0f, c);
    best = std::min(
        best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  const double operations = 2.0 * kSize * kSize * kSize;
  return {.flops_per_second = operations / std::max(best, 1e-9)};
}

v1::Estimate EstimateJob(const v1::Job& job, const MachineRate& rate, int64_t budget) {
  Layer layer = LayerOf(job.problem());
  Data calibration = DataOf(job.problem().attention(), job.calibration());
  Data held_out = DataOf(job.problem().attention(), job.held_out());
  if (job.held_out_fraction() > 0) {
    held_out = Part(calibration, job.held_out_fraction());
    calibration = Part(calibration, 1 - job.held_out_fraction());
  }
  const auto peak = [&](DenseAttention dense) {
    layer.dense = dense;
    return ToBytes(MemoryBytes(job, layer, calibration, held_out, rate.threads));
  };
  v1::Estimate estimate;
  estimate.set_memory_keeping_attention_bytes(peak(DenseAttention::kKeep));
  estimate.set_memory_rebuilding_attention_bytes(peak(DenseAttention::kRebuild));
  estimate.set_memory_bytes(peak(WithinBudget(estimate, budget)));
  double operations = 0;
  for (const v1::Method& method : job.methods()) {
    operations += MethodOperations(job, method, layer, calibration, held_out);
  }
  estimate.set_seconds(operations / (kReachedRate * rate.flops_per_second));
  return estimate;
}

}  // namespace attnprune::api
