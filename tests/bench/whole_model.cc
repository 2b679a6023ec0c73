// A whole small model pruned by the methods for linear maps, layer by layer on pruned inputs: how
// far its held-out loss is from the dense model's.
//
//   whole_model [--model=data/tiny-llama] [--sparsities=0.5,0.7,2:4,0.8,0.9]
//               [--methods=magnitude;wanda;sparsegpt;alps] [--dense_share=0] [--threads=2]
//
// Calibration and held-out tokens are the tensors `tokens` of the folder's calibration.safetensors
// and held_out.safetensors. +-: of the mean difference, rows taken for independent.
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "core/base/status_macros.h"
#include "core/methods/registry.h"
#include "core/model/model_pass.h"
#include "core/sequential/layer_pruner.h"
#include "tests/support/timing.h"

ABSL_FLAG(std::string, model, "data/tiny-llama", "folder");
ABSL_FLAG(std::vector<std::string>, sparsities,
          std::vector<std::string>({"0.5", "0.7", "2:4", "0.8", "0.9"}), "fractions or N:M");
ABSL_FLAG(std::string, methods, "magnitude;wanda;sparsegpt;alps", "separated by ;");
ABSL_FLAG(double, dense_share, 0, "of a map's target that is what it gives in the dense model");
ABSL_FLAG(int, threads, 2, "threads");

namespace attnprune {
namespace {

using testing::Clock;
using testing::SecondsSince;

class NoObserver final : public ProgressObserver {
 public:
  Verdict OnStep(const StepStats&, const Resumable&) override { return Verdict::kContinue; }
};

struct Model {
  const Forward& forward;
  ThreadPool& pool;
  Tokens calibration, held_out;
  std::vector<double> dense_losses;
};

absl::StatusOr<std::vector<double>> PrunedLosses(const Model& model, Forward& head,
                                                 const Method& method, const Sparsity& sparsity) {
  const Index features = model.forward.options().hidden_size;
  const double share = absl::GetFlag(FLAGS_dense_share);
  Matrix x(model.calibration.total(), features), scored(model.held_out.total(), features);
  Matrix dense(share > 0 ? x.rows() : 0, features);
  const TokenStates beside{model.calibration.lengths, dense};
  ATTNPRUNE_RETURN_IF_ERROR(model.forward.Embed(model.calibration, x));
  ATTNPRUNE_RETURN_IF_ERROR(model.forward.Embed(model.held_out, scored));
  if (share > 0) ATTNPRUNE_RETURN_IF_ERROR(model.forward.Embed(model.calibration, dense));
  LayerPruner pruner(model.forward, model.pool);
  NoObserver observer;
  for (Index layer = 0; layer < model.forward.options().layer_count(); ++layer) {
    ATTNPRUNE_RETURN_IF_ERROR(pruner.Load(layer, share));
    ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<Stretch> stretches,
                               StretchesOf(model.forward.weights(), layer, Passes::kByGroup,
                                           [](Index, const TensorMaps&) { return true; }));
    for (const Stretch& stretch : stretches) {
      ATTNPRUNE_RETURN_IF_ERROR(
          pruner.Collect(stretch, {{model.calibration.lengths, x}, beside, {}}));
      for (const Stretch::Tensor& tensor : stretch.tensors) {
        ATTNPRUNE_RETURN_IF_ERROR(pruner.Prune(tensor, method, sparsity, {}, observer).status());
      }
    }
    using Side = LayerPruner::Side;
    ATTNPRUNE_RETURN_IF_ERROR(pruner.Advance(Side::kCalibration, {model.calibration.lengths, x}));
    if (share > 0) ATTNPRUNE_RETURN_IF_ERROR(pruner.Advance(Side::kDense, beside));
    ATTNPRUNE_RETURN_IF_ERROR(pruner.Advance(Side::kHeldOut, {model.held_out.lengths, scored}));
  }
  return head.TokenLosses(model.held_out, scored);
}

absl::Status Run() {
  ThreadPool pool(absl::GetFlag(FLAGS_threads));
  const std::string folder = absl::GetFlag(FLAGS_model);
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::unique_ptr<Forward> forward, Forward::Open(folder, pool));
  Model model{*forward, pool, {}, {}, {}};
  ATTNPRUNE_ASSIGN_OR_RETURN(const TokenRows calibration,
                             ReadTokenFile(folder + "/calibration.safetensors:tokens"));
  ATTNPRUNE_ASSIGN_OR_RETURN(const TokenRows held_out,
                             ReadTokenFile(folder + "/held_out.safetensors:tokens"));
  model.calibration = calibration.tokens;
  model.held_out = held_out.tokens;
  ATTNPRUNE_ASSIGN_OR_RETURN(model.dense_losses, TokenLosses(*forward, model.held_out));
  std::printf("dense %.4f nats a token\n\n| method |",
              Summarize(model.dense_losses).nats_per_token);
  const std::vector<std::string> sparsities = absl::GetFlag(FLAGS_sparsities);
  for (const std::string& text : sparsities) std::printf(" %s |", text.c_str());
  std::printf(" seconds |\n|---|");
  for (size_t i = 0; i <= sparsities.size(); ++i) std::printf("---|");
  const std::vector<std::string> names = absl::StrSplit(absl::GetFlag(FLAGS_methods), ';');
  for (const std::string& name : names) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const std::unique_ptr<Method> method, ParseMethod(name));
    std::printf("\n| %s |", name.c_str());
    const auto start = Clock::now();
    for (const std::string& text : sparsities) {
      ATTNPRUNE_ASSIGN_OR_RETURN(const Sparsity sparsity, ParseSparsity(text));
      ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<double> losses,
                                 PrunedLosses(model, *forward, *method, sparsity));
      const LossDifference off = Compare(model.dense_losses, losses, model.held_out.lengths);
      std::printf(" %+.4f +- %.4f |", off.mean, off.standard_error_by_row);
      std::fflush(stdout);
    }
    std::printf(" %.1f |", SecondsSince(start));
  }
  std::printf("\n");
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
