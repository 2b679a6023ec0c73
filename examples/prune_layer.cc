// Prunes the query and key weights of one layer of a Hugging Face model with several methods,
// compares them on data that none of them has seen, and writes the pruned weights and masks.
#include <algorithm>
#include <exception>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "absl/flags/usage.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"
#include "core/base/status_macros.h"
#include "core/judge/score.h"
#include "core/kernels/blas.h"
#include "core/methods/registry.h"
#include "core/problem/hf_layer.h"
#include "core/problem/load_batches.h"
#include "core/problem/problem.h"
#include "examples/pruned_files.h"

ABSL_FLAG(std::string, model, "data/tiny-llama",
          "folder of a Hugging Face model: config.json and its safetensors");
ABSL_FLAG(int, layer, 1, "which layer, from 0");
ABSL_FLAG(std::string, calibration, "data/tiny-llama/calibration.safetensors",
          "inputs of that layer that the methods may learn from: .safetensors or .npy, shape "
          "(tokens, d) or (sequences, tokens, d)");
ABSL_FLAG(std::string, held_out, "data/tiny-llama/held_out.safetensors",
          "inputs that are only scored; empty: none");
ABSL_FLAG(std::string, tensor, "model.layers.{layer}.self_attn.input",
          "name of the inputs in a .safetensors file; {layer} stands for --layer");
ABSL_FLAG(std::string, sparsity, "0.7", "fraction of weights to remove, or N:M such as 2:4");
ABSL_FLAG(std::string, output, "demo-output", "folder for the pruned weights and masks");
ABSL_FLAG(int, threads, 0, "0: all cores; the result does not depend on it");

namespace attnprune {
namespace {

constexpr int kReportEvery = 10;  // steps

// What one method made of the layer.
struct Entry {
  std::string method;
  std::string folder;
  PruneResult result;
  Score score;

