// Settings of methods compared by what calibration data alone says: how the defaults of ste, joint
// and refit are chosen. Held-out data is never loaded. Every calibration batch is in one of
// kFolds parts, dealt out like cards; a method gets the batches outside a part and is scored on
// those in it, which it has not seen. Markdown, for docs/results.md.
#include <cmath>
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
#include "core/judge/score.h"
#include "core/kernels/blas.h"
#include "core/methods/registry.h"
#include "core/model/attention_layer.h"
#include "core/problem/load_batches.h"

ABSL_FLAG(std::string, model, "data/tiny-llama", "folder of a Hugging Face model");
ABSL_FLAG(std::string, calibration, "data/tiny-llama/calibration.safetensors", "batches");
ABSL_FLAG(std::vector<std::string>, layers, (std::vector<std::string>{"0", "2"}), "layers");
ABSL_FLAG(std::vector<std::string>, sparsities,
          (std::vector<std::string>{"0.5", "0.7", "0.9", "2:4"}), "fractions or N:M");
ABSL_FLAG(int, folds, 2, "of the 4 parts, how many are left out in turn");
ABSL_FLAG(int, threads, 1, "of every run");

namespace attnprune {
namespace {

constexpr Index kFolds = 4;

struct Case {
  std::string sparsity;
  Problem problem;  // its held_out: the calibration batches left out
};

// Errors of one setting, one a case, and the mean time of its runs.
struct Row {
  std::vector<double> errors;
  double seconds = 0;
};

Batches Part(const Batches& all, Index fold, bool inside) {
  std::vector<Matrix> picked;
  for (Index j = 0; j < all.count(); ++j) {
    if ((j % kFolds == fold) == inside) picked.push_back(Matrix::CopyFrom(all.batch(j)));
  }
  return Batches::Stack(picked);
}

absl::StatusOr<std::vector<Case>> LayerCases(const std::string& layer) {
  int index = 0;
  if (!absl::SimpleAtoi(layer, &index)) return absl::InvalidArgumentError("layers must be numbers");
  ATTNPRUNE_ASSIGN_OR_RETURN(const Batches calibration,
                             LoadBatches(absl::GetFlag(FLAGS_calibration),
                                         absl::StrCat("model.layers.", index, ".self_attn.input")));
  std::vector<Case> cases;
  for (const std::string& sparsity : absl::GetFlag(FLAGS_sparsities)) {
    for (Index fold = 0; fold < absl::GetFlag(FLAGS_folds); ++fold) {
      ATTNPRUNE_ASSIGN_OR_RETURN(AttentionLayer loaded,
                                 LoadAttentionLayer(absl::GetFlag(FLAGS_model), index));
      Case& added = cases.emplace_back();
      added.sparsity = sparsity;
      ATTNPRUNE_ASSIGN_OR_RETURN(added.problem.sparsity, ParseSparsity(sparsity));
      added.problem.weights = std::move(loaded.weights);
      added.problem.attention = loaded.attention;
      added.problem.calibration = Part(calibration, fold, /*inside=*/false);
      added.problem.held_out = Part(calibration, fold, /*inside=*/true);
    }
  }
  return cases;
}

absl::StatusOr<Row> RunSetting(const std::string& text, const std::vector<Case>& cases) {
  const int threads = absl::GetFlag(FLAGS_threads);
  ATTNPRUNE_ASSIGN_OR_RETURN(const auto method, ParseMethod(text));
  Row row;
  for (const Case& one : cases) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const auto prepared,
                               PreparedProblem::Create(one.problem, {.threads = threads}));
    ATTNPRUNE_ASSIGN_OR_RETURN(const PruneResult result, method->Prune(*prepared));
    ATTNPRUNE_ASSIGN_OR_RETURN(const Score score, Judge(*prepared, result));
    row.errors.push_back(score.held_out->relative_error);
    row.seconds += result.seconds / static_cast<double>(cases.size());
  }
  return row;
}

// Geometric mean over the cases of one sparsity ("" is all) of row / first, and how far that mean
// itself is uncertain: the standard error of the logarithms.
std::string Ratio(const std::string& sparsity, const std::vector<Case>& cases, const Row& row,
                  const Row& first) {
  double sum = 0, squares = 0, count = 0;
  for (size_t i = 0; i < cases.size(); ++i) {
    if (!sparsity.empty() && cases[i].sparsity != sparsity) continue;
    const double log_ratio = std::log(row.errors[i] / first.errors[i]);
    sum += log_ratio;
    squares += log_ratio * log_ratio;
    ++count;
  }
  const double mean = sum / count;
  const double variance = count > 1 ? (squares - sum * mean) / (count - 1) : 0;
  return absl::StrFormat("%.3f ± %.3f", std::exp(mean), std::sqrt(std::max(variance, 0.0) / count));
}

std::string Mean(const std::string& sparsity, const std::vector<Case>& cases, const Row& row) {
  double sum = 0, count = 0;
  for (size_t i = 0; i < cases.size(); ++i) {
    if (cases[i].sparsity != sparsity) continue;
    sum += std::log(row.errors[i]);
    ++count;
  }
  return absl::StrFormat("%.5f", std::exp(sum / count));
}

absl::Status Run(const std::vector<std::string>& settings) {
  ATTNPRUNE_RETURN_IF_ERROR(InitializeBlas());
  std::vector<Case> cases;
  for (const std::string& layer : absl::GetFlag(FLAGS_layers)) {
    ATTNPRUNE_ASSIGN_OR_RETURN(std::vector<Case> more, LayerCases(layer));
    for (Case& one : more) cases.push_back(std::move(one));
  }
  const std::vector<std::string> sparsities = absl::GetFlag(FLAGS_sparsities);
  std::string rule = "|---|---|---|";
  absl::PrintF("| setting |");
  for (const std::string& sparsity : sparsities) {
    absl::PrintF(" %s |", sparsity);
    rule += "---|";
  }
  absl::PrintF(" all | seconds |\n%s\n", rule);
  Row first;
  for (const std::string& setting : settings) {
    ATTNPRUNE_ASSIGN_OR_RETURN(Row row, RunSetting(setting, cases));
    const bool is_first = first.errors.empty();
    if (is_first) first = row;
    absl::PrintF("| %s |", setting);
    for (const std::string& sparsity : sparsities) {
      absl::PrintF(" %s |",
                   is_first ? Mean(sparsity, cases, row) : Ratio(sparsity, cases, row, first));
    }
    absl::PrintF(" %s | %.2f |\n", is_first ? "1" : Ratio("", cases, row, first), row.seconds);
    std::cout.flush();
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace attnprune

int main(int argc, char** argv) try {
  const std::vector<char*> arguments = absl::ParseCommandLine(argc, argv);
  const absl::Status status =
      attnprune::Run(std::vector<std::string>(arguments.begin() + 1, arguments.end()));
  if (status.ok()) return 0;
  std::cerr << "setting_table: " << status.message() << "\n";
  return 1;
} catch (const std::exception& error) {  // std::bad_alloc where memory runs out
  std::cerr << "setting_table: " << error.what() << "\n";
  return 1;
}
