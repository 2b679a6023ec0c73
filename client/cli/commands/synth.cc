// attnprune synth: the paper's Section 6.1 data as files.
#include <memory>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/commands/commands.h"
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

absl::Span<const char> BytesOf(MatrixView matrix) {
  return {reinterpret_cast<const char*>(matrix.data()),
          static_cast<size_t>(matrix.size()) * sizeof(float)};
}

absl::Status WriteBatches(const std::string& path, const char* name, const Batches& batches) {
  const TensorInfo tensor{.name = name,
                          .dtype = DType::kF32,
                          .shape = {batches.count(), batches.length(0), batches.features()},
                          .bytes = BytesOf(batches.all()),
                          .file = {}};
  return WriteSafetensors(path, {tensor});
}

absl::Status WriteProblem(const Problem& problem, const std::string& folder) {
  ATTNPRUNE_RETURN_IF_ERROR(MakeFolderOf(folder + "/weights.safetensors"));
  const FusedWeights& weights = problem.fused_weights();
  const std::vector<TensorInfo> tensors = {TensorOf("w_q", weights.w_q),
                                           TensorOf("w_k", weights.w_k), TensorOf("w", weights.w)};
  ATTNPRUNE_RETURN_IF_ERROR(WriteSafetensors(folder + "/weights.safetensors", tensors));
  ATTNPRUNE_RETURN_IF_ERROR(
      WriteBatches(folder + "/calibration.safetensors", "calibration", problem.calibration));
  if (problem.held_out.count() == 0) return absl::OkStatus();
  return WriteBatches(folder + "/held_out.safetensors", "held_out", problem.held_out);
}

int Run(const Shell& shell, const SynthFlags& flags) {
  if (const absl::Status blas = InitializeBlas(); !blas.ok()) return LocalError(shell, blas);
  const auto problem = SyntheticProblem(flags.options);
  if (!problem.ok()) return UsageError(shell, problem.status());
  const absl::Status written = WriteProblem(*problem, flags.output);
  if (!written.ok()) return LocalError(shell, written);
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
  auto flags = std::make_shared<SynthFlags>();
  SyntheticOptions& o = flags->options;
  Command command = program.AddCommand("synth", "Write the paper's Section 6.1 data");
  command.Add("--d", o.d, "Width of weights and tokens").ShowDefault();
  command.Add("--n", o.n, "Tokens of a batch").ShowDefault();
  command.Add("--k", o.k, "Calibration batches").ShowDefault();
  command.Add("--rank", o.rank, "Of W_Q and W_K").ShowDefault();
  command.Add("--held-out", o.held_out_batches, "Held-out batches").ShowDefault();
  command.Add("--seed", o.seed, "Of the random numbers").ShowDefault();
  command.Add("--output", flags->output, "Folder; made if it is missing").Type("DIR").Required();
  command.Run([flags](const Shell& shell) { return Run(shell, *flags); });
}

}  // namespace attnprune::cli