  // What entries are ranked by: the error on unseen data where there is some.
  double error() const { return score.held_out.value_or(score.calibration).relative_error; }
};

class ProgressPrinter : public ProgressObserver {
 public:
  Verdict OnStep(const StepStats& stats, const Resumable& /*run*/) override {
    if (stats.step % kReportEvery != 0) return Verdict::kContinue;
    absl::PrintF("  step %3d of %d  loss %8.3f  soft error %.5f", stats.step, stats.steps,
                 stats.attention_loss, stats.soft_relative_error);
    if (stats.calibration_error) absl::PrintF("  binary error %.5f", *stats.calibration_error);
    if (stats.held_out_error) absl::PrintF(", held out %.5f", *stats.held_out_error);
    absl::PrintF("  %.1f s\n", stats.seconds);
    std::cout.flush();
    return Verdict::kContinue;
  }
};

absl::StatusOr<Batches> ReadInputs(const std::string& path) {
  if (absl::EndsWith(path, ".npy")) return LoadBatches(path);
  const std::string layer = absl::StrCat(absl::GetFlag(FLAGS_layer));
  return LoadBatches(path, absl::StrReplaceAll(absl::GetFlag(FLAGS_tensor), {{"{layer}", layer}}));
}

absl::StatusOr<Problem> MakeProblem(ProjectionWeights weights, AttentionMask attention) {
  Problem problem;
  problem.weights = std::move(weights);
  problem.attention = attention;
  ATTNPRUNE_ASSIGN_OR_RETURN(problem.sparsity, ParseSparsity(absl::GetFlag(FLAGS_sparsity)));
  ATTNPRUNE_ASSIGN_OR_RETURN(problem.calibration, ReadInputs(absl::GetFlag(FLAGS_calibration)));
  if (const std::string path = absl::GetFlag(FLAGS_held_out); !path.empty()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(problem.held_out, ReadInputs(path));
  }
  ATTNPRUNE_RETURN_IF_ERROR(Validate(problem));
  return problem;
}

absl::StatusOr<int> ThreadCount() {
  const int threads = absl::GetFlag(FLAGS_threads);
  if (threads < 0) {
    return absl::InvalidArgumentError(absl::StrCat("threads must be at least 0, got ", threads));
  }
  return threads > 0 ? threads : std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

absl::StatusOr<Entry> RunMethod(const std::string& text, const Method& method,
                                const Problem& problem, const HfLayer& layer, int threads) {
  absl::PrintF("%s\n", text);
  ProgressPrinter printer;
  Entry entry{.method = text, .folder = absl::StrCat(absl::GetFlag(FLAGS_output), "/", text)};
  const RunOptions options{.threads = threads, .evaluate_every = kReportEvery};
  ATTNPRUNE_RETURN_IF_ERROR(MakeFolder(entry.folder));  // learn of a bad --output before the work
  ATTNPRUNE_ASSIGN_OR_RETURN(entry.result, method.Prune(problem, options, printer));
  ATTNPRUNE_RETURN_IF_ERROR(RoundToStoredTypes(layer, &entry.result));
  ATTNPRUNE_ASSIGN_OR_RETURN(entry.score, Judge(problem, entry.result, threads));
  ATTNPRUNE_RETURN_IF_ERROR(WritePrunedFiles(layer, entry.result, entry.folder));
  absl::PrintF("  %s, %.1f s\n", ToString(entry.result.reason), entry.result.seconds);
  return entry;
}

void PrintProblem(const Problem& problem) {
  const ProjectionWeights& weights = problem.projections();
  absl::PrintF("%s, layer %d: %d query and %d key heads of %d, width %d, %s attention\n",
               absl::GetFlag(FLAGS_model), absl::GetFlag(FLAGS_layer), weights.heads,
               weights.kv_heads, weights.head_dim(), problem.features(),
               ToString(problem.attention));
  absl::PrintF("Learns from %d sequences (%d tokens); %d sequences (%d tokens) are held out\n",
               problem.calibration.count(), problem.calibration.total_tokens(),
               problem.held_out.count(), problem.held_out.total_tokens());
  absl::PrintF("Sparsity %s of the query and of the key weights\n\n", ToString(problem.sparsity));
}

// Pruned entries over all matrices, in percent.
double PrunedPercent(const Score& score) {
  Index pruned = 0, size = 0;
  for (const MatrixSparsity& matrix : score.sparsity) {
    pruned += matrix.pruned;
    size += matrix.size;
  }
  return 100.0 * static_cast<double>(pruned) / static_cast<double>(size);
}

void PrintRow(int width, const Entry& entry) {
  const Score& score = entry.score;
  absl::PrintF("  %-*s%10s%13.5f%10.5f%10.2f%10.2f\n", width, entry.method,
               score.held_out ? absl::StrFormat("%.5f", score.held_out->relative_error) : "-",
               score.calibration.relative_error,
               score.held_out.value_or(score.calibration).linear_error, PrunedPercent(score),
               entry.result.seconds);
}

void PrintTable(const std::vector<Entry>& entries) {
  int width = 6;
  for (const Entry& entry : entries) width = std::max(width, static_cast<int>(entry.method.size()));
  absl::PrintF("\nRelative error of the attention matrix, best first (linear: error of X W)\n\n");
  absl::PrintF("  %-*s%10s%13s%10s%10s%10s\n", width, "method", "held out", "calibration", "linear",
               "pruned %", "seconds");
  for (const Entry& entry : entries) PrintRow(width, entry);
  absl::PrintF("\nWritten, in the model's names, shapes and element types:\n");
  for (const Entry& entry : entries) absl::PrintF("  %s/\n", entry.folder);
}

// methods: as ParseMethod takes them; empty: every one there is.
absl::Status Run(std::vector<std::string> methods) {
  ATTNPRUNE_RETURN_IF_ERROR(InitializeBlas());
  if (methods.empty()) {
    for (const MethodInfo& info : Methods()) methods.emplace_back(info.name);
  }
  std::vector<std::unique_ptr<Method>> solvers;  // all of them checked before any runs
  for (const std::string& text : methods) {
    ATTNPRUNE_ASSIGN_OR_RETURN(solvers.emplace_back(), ParseMethod(text));
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(const int threads, ThreadCount());
  ATTNPRUNE_ASSIGN_OR_RETURN(HfLayer layer,
                             LoadHfLayer(absl::GetFlag(FLAGS_model), absl::GetFlag(FLAGS_layer)));
  ATTNPRUNE_ASSIGN_OR_RETURN(const Problem problem,
                             MakeProblem(std::move(layer.weights), layer.attention));
  PrintProblem(problem);
  std::vector<Entry> entries;
  for (size_t i = 0; i < methods.size(); ++i) {
    ATTNPRUNE_ASSIGN_OR_RETURN(Entry entry,
                               RunMethod(methods[i], *solvers[i], problem, layer, threads));
    entries.push_back(std::move(entry));
  }
  std::stable_sort(entries.begin(), entries.end(),
                   [](const Entry& a, const Entry& b) { return a.error() < b.error(); });
  PrintTable(entries);
  return absl::OkStatus();
}

}  // namespace
}  // namespace attnprune

int main(int argc, char** argv) try {
  absl::SetProgramUsageMessage(
      "Prunes one attention layer with several methods and compares them.\n"
      "usage: prune_layer [FLAGS] [METHOD[:PARAMETER=NUMBER,...]]...\n"
      "e.g.   prune_layer --layer=3 --sparsity=0.5 gd gd:steps=300 wanda");
  const std::vector<char*> arguments = absl::ParseCommandLine(argc, argv);
  const absl::Status status =
      attnprune::Run(std::vector<std::string>(arguments.begin() + 1, arguments.end()));
  if (status.ok()) return 0;
  std::cerr << "prune_layer: " << status.message() << "\n";
  return 1;
} catch (const std::exception& error) {  // std::bad_alloc where memory runs out
  std::cerr << "prune_layer: " << error.what() << "\n";
  return 1;
}
