// wanda and sparsegpt against the products and the factorisation that they cannot do without.
//
//   baseline_time [--d=2048] [--tokens=2048] [--threads=1] [--rounds=5]
//
// One projection layer of d features: W_Q d x d, W_K d / 4 x d. Medians of rounds, all in one run:
//   sparsegpt against X'X, the factor of its inverse, and its products between blocks of inputs
//   wanda     has no product of its own; against X W_Q' and X W_K', the forward pass that its norms
//             are taken from where it is published
#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "core/base/thread_pool.h"
#include "core/kernels/blas.h"
#include "core/kernels/gram.h"
#include "core/methods/registry.h"
#include "core/methods/sparsegpt.h"
#include "core/problem/problem.h"
#include "tests/support/matrices.h"
#include "tests/support/timing.h"

ABSL_FLAG(int, d, 2048, "features");
ABSL_FLAG(int, tokens, 2048, "calibration tokens");
ABSL_FLAG(int, threads, 1, "threads");
ABSL_FLAG(int, rounds, 5, "rounds");

namespace attnprune {
namespace {

using testing::Clock;
using testing::GaussianMatrix;
using testing::Median;
using testing::SecondsSince;

constexpr Index kBlock = 128;  // SparseGPT's default

Problem MakeProblem() {
  const Index d = absl::GetFlag(FLAGS_d);
  Problem problem;
  ProjectionWeights layer;
  layer.w_q = GaussianMatrix(d, d, 1);
  layer.w_k = GaussianMatrix(d / 4, d, 2);
  layer.heads = 4;
  layer.kv_heads = 1;
  problem.weights = std::move(layer);
  const Index tokens = absl::GetFlag(FLAGS_tokens);
  problem.calibration = Batches(GaussianMatrix(tokens, d, 3), {tokens});
  problem.sparsity.fraction = 0.5;
  return problem;
}

template <typename Work>
double Seconds(Work work) {
  const auto start = Clock::now();
  work();
  return SecondsSince(start);
}

void Prune(const std::string& method, const Problem& problem) {
  const auto result =
      (*ParseMethod(method))->Prune(problem, {}, {.threads = absl::GetFlag(FLAGS_threads)});
  if (!result.ok()) std::fprintf(stderr, "%s\n", result.status().ToString().c_str());
}

// What SparseGPT's blocks do to the inputs after them.
void BlockProducts(MatrixView w, MatrixView u, ThreadPool& pool) {
  constexpr Index kRows = 64;
  Matrix weights = Matrix::CopyFrom(w);
  for (Index begin = 0; begin + kBlock < w.cols(); begin += kBlock) {
    const Index end = begin + kBlock;
    pool.ParallelFor((w.rows() + kRows - 1) / kRows, [&](Index i) {
      const Index first = i * kRows, rows = std::min(kRows, w.rows() - first);
      Gemm(Trans::kNo, Trans::kNo, -1.0f, w.Block(first, begin, rows, kBlock),
           u.Block(begin, end, kBlock, w.cols() - end), 1.0f,
           MutableMatrixView(weights).Block(first, end, rows, w.cols() - end));
    });
  }
}

void Forward(const Problem& problem, ThreadPool& pool) {
  constexpr Index kTokens = 256;
  const MatrixView x = problem.calibration.all();
  for (const NamedWeight& weight : AttentionWeights(problem)) {
    Matrix y(x.rows(), weight.dense.rows());
    pool.ParallelFor((x.rows() + kTokens - 1) / kTokens, [&](Index i) {
      const Index first = i * kTokens, rows = std::min(kTokens, x.rows() - first);
      Gemm(Trans::kNo, Trans::kYes, 1.0f, x.Rows(first, rows), weight.dense, 0.0f,
           MutableMatrixView(y).Rows(first, rows));
    });
  }
}

void Run() {
  const Problem problem = MakeProblem();
  ThreadPool pool(absl::GetFlag(FLAGS_threads));
  std::vector<double> wanda, forward, sparsegpt, gram, factor, blocks;
  for (int round = 0; round < absl::GetFlag(FLAGS_rounds); ++round) {
    wanda.push_back(Seconds([&] { Prune("wanda", problem); }));
    forward.push_back(Seconds([&] { Forward(problem, pool); }));
    sparsegpt.push_back(Seconds([&] { Prune("sparsegpt", problem); }));
    GramMatrix h(0);
    gram.push_back(Seconds([&] { h = Gram(problem.calibration.all(), pool); }));
    SparseGptInputs inputs;
    factor.push_back(Seconds([&] { inputs = PrepareSparseGpt(std::move(h), 0.01, pool).value(); }));
    blocks.push_back(Seconds([&] {
      for (const NamedWeight& weight : AttentionWeights(problem)) {
        BlockProducts(weight.dense, inputs.u, pool);
      }
    }));
  }
  const double own = Median(gram) + Median(factor) + Median(blocks);
  std::printf("sparsegpt %.0f ms; X'X %.0f, factor %.0f, products between blocks %.0f: %.2f x\n",
              1e3 * Median(sparsegpt), 1e3 * Median(gram), 1e3 * Median(factor),
              1e3 * Median(blocks), Median(sparsegpt) / own);
  std::printf("wanda %.0f ms; the forward pass %.0f: %.2f x\n", 1e3 * Median(wanda),
              1e3 * Median(forward), Median(wanda) / Median(forward));
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
