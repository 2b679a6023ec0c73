// One step of gd against the machine's own rate.
//
// For the paper's size and for larger layers, prints the time of a step and, measured in turn with
// it in the same run on one thread:
//   sgemm_GFLOPS  OpenBLAS's rate on a 512 x 512 x 512 product
//   naive_GFLOP   the floating-point operations of a naive step:
//                 fused        4 n d (n + d) a batch
//                 projections  4 n d (heads + kv_heads) d_h + 6 heads n^2 d_h a batch
//   times_naive   time of the step over naive_GFLOP / sgemm_GFLOPS: 1 is a naive step at the full
//                 rate of GEMM; below 1 the causal half was left out
//
//   build/release/bin/gd_step_bench --benchmark_repetitions=5 --benchmark_report_aggregates_only
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "core/base/thread_pool.h"
#include "core/kernels/blas.h"
#include "core/methods/mask_descent.h"
#include "core/objective/attention_objective.h"
#include "core/problem/problem.h"
#include "tests/support/timing.h"

namespace attnprune {
namespace {

using testing::Clock;
using testing::Median;
using testing::SecondsSince;

constexpr double kSecondsInARow = 0.01;

Matrix Gaussian(Index rows, Index cols, float deviation, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0.0f, deviation);
  Matrix out(rows, cols);
  for (float& value : out.flat()) value = normal(generator);
  return out;
}

struct Size {
  Index d, n, k;
  Index heads = 0, kv_heads = 0, head_dim = 0;  // 0: fused

  double NaiveFlops() const {
    const double t = static_cast<double>(n), w = static_cast<double>(d);
    if (heads == 0) return static_cast<double>(k) * 4 * t * w * (t + w);
    const double dim = static_cast<double>(head_dim), h = static_cast<double>(heads);
    const double all = h + static_cast<double>(kv_heads);
    return static_cast<double>(k) * (4 * t * w * all * dim + 6 * h * t * t * dim);
  }

  Problem MakeProblem() const {
    Problem problem;
    // Logits of about unit variance, so that neither exp nor the softmax meets an easy case.
    const float deviation = 1.0f / static_cast<float>(d);
    if (heads == 0) {
      problem.weights = FusedWeights{Gaussian(d, d, deviation, 1), {}, {}};
    } else {
      ProjectionWeights layer;
      layer.w_q = Gaussian(heads * head_dim, d, 1.0f / std::sqrt(static_cast<float>(d)), 1);
      layer.w_k = Gaussian(kv_heads * head_dim, d, 1.0f / std::sqrt(static_cast<float>(d)), 2);
      layer.heads = heads;
      layer.kv_heads = kv_heads;
      layer.rope = Rope{};
      problem.weights = std::move(layer);
    }
    problem.calibration =
        Batches(Gaussian(k * n, d, 1.0f, 3), std::vector<Index>(static_cast<size_t>(k), n));
    return problem;
  }
};

// The largest product that both a small cache and a noisy neighbour leave at full speed.
class SgemmRate {
 public:
  void Measure() {
    const auto start = Clock::now();
    Gemm(Trans::kNo, Trans::kNo, 1.0f, a_, b_, 0.0f, c_);
    seconds_.push_back(SecondsSince(start));
  }
  double FlopsPerSecond() { return 2.0 * kSize * kSize * kSize / Median(seconds_); }

 private:
  static constexpr Index kSize = 512;
  Matrix a_ = Gaussian(kSize, kSize, 1.0f, 4), b_ = Gaussian(kSize, kSize, 1.0f, 5);
  Matrix c_{kSize, kSize};
  std::vector<double> seconds_;
};

void BM_GdStep(benchmark::State& state, const Size& size, int threads) {
  const Problem problem = size.MakeProblem();
  ThreadPool pool(threads);
  auto objective =
      AttentionObjective::Create(problem, problem.calibration, "calibration", pool).value();
  const HeavyBall step{1.0f / static_cast<float>(size.k), 0.9f, 1e-3f, false};
  MaskDescent descent(AttentionWeights(problem), *objective, pool, step, 0.05, 0);
  const auto steps = [&](int count) {
    const auto start = Clock::now();
    for (int i = 0; i < count; ++i) {
      const MaskDescent::Losses losses = descent.Evaluate();
      descent.Step(losses.total());
      if (!losses.finite) state.SkipWithError("the loss is not finite");
    }
    return SecondsSince(start) / count;
  };
  SgemmRate sgemm;
  std::vector<double> seconds;
  // As many steps in a row as leave the caches as a run does, between two measurements of sgemm.
  const int in_a_row = std::clamp(static_cast<int>(kSecondsInARow / steps(1)), 1, 1000);
  for (auto _ : state) {
    steps(1);  // the caches are the product's
    seconds.push_back(steps(in_a_row));
    state.SetIterationTime(seconds.back());
    sgemm.Measure();
  }
  const double rate = sgemm.FlopsPerSecond();
  state.counters["sgemm_GFLOPS"] = rate / 1e9;
  state.counters["naive_GFLOP"] = size.NaiveFlops() / 1e9;
  state.counters["times_naive"] = Median(seconds) * rate / size.NaiveFlops();
}

void Register(const char* name, const Size& size) {
  for (int threads : {1, 2}) {
    benchmark::RegisterBenchmark(
        (std::string("gd_step/") + name + "/threads:" + std::to_string(threads)).c_str(),
        [size, threads](benchmark::State& state) { BM_GdStep(state, size, threads); })
        ->UseManualTime()
        ->Unit(benchmark::kMillisecond);
  }
}

}  // namespace
}  // namespace attnprune

int main(int argc, char** argv) {
  using attnprune::Register;
  if (absl::Status status = attnprune::InitializeBlas(); !status.ok()) {
    std::fprintf(stderr, "%s\n", status.ToString().c_str());
    return 1;
  }
  Register("fused/d=64,n=128,k=16", {.d = 64, .n = 128, .k = 16});
  Register("fused/d=64,n=128,k=64", {.d = 64, .n = 128, .k = 64});
  Register("fused/d=2048,n=512,k=2", {.d = 2048, .n = 512, .k = 2});
  Register("projections/d=128,heads=8,kv=4,dh=16,n=128,k=16",
           {.d = 128, .n = 128, .k = 16, .heads = 8, .kv_heads = 4, .head_dim = 16});
  Register("projections/d=2048,heads=32,kv=8,dh=64,n=512,k=2",
           {.d = 2048, .n = 512, .k = 2, .heads = 32, .kv_heads = 8, .head_dim = 64});
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
