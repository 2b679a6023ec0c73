// attnprune synth: the paper's Section 6.1 data as files.
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/commands/commands.h"
#include "client/cli/files/job_tensors.h"
#include "client/cli/files/text_file.h"
#include "core/base/status_macros.h"
#include "core/io/safetensors.h"
#include "core/kernels/blas.h"
#include "core/problem/synthetic.h"

namespace attnprune::cli {
namespace {

struct SynthFlags {
  SyntheticOptions options;
  std::string output;
};

absl::Status WriteProblem(const Problem& problem, const std::string& folder) {
  ATTNPRUNE_RETURN_IF_ERROR(MakeFolderOf(folder + "/weights.safetensors"));
  const FusedWeights& weights = problem.fused_weights();
  const std::vector<TensorInfo> tensors = {TensorOf("w_q", weights.w_q),
                                           TensorOf("w_k", weights.w_k), TensorOf("w", weights.w)};
  ATTNPRUNE_RETURN_IF_ERROR(WriteSafetensors(folder + "/weights.safetensors", tensors));
  ATTNPRUNE_RETURN_IF_ERROR(WriteSafetensors(folder + "/calibration.safetensors",
                                             {TensorOf("calibration", problem.calibration)}));
  if (problem.held_out.count() == 0) return absl::OkStatus();
  return WriteSafetensors(folder + "/held_out.safetensors",
                          {TensorOf("held_out", problem.held_out)});
}

int Run(const Shell& shell, const SynthFlags& flags) {
  ATTNPRUNE_EXIT_IF_ERROR(LocalError, InitializeBlas());
  ATTNPRUNE_ASSIGN_OR_EXIT(UsageError, const Problem problem, SyntheticProblem(flags.options));
  ATTNPRUNE_EXIT_IF_ERROR(LocalError, WriteProblem(problem, flags.output));
  const std::string& dir = flags.output;
  *shell.out << dir << "/weights.safetensors\n" << dir << "/calibration.safetensors\n";
  if (flags.options.held_out_batches > 0) *shell.out << dir << "/held_out.safetensors\n";
  Note(shell, absl::StrCat("try\n  attnprune run --weights ", dir,
                           "/weights.safetensors --fused-product w_q,w_k --calibration ", dir,
                           "/calibration.safetensors",
                           flags.options.held_out_batches > 0
                               ? absl::StrCat(" --held-out ", dir, "/held_out.safetensors")
                               : "",
                           " --method gd --method magnitude"));
  return kDone;
}

}  // namespace

void AddSynthCommand(Command& program) {
  Command command = program.AddCommand("synth", "Write the paper's Section 6.1 data");
  SynthFlags& flags = command.Runs<SynthFlags>(Run);
  SyntheticOptions& o = flags.options;
  command.Add("--d", o.d, "Width of weights and tokens", {.show_default = true});
  command.Add("--n", o.n, "Tokens of a batch", {.show_default = true});
  command.Add("--k", o.k, "Calibration batches", {.show_default = true});
  command.Add("--rank", o.rank, "Of W_Q and W_K", {.show_default = true});
  command.Add("--x-std", o.x_std, "Standard deviation of the tokens", {.show_default = true});
  command.Add("--held-out", o.held_out_batches, "Held-out batches", {.show_default = true});
  command.Add("--seed", o.seed, "Of the random numbers", {.show_default = true});
  command.Add("--output", flags.output, "Folder; made if it is missing",
              {.type = "DIR", .required = true});
}

}  // namespace attnprune::cli
