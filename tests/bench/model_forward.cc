// How fast a whole model's forward pass is beside sgemm's rate on its products, and what memory it
// takes. Random token ids.
//
//   model_forward --model=DIR [--sequences=8] [--tokens=512] [--threads=2] [--rounds=1]
//   [--backward] [--curvature]
//
// With --backward also the pass back, from labels drawn from the model to the input of layer 0;
// with --curvature all that B and R of every layer cost, of one draw: forward, back, and the sums.
// Both are float32 in any case.
// Prints seconds, the share of the sgemm rate (products of 1024 x 2048 x 2048 on all threads at
// once, in this process, before and after), and the peak of resident memory.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/status/statusor.h"
#include "core/base/status_macros.h"
#include "core/kernels/blas.h"
#include "core/model/forward.h"
#include "core/model/head_backward.h"
#include "core/model/layer_backward.h"
#include "core/model/model_pass.h"
#include "core/sequential/curvature.h"
#include "tests/support/timing.h"

ABSL_FLAG(std::string, model, "", "Hugging Face folder");
ABSL_FLAG(int, sequences, 8, "sequences");
ABSL_FLAG(int, tokens, 512, "of a sequence");
ABSL_FLAG(int, threads, 2, "threads");
ABSL_FLAG(int, rounds, 1, "rounds");
ABSL_FLAG(bool, bf16, false, "products in bf16");
ABSL_FLAG(bool, backward, false, "the pass back too");
ABSL_FLAG(bool, curvature, false, "the curvature too");

namespace attnprune {
namespace {

using testing::Clock;
using testing::SecondsSince;

// Operations a second, of all threads together.
double SgemmRate(ThreadPool& pool) {
  constexpr Index kRows = 1024, kSize = 2048;
  const int threads = pool.threads();
  std::vector<Matrix> a, b, c;
  for (int i = 0; i < threads; ++i) {
    a.push_back(Matrix::Constant(kRows, kSize, 0.5f));
    b.push_back(Matrix::Constant(kSize, kSize, 0.25f));
    c.emplace_back(kRows, kSize);
  }
  const auto multiply = [&] {
    pool.ParallelFor(threads, [&](Index i) {
      const auto at = static_cast<size_t>(i);
      Gemm(Trans::kNo, Trans::kYes, 1.0f, a[at], b[at], 0.0f, c[at]);
    });
  };
  multiply();
  double best = 1e30;
  for (int round = 0; round < 5; ++round) {
    const auto begin = Clock::now();
    multiply();
    best = std::min(best, SecondsSince(begin));
  }
  return 2.0 * threads * kRows * kSize * kSize / best;
}

// Resident memory at its highest, without that of a parent that forked this process.
double PeakMebibytes() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) return std::strtod(line.c_str() + 6, nullptr) / 1024;
  }
  return 0;
}

// Of all products: linear maps, head, and the allowed half of q k' and f v.
double Operations(const ModelOptions& o, double sequences, double tokens) {
  const auto d = static_cast<double>(o.hidden_size), ffn = static_cast<double>(o.ffn);
  const auto q = static_cast<double>(o.heads * o.head_dim);
  const auto kv = static_cast<double>(o.kv_heads * o.head_dim);
  const double maps = d * q * 2 + 2 * d * kv + (o.mlp == MlpKind::kPlain ? 2 : 3) * d * ffn;
  const double attention = 2 * 2 * tokens * tokens / 2 * q;
  const auto layers = static_cast<double>(o.layer_count());
  return sequences *
         (layers * (2 * tokens * maps + attention) + 2 * tokens * d * static_cast<double>(o.vocab));
}

struct BackwardSeconds {
  double head = 0, layers = 0;
};

