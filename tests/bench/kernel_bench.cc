// The kernels that a step is made of, one by one.
//
//   attention/...   loss and gradient of one causal head; GFLOPS counts the exact half of the
//   products pack/...        its keys into panels select/...      the mask of a search's step: the
//   smallest half of a matrix of scores mask_step/...   the element-wise half of a gd step gram/...
//   X'X in float64 sums; GFLOPS counts the lower triangle sgemm/512       OpenBLAS, for comparison
//
//   build/release/bin/kernel_bench --benchmark_filter=attention
#include <benchmark/benchmark.h>

#include <cmath>
#include <cstdio>
#include <string>
#include <vector>

#include "core/base/thread_pool.h"
#include "core/kernels/attention.h"
#include "core/kernels/blas.h"
#include "core/kernels/descent.h"
#include "core/kernels/gram.h"
#include "core/kernels/select.h"
#include "tests/support/matrices.h"

namespace attnprune {
namespace {

using testing::GaussianMatrix;

void SetRate(benchmark::State& state, double operations) {
  state.counters["GFLOPS"] =
      benchmark::Counter(1e-9 * operations, benchmark::Counter::kIsIterationInvariantRate);
}

AttentionLayout Causal(Index tokens) {
  std::vector<KeyRange> ranges;
  for (Index i = 0; i < tokens; ++i) ranges.push_back({0, i + 1});
  return AttentionLayout(std::move(ranges));
}

enum class KeyGradient { kNo, kYes };

void BM_Attention(benchmark::State& state, const AttentionKernels& kernels, KeyGradient keys) {
  const Index n = state.range(0), width = state.range(1);
  const AttentionLayout layout = Causal(n);
  const Matrix a = GaussianMatrix(n, width, 1), b = GaussianMatrix(n, width, 2),
               dense = GaussianMatrix(n, width, 3);
  Matrix d_a(n, width), d_b(n, width), packed(1, layout.packed_size());
  Matrix room(1, KeyPanelFloats(n, width, PanelUse::kGradients));
  Matrix scratch(1, AttentionScratchSize(layout, width));
  const KeyPanels panels = PackKeys(b, PanelUse::kGradients, room.data());
  const float scale = 1.0f / std::sqrt(static_cast<float>(width));
  kernels.dense(HeadOf(layout, dense, panels, scale), scratch.data(), packed.data(), nullptr,
                nullptr);
  const AttentionHead head = HeadOf(layout, a, panels, scale);
  const DenseRows rows = {.packed = packed.data()};
  const ScopedFlushDenormals flush;
  for (auto _ : state) {
    benchmark::DoNotOptimize(kernels.loss_gradient(head, rows, scratch.data(), d_a.data(), width,
                                                   keys == KeyGradient::kYes ? d_b.data() : nullptr,
                                                   width));
  }
  const double half = 0.5 * static_cast<double>(n * (n + 1));
  SetRate(state, 2 * half * static_cast<double>(width) * (keys == KeyGradient::kYes ? 3 : 2));
}

void BM_Pack(benchmark::State& state) {
  const Index n = state.range(0), width = state.range(1);
  const Matrix b = GaussianMatrix(n, width, 1);
  Matrix room(1, KeyPanelFloats(n, width, PanelUse::kGradients));
  for (auto _ : state) {
    benchmark::DoNotOptimize(PackKeys(b, PanelUse::kGradients, room.data()));
    benchmark::ClobberMemory();
  }
}

void BM_Select(benchmark::State& state) {
  const Index d = state.range(0);
  ThreadPool pool(static_cast<int>(state.range(1)));
  const Matrix scores = GaussianMatrix(d, d, 1);
  Matrix mask(d, d);
  for (auto _ : state) PruneSmallestInto(scores, scores.size() / 2, pool, mask);
}

void BM_MaskStep(benchmark::State& state) {
  const Index d = state.range(0);
  const Matrix weights = GaussianMatrix(d, d, 1), mask = GaussianMatrix(d, d, 2);
  Matrix gradient = GaussianMatrix(d, d, 3), velocity(d, d), next(d, d), pruned(d, d);
  const HeavyBall step = {0.1f, 0.9f, 1e-3f, false};
  for (auto _ : state) {
    benchmark::DoNotOptimize(GradientInMask(weights.flat(), mask.flat(), 0.05f, gradient.flat()));
    HeavyBallStep(step, std::as_const(gradient).flat(), mask.flat(), weights.flat(),
                  velocity.flat(), next.flat(), pruned.flat());
  }
}

void BM_Gram(benchmark::State& state) {
  const Index tokens = state.range(0), d = state.range(1);
  ThreadPool pool(1);
  const Matrix x = GaussianMatrix(tokens, d, 1);
  for (auto _ : state) benchmark::DoNotOptimize(Gram(x, pool));
  SetRate(state, static_cast<double>(tokens) * static_cast<double>(d * (d + 1)));
}

void BM_Sgemm(benchmark::State& state) {
  constexpr Index kSize = 512;
  const Matrix a = GaussianMatrix(kSize, kSize, 1), b = GaussianMatrix(kSize, kSize, 2);
  Matrix c(kSize, kSize);
  for (auto _ : state) Gemm(Trans::kNo, Trans::kNo, 1.0f, a, b, 0.0f, c);
  SetRate(state, 2.0 * kSize * kSize * kSize);
}

void RegisterAttention(const AttentionKernels& kernels) {
  for (const KeyGradient keys : {KeyGradient::kNo, KeyGradient::kYes}) {
    const char* const what = keys == KeyGradient::kYes ? "projections" : "fused";
    benchmark::RegisterBenchmark(
        (std::string("attention/") + kernels.name + "/" + what).c_str(),
        [&kernels, keys](benchmark::State& state) { BM_Attention(state, kernels, keys); })
        ->ArgNames({"n", "width"})
        ->ArgsProduct({{128, 512, 2048}, {16, 64, 128}})
        ->Unit(benchmark::kMicrosecond);
  }
}

void RegisterAll() {
  RegisterAttention(kAttentionKernelsAvx2);
  if (&AttentionKernelsOfThisCpu() == &kAttentionKernelsAvx512) {
    RegisterAttention(kAttentionKernelsAvx512);
  }
  benchmark::RegisterBenchmark("pack", BM_Pack)
      ->ArgNames({"n", "width"})
      ->ArgsProduct({{128, 2048}, {16, 64}})
      ->Unit(benchmark::kMicrosecond);
  benchmark::RegisterBenchmark("select", BM_Select)
      ->ArgNames({"d", "threads"})
      ->ArgsProduct({{128, 2048}, {1, 2}})
      ->UseRealTime()
      ->Unit(benchmark::kMicrosecond);
  benchmark::RegisterBenchmark("mask_step", BM_MaskStep)
      ->ArgName("d")
      ->Arg(64)
      ->Arg(2048)
      ->Unit(benchmark::kMicrosecond);
  benchmark::RegisterBenchmark("gram", BM_Gram)
      ->ArgNames({"tokens", "d"})
      ->Args({2048, 2048})
      ->Unit(benchmark::kMillisecond);
  benchmark::RegisterBenchmark("sgemm/512", BM_Sgemm)->Unit(benchmark::kMicrosecond);
}

}  // namespace
}  // namespace attnprune

int main(int argc, char** argv) {
  if (absl::Status status = attnprune::InitializeBlas(); !status.ok()) {
    std::fprintf(stderr, "%s\n", status.ToString().c_str());
    return 1;
  }
  attnprune::RegisterAll();
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
