// alps on one linear map with and without the metric of its outputs, and its products against
// sgemm.
//
//   alps_time [--outputs=2048] [--inputs=2048] [--block=2048] [--threads=2] [--sparsity=0.7]
//             [--rounds=5]
//
// block: outputs in a block of the metric at most. Shares of sgemm's rate are medians of rounds,
// each of which measures both.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/functional/function_ref.h"
#include "core/base/thread_pool.h"
#include "core/kernels/blas.h"
#include "core/kernels/gemm_rate.h"
#include "core/kernels/gram.h"
#include "core/methods/coupled_system.h"
#include "core/methods/linear_problem.h"
#include "core/methods/methods.h"
#include "core/methods/output_metric.h"
#include "tests/support/matrices.h"
#include "tests/support/timing.h"

ABSL_FLAG(int, outputs, 2048, "outputs of the map");
ABSL_FLAG(int, inputs, 2048, "inputs of the map");
ABSL_FLAG(int, block, 2048, "outputs in a block of the metric");
ABSL_FLAG(int, threads, 2, "threads");
ABSL_FLAG(double, sparsity, 0.7, "sparsity");
ABSL_FLAG(int, rounds, 5, "rounds");

namespace attnprune {
namespace {

using testing::Clock;
using testing::GaussianMatrix;
using testing::Median;
using testing::SecondsSince;

// Second moments of `size` features that go together.
GramMatrix Moments(Index size, unsigned seed, ThreadPool& pool) {
  Matrix x = GaussianMatrix(size + size / 2, size, seed);
  for (Index t = 0; t < x.rows(); ++t) {
    for (Index j = 1; j < size; ++j) x(t, j) += 0.8f * x(t, j - 1);
  }
  return Gram(x, pool);
}

OutputCurvature MakeCurvature(Index outputs, ThreadPool& pool) {
  OutputCurvature curvature;
  const Index block = absl::GetFlag(FLAGS_block);
  for (Index first = 0; first < outputs; first += block) {
    const Index size = std::min(block, outputs - first);
    curvature.blocks.push_back(
        {.first = first, .moments = Moments(size, 5 + static_cast<unsigned>(first), pool)});
  }
  return curvature;
}

double Seconds(absl::FunctionRef<void()> work) {
  const auto start = Clock::now();
  work();
  return SecondsSince(start);
}

// As many operations by sgemm alone, of a size that suits it, on all threads.
double SgemmSeconds(double operations, ThreadPool& pool) {
  constexpr Index kSize = 512;
  const Matrix a = Matrix::Constant(kSize, kSize, 1.0f), b = a.Clone();
  std::vector<Matrix> products;
  for (Index i = 0; i < pool.threads(); ++i) products.emplace_back(kSize, kSize);
  const double count = std::max(1.0, operations / (2.0 * kSize * kSize * kSize));
  const auto of_thread = static_cast<int>(std::ceil(count / pool.threads()));
  const double seconds = Seconds([&] {
    pool.ParallelFor(pool.threads(), [&](Index thread) {
      for (int i = 0; i < of_thread; ++i) {
        Gemm(Trans::kNo, Trans::kNo, 1.0f, a, b, 0.0f, products[static_cast<size_t>(thread)]);
      }
    });
  });
  return seconds * operations / (2.0 * kSize * kSize * kSize * of_thread * pool.threads());
}

void PrintShare(const char* name, double operations, ThreadPool& pool,
                absl::FunctionRef<void()> work) {
  std::vector<double> shares;
  for (int round = 0; round < absl::GetFlag(FLAGS_rounds); ++round) {
    const double sgemm = SgemmSeconds(operations, pool);
    shares.push_back(sgemm / Seconds(work));
  }
  std::printf("%s: %.2f of sgemm's rate\n", name, Median(shares));
  std::fflush(stdout);
}

class LastStep final : public ProgressObserver {
 public:
  Verdict OnStep(const StepStats& stats, const Resumable&) override {
    seconds = stats.seconds;
    return Verdict::kContinue;
  }
  double seconds = 0;
};

double Prune(const char* name, const LinearProblem& problem, ThreadPool& pool) {
  const auto alps = ParseMethod("alps").value();
  LastStep last;
  const PruneResult result = alps->PruneLinear(problem, pool, {}, last).value();
  std::printf("alps %s: %.2f s, of which %d steps %.2f s\n", name, result.seconds, result.steps,
              last.seconds);
  return result.seconds;
}

void Run() {
  ThreadPool pool(absl::GetFlag(FLAGS_threads));
  const Index n = absl::GetFlag(FLAGS_outputs), d = absl::GetFlag(FLAGS_inputs);
  LinearInputs inputs(Moments(d, 1, pool));
  const OutputCurvature curvature = MakeCurvature(n, pool);
  const Matrix w = GaussianMatrix(n, d, 2);
  std::printf("sgemm: %.0f GFLOP/s\n", MeasureGemmRate(pool) / 1e9);

  const double alone = Seconds([&] { (void)inputs.Alps(0.01).value(); });
  OutputMetric metric;
  const double both = Seconds([&] {
    LinearInputs again(inputs.moments());
    metric = PrepareMetric(curvature, 0.9, pool, [&] { (void)again.Alps(0.01).value(); }).value();
  });
  std::printf("eigenvectors: of the inputs %.2f s, of both sides %.2f s\n", alone, both);

  CoupledSystem system(*inputs.Alps(0.01).value(), metric, pool);
  double pair = 0;
  for (const OutputMetric::Block& block : metric.blocks) {
    const double of_block = static_cast<double>(block.b.h.rows());
    pair += 2 * of_block * static_cast<double>(d) * (static_cast<double>(d) + of_block);
  }
  Matrix out(n, d);
  PrintShare("B x H", pair, pool, [&] { system.Multiply(w, out); });
  PrintShare("a step's solution", 2 * pair, pool, [&] { system.Solve(w, 0.1f, out); });

  LinearProblem problem{.maps = {{"w", w, /*inputs_are_rows=*/false}},
                        .inputs = inputs,
                        .sparsity = Sparsity::Fraction(absl::GetFlag(FLAGS_sparsity))};
  const double plain = Prune("without metric", problem, pool);
  problem.curvature = &curvature;
  std::printf("%.2f x\n", Prune("with metric", problem, pool) / (plain + alone));
}

}  // namespace
}  // namespace attnprune

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  if (const absl::Status status = attnprune::InitializeBlas(); !status.ok()) {
    std::fprintf(stderr, "%s\n", status.ToString().c_str());
    return 1;
  }
  attnprune::Run();
  return 0;
}