absl::StatusOr<BackwardSeconds> RunBackward(Forward& forward, const Tokens& tokens) {
  const ModelOptions& options = forward.options();
  std::vector<Matrix> inputs;
  Matrix x(tokens.total(), options.hidden_size), gradient(tokens.total(), options.hidden_size);
  ATTNPRUNE_RETURN_IF_ERROR(forward.Embed(tokens, x));
  for (Index layer = 0; layer < options.layer_count(); ++layer) {
    inputs.push_back(x.Clone());
    ATTNPRUNE_RETURN_IF_ERROR(forward.RunLayer(layer, tokens.lengths, x));
  }
  BackwardSeconds seconds;
  auto begin = Clock::now();
  ATTNPRUNE_RETURN_IF_ERROR(
      SampledLabelGradient(forward, tokens.lengths, {}, x, gradient).status());
  seconds.head = SecondsSince(begin);
  begin = Clock::now();
  LayerBackward backward(options, forward.pool());
  LayerWeights weights;
  for (Index layer = options.layer_count() - 1; layer >= 0; --layer) {
    ATTNPRUNE_RETURN_IF_ERROR(forward.weights().LoadLayer(layer, forward.pool(), weights));
    backward.Run(layer, weights, tokens.lengths, inputs[static_cast<size_t>(layer)], gradient);
  }
  seconds.layers = SecondsSince(begin);
  return seconds;
}

int PrintBackward(Forward& forward, const Tokens& tokens, double forward_seconds) {
  const auto back = RunBackward(forward, tokens);
  if (!back.ok()) return 1;
  std::printf("back: head %.2f s, layers %.2f s, together %.2f forward passes; peak %.0f MiB\n",
              back->head, back->layers, (back->head + back->layers) / forward_seconds,
              PeakMebibytes());
  return 0;
}

int PrintCurvature(Forward& forward, const Tokens& tokens, double forward_seconds, double rate) {
  const CurvatureOptions options{.output = true};
  const auto sink = [](Index, const LayerWeights&, const LayerCurvature&) {
    return absl::OkStatus();
  };
  const auto begin = Clock::now();
  const auto pass = CurvaturePass::Create(forward, forward.pool(), tokens, options, {});
  if (!pass.ok() || !(*pass)->Run(nullptr, sink).ok()) return 1;
  const double seconds = SecondsSince(begin);
  const double operations =
      EstimateCurvature(forward.options(), tokens.lengths, options).operations;
  std::printf("curvature: %.2f s, %.2f forward passes, %.2f of sgemm's rate; peak %.0f MiB\n",
              seconds, seconds / forward_seconds, operations / seconds / rate, PeakMebibytes());
  return 0;
}

int Main() {
  ThreadPool pool(absl::GetFlag(FLAGS_threads));
  const auto opened = Forward::Open(absl::GetFlag(FLAGS_model), pool,
                                    absl::GetFlag(FLAGS_bf16) ? Compute::kBf16 : Compute::kFloat32);
  if (!opened.ok()) {
    std::fprintf(stderr, "%s\n", opened.status().ToString().c_str());
    return 1;
  }
  Forward& forward = **opened;
  const Index sequences = absl::GetFlag(FLAGS_sequences), length = absl::GetFlag(FLAGS_tokens);
  Tokens tokens;
  std::mt19937 random(1);
  for (Index i = 0; i < sequences * length; ++i) {
    tokens.ids.push_back(
        static_cast<int64_t>(random() % static_cast<uint32_t>(forward.options().vocab)));
  }
  tokens.lengths.assign(static_cast<size_t>(sequences), length);
  double rate = SgemmRate(pool), best = 1e30, mean = 0;
  for (int round = 0; round < absl::GetFlag(FLAGS_rounds); ++round) {
    const auto begin = Clock::now();
    const auto losses = TokenLosses(forward, tokens);
    best = std::min(best, SecondsSince(begin));
    if (!losses.ok()) return 1;
    mean = Summarize(*losses).nats_per_token;
  }
  rate = (rate + SgemmRate(pool)) / 2;
  const double operations =
      Operations(forward.options(), static_cast<double>(sequences), static_cast<double>(length));
  std::printf("%.2f s, %.0f GFLOP/s, %.2f of sgemm's %.0f; %.4f nats a token; peak %.0f MiB\n",
              best, operations / best / 1e9, operations / best / rate, rate / 1e9, mean,
              PeakMebibytes());
  int status = 0;
  if (absl::GetFlag(FLAGS_backward)) status = PrintBackward(forward, tokens, best);
  if (absl::GetFlag(FLAGS_curvature)) status += PrintCurvature(forward, tokens, best, rate);
  return status;
}

}  // namespace
}  // namespace attnprune

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  return attnprune::Main();
}
