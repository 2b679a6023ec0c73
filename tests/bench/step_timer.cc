// Times gd steps on demand, for compare.py and others, which do other things in between.
//
//   step_timer --folder=DIR --heads=H --kv_heads=G --threads=T
//
// DIR holds x.npy (k, n, d) and w.npy (d, d), or w_q.npy and w_k.npy in Hugging Face's layout. H =
// 0: fused. Commands on stdin, an answer a line on stdout:
//   loss      the attention loss at a mask of 0.9 everywhere
//   step N    seconds of one gd step, mean of N in a row
//   gd N E    seconds of one step of the method gd as the library runs it: N steps, the binary mask
//             evaluated every E of them (0: never)
//   sgemm N   floating-point operations a second of 512 x 512 x 512 products, N on each thread
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/strings/str_cat.h"
#include "core/base/thread_pool.h"
#include "core/io/npy.h"
#include "core/kernels/blas.h"
#include "core/methods/mask_descent.h"
#include "core/methods/registry.h"
#include "core/objective/attention_objective.h"
#include "core/problem/problem.h"
#include "tests/support/timing.h"

ABSL_FLAG(std::string, folder, "", "where the arrays are");
ABSL_FLAG(int, heads, 0, "query heads, 0 for the fused problem");
ABSL_FLAG(int, kv_heads, 0, "key heads");
ABSL_FLAG(int, threads, 1, "threads");

namespace attnprune {
namespace {

using testing::Clock;
using testing::SecondsSince;

NpyArray Read(const std::string& name) {
  const std::string path = absl::GetFlag(FLAGS_folder) + "/" + name + ".npy";
  absl::StatusOr<NpyArray> array = ReadNpy(path);
  if (array.ok()) return *std::move(array);
  std::fprintf(stderr, "%s\n", array.status().ToString().c_str());
  std::exit(1);
}

Problem ReadProblem() {
  Problem problem;
  if (absl::GetFlag(FLAGS_heads) == 0) {
    problem.weights = FusedWeights{Read("w").values, {}, {}};
  } else {
    ProjectionWeights layer;
    layer.w_q = Read("w_q").values;
    layer.w_k = Read("w_k").values;
    layer.heads = absl::GetFlag(FLAGS_heads);
    layer.kv_heads = absl::GetFlag(FLAGS_kv_heads);
    layer.rope = Rope{};
    problem.weights = std::move(layer);
  }
  NpyArray x = Read("x");
  std::vector<Index> lengths(static_cast<size_t>(x.shape[0]), x.shape[1]);
  problem.calibration = Batches(std::move(x.values), std::move(lengths));
  return problem;
}

class Timer {
 public:
  Timer()
      : problem_(ReadProblem()),
        pool_(absl::GetFlag(FLAGS_threads)),
        objective_(AttentionObjective::Create(problem_, problem_.calibration, "calibration", pool_)
                       .value()),
        descent_(AttentionWeights(problem_), *objective_, pool_,
                 {1.0f / static_cast<float>(problem_.calibration.count()), 0.9f, 1e-3f, false},
                 0.05, 0) {}

  double Loss() {
    std::vector<Matrix> pruned;
    for (const NamedWeight& weight : AttentionWeights(problem_)) {
      pruned.push_back(Matrix::CopyFrom(weight.dense));
      for (float& value : pruned.back().flat()) value *= 0.9f;
    }
    std::vector<Matrix> gradients(pruned.size());
    const std::vector<MatrixView> views(pruned.begin(), pruned.end());
    return objective_->LossAndGradient(views, absl::MakeSpan(gradients));
  }

  double Step(int count) {
    const auto start = Clock::now();
    for (int i = 0; i < count; ++i) descent_.Step(descent_.Evaluate().total());
    return SecondsSince(start) / count;
  }

  double Gd(int steps, int evaluate_every) {
    const auto method = ParseMethod(absl::StrCat("gd:steps=", steps));
    const PruneResult result =
        (*method)
            ->Prune(problem_, {.evaluate_every = evaluate_every}, {.threads = pool_.threads()})
            .value();
    return result.seconds / steps;
  }

  double Sgemm(int count) {
    constexpr Index kSize = 512;
    std::vector<Matrix> c;
    for (int i = 0; i < pool_.threads(); ++i) c.emplace_back(kSize, kSize);
    const Matrix a = Matrix::Constant(kSize, kSize, 0.5f), b = a.Clone();
    const auto start = Clock::now();
    pool_.ParallelFor(pool_.threads(), [&](Index i) {
      for (int r = 0; r < count; ++r) {
        Gemm(Trans::kNo, Trans::kNo, 1.0f, a, b, 0.0f, c[static_cast<size_t>(i)]);
      }
    });
    return 2.0 * kSize * kSize * kSize * count * pool_.threads() / SecondsSince(start);
  }

 private:
  const Problem problem_;
  ThreadPool pool_;
  const std::unique_ptr<AttentionObjective> objective_;
  MaskDescent descent_;
};

}  // namespace
}  // namespace attnprune

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  if (const absl::Status status = attnprune::InitializeBlas(); !status.ok()) {
    std::cerr << status << std::endl;
    return 1;
  }
  attnprune::Timer timer;
  std::cout.precision(9);
  for (std::string command; std::cin >> command;) {
    int count = 0;
    if (command == "step" && std::cin >> count) {
      std::cout << timer.Step(count) << std::endl;
    } else if (int every = 0; command == "gd" && std::cin >> count >> every) {
      std::cout << timer.Gd(count, every) << std::endl;
    } else if (command == "sgemm" && std::cin >> count) {
      std::cout << timer.Sgemm(count) << std::endl;
    } else if (command == "loss") {
      std::cout << timer.Loss() << std::endl;
    } else {
      std::cerr << "unknown command " << command << std::endl;
      return 2;
    }
  }
  return 0;
}
