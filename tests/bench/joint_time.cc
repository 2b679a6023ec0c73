// How long `joint` takes at its defaults, or another method, beside one 100-step run of `gd`, on
// the same layer, with and without reports of errors on the way. The runs alternate: machines
// drift.
#include <algorithm>
#include <exception>
#include <iostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "core/base/status_macros.h"
#include "core/kernels/blas.h"
#include "core/methods/registry.h"
#include "core/model/attention_layer.h"
#include "core/problem/load_batches.h"
#include "tests/support/timing.h"

ABSL_FLAG(std::string, model, "data/tiny-llama", "folder of a Hugging Face model");
ABSL_FLAG(std::string, data, "data/tiny-llama",
          "folder of calibration.safetensors and held_out.safetensors");
ABSL_FLAG(int, layer, 1, "of the model");
ABSL_FLAG(int, batches, 0, "calibration batches, the first ones; 0: all");
ABSL_FLAG(int, rounds, 5, "runs of each");
ABSL_FLAG(std::string, method, "joint", "beside gd");
ABSL_FLAG(int, threads, 1, "of every run");

namespace attnprune {
namespace {

using testing::Median;

enum class Reports { kNone, kDefault };

absl::StatusOr<Problem> LoadProblem() {
  const int layer = absl::GetFlag(FLAGS_layer);
  const std::string tensor = absl::StrCat("model.layers.", layer, ".self_attn.input");
  const std::string folder = absl::GetFlag(FLAGS_data);
  ATTNPRUNE_ASSIGN_OR_RETURN(AttentionLayer loaded,
                             LoadAttentionLayer(absl::GetFlag(FLAGS_model), layer));
  Problem problem;
  problem.weights = std::move(loaded.weights);
  problem.attention = loaded.attention;
  ATTNPRUNE_ASSIGN_OR_RETURN(const Batches all,
                             LoadBatches(folder + "/calibration.safetensors", tensor));
  ATTNPRUNE_ASSIGN_OR_RETURN(problem.held_out,
                             LoadBatches(folder + "/held_out.safetensors", tensor));
  const Index wanted = absl::GetFlag(FLAGS_batches);
  std::vector<Matrix> first;
  for (Index j = 0; j < all.count() && (wanted == 0 || j < wanted); ++j) {
    first.push_back(Matrix::CopyFrom(all.batch(j)));
  }
  problem.calibration = Batches::Stack(first);
  return problem;
}

absl::StatusOr<double> Seconds(const std::string& method, Reports reports, const Problem& problem) {
  RunOptions options;
  ATTNPRUNE_ASSIGN_OR_RETURN(const MethodSpec spec, ParseMethodSpec(method));
  ATTNPRUNE_ASSIGN_OR_RETURN(const ChosenMethod chosen, ChooseMethod(spec));
  if (reports == Reports::kDefault) {
    options.evaluate_every = DefaultEvaluateEvery(chosen.StepsAtMost());
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const PruneResult result,
      chosen.Create()->Prune(problem, options, {.threads = absl::GetFlag(FLAGS_threads)}));
  return result.seconds;
}

absl::Status Run() {
  ATTNPRUNE_RETURN_IF_ERROR(InitializeBlas());
  ATTNPRUNE_ASSIGN_OR_RETURN(const Problem problem, LoadProblem());
  absl::PrintF("| errors reported | gd, s | %s, s | its median ÷ gd |\n|---|---|---|---|\n",
               absl::GetFlag(FLAGS_method));
  for (const Reports reports : {Reports::kNone, Reports::kDefault}) {
    std::vector<double> gd, joint, ratio;
    for (int round = 0; round < absl::GetFlag(FLAGS_rounds); ++round) {
      ATTNPRUNE_ASSIGN_OR_RETURN(gd.emplace_back(), Seconds("gd", reports, problem));
      ATTNPRUNE_ASSIGN_OR_RETURN(joint.emplace_back(),
                                 Seconds(absl::GetFlag(FLAGS_method), reports, problem));
      ratio.push_back(joint.back() / gd.back());
    }
    absl::PrintF("| %s | %.2f | %.2f | %.2f |\n",
                 reports == Reports::kNone ? "never" : "as often as the server does", Median(gd),
                 Median(joint), Median(ratio));
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace attnprune

int main(int argc, char** argv) try {
  absl::ParseCommandLine(argc, argv);
  const absl::Status status = attnprune::Run();
  if (status.ok()) return 0;
  std::cerr << "joint_time: " << status.message() << "\n";
  return 1;
} catch (const std::exception& error) {  // std::bad_alloc where memory runs out
  std::cerr << "joint_time: " << error.what() << "\n";
  return 1;
}
