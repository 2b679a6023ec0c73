// How long a job takes beside what it is made of: one dense attention, one error pass a method, the
// methods themselves.
//
//   job_time [--d=2048] [--heads=32] [--batches=8] [--tokens=1024] [--threads=2] [--rounds=3]
//
// The layer and its tokens are random; nothing is held out. Prints the median of the rounds.
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "core/base/status_macros.h"
#include "core/judge/score.h"
#include "core/methods/registry.h"
#include "core/objective/prepared_problem.h"
#include "tests/support/matrices.h"
#include "tests/support/timing.h"

ABSL_FLAG(int, d, 2048, "features");
ABSL_FLAG(int, heads, 32, "query and key heads");
ABSL_FLAG(int, batches, 8, "calibration batches");
ABSL_FLAG(int, tokens, 1024, "of a batch");
ABSL_FLAG(int, threads, 2, "threads");
ABSL_FLAG(int, rounds, 3, "rounds");

namespace attnprune {
namespace {

using testing::Clock;
using testing::GaussianMatrix;
using testing::Median;
using testing::SecondsSince;

constexpr const char* kMethods[] = {"sparsegpt", "wanda", "magnitude"};

Problem MakeProblem() {
  const Index d = absl::GetFlag(FLAGS_d), tokens = absl::GetFlag(FLAGS_tokens);
  const Index batches = absl::GetFlag(FLAGS_batches);
  ProjectionWeights layer;
  layer.w_q = GaussianMatrix(d, d, 1);
  layer.w_k = GaussianMatrix(d, d, 2);
  for (Matrix* const w : {&layer.w_q, &layer.w_k}) {
    for (float& value : w->flat()) value *= 0.02f;
  }
  layer.heads = layer.kv_heads = absl::GetFlag(FLAGS_heads);
  layer.rope = Rope{};
  Problem problem;
  problem.weights = std::move(layer);
  problem.calibration = Batches(GaussianMatrix(batches * tokens, d, 3),
                                std::vector<Index>(static_cast<size_t>(batches), tokens));
  problem.sparsity = Sparsity::Fraction(0.5);
  return problem;
}

struct Times {
  double dense, error_passes = 0, methods = 0, job;
};

absl::StatusOr<Times> Measure(const Problem& problem) {
  Times times;
  const auto start = Clock::now();
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const auto prepared,
      PreparedProblem::Create(problem, {.threads = absl::GetFlag(FLAGS_threads)}));
  const auto dense = Clock::now();
  ATTNPRUNE_ASSIGN_OR_RETURN(AttentionObjective* const objective, prepared->Calibration());
  times.dense = SecondsSince(dense);
  ResultJudge judge(*prepared);
  std::vector<PruneResult> results;
  for (const char* name : kMethods) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const auto method, ParseMethod(name));
    ATTNPRUNE_ASSIGN_OR_RETURN(results.emplace_back(), method->Prune(*prepared));
    times.methods += results.back().seconds;
    ATTNPRUNE_RETURN_IF_ERROR(judge.Judge(results.back()).status());
  }
  times.job = SecondsSince(start);
  for (const PruneResult& result : results) {  // again, for their own time
    std::vector<MatrixView> weights;
    for (const PrunedMatrix& matrix : result.matrices) weights.emplace_back(matrix.weights);
    const auto pass = Clock::now();
    objective->Error(weights);
    times.error_passes += SecondsSince(pass);
  }
  return times;
}

absl::Status Run() {
  const Problem problem = MakeProblem();
  std::vector<double> dense, passes, methods, job, ratio;
  for (int round = 0; round < absl::GetFlag(FLAGS_rounds); ++round) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const Times times, Measure(problem));
    dense.push_back(times.dense);
    passes.push_back(times.error_passes);
    methods.push_back(times.methods);
    job.push_back(times.job);
    ratio.push_back(times.job / (times.dense + times.error_passes + times.methods));
  }
  std::printf("dense attention %.2f s, error passes %.2f s, methods %.2f s; job %.2f s, %.2f x\n",
              Median(dense), Median(passes), Median(methods), Median(job), Median(ratio));
  return absl::OkStatus();
}

}  // namespace
}  // namespace attnprune

int main(int argc, char** argv) {
  absl::ParseCommandLine(argc, argv);
  const absl::Status status = attnprune::Run();
  if (!status.ok()) std::fprintf(stderr, "%s\n", status.ToString().c_str());
  return status.ok() ? 0 : 1;
}
