// Every method on every layer of a model, or on several draws of the paper's synthetic data, at
// several sparsities: held-out error, its ratio to the best rival, and time, as Markdown. The
// tables of docs/results.md. With methods as arguments ("kfac:rounds=24"), those alone and without
// ratios.
#include <algorithm>
#include <exception>
#include <iostream>
#include <map>
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
#include "core/problem/synthetic.h"

ABSL_FLAG(std::string, model, "data/tiny-llama", "folder of a Hugging Face model");
ABSL_FLAG(std::string, data, "data/tiny-llama",
          "folder of calibration.safetensors and held_out.safetensors");
ABSL_FLAG(std::vector<std::string>, layers, (std::vector<std::string>{"0", "1", "2", "3"}),
          "layers; those at even places chose the defaults of ste, joint and refit");
ABSL_FLAG(std::vector<std::string>, sparsities,
          (std::vector<std::string>{"0.5", "0.7", "0.9", "2:4"}), "fractions or N:M");
ABSL_FLAG(
    int, synthetic, 0,
    "calibration batches of the paper's synthetic data, in place of a model; --layers are the "
    "seeds. 0: a model");
ABSL_FLAG(int, sequences, 0,
          "calibrates on so many of a model's sequences, evenly spaced; 0: on all");
ABSL_FLAG(int, threads, 1, "of every run");

namespace attnprune {
namespace {

// One method on one layer.
struct Cell {
  double held_out = 0, mask_only = 0, seconds = 0;
};
using Row = std::vector<Cell>;  // one a layer

// The 8 settings of which gd is the best, by held-out error: a rival may choose by what is
// reported.
std::vector<std::string> GdSettings() {
  std::vector<std::string> settings;
  for (const char* lambda : {"0.05", "0.25"}) {
    for (const char* eta : {"0.005", "0.02", "0.08", "0.3"}) {
      settings.push_back(absl::StrCat("gd:lambda=", lambda, ",eta=", eta));
    }
  }
  return settings;
}

// Section 6.1's, gd's default following the paper.
bool Synthetic() { return absl::GetFlag(FLAGS_synthetic) > 0; }

absl::StatusOr<Problem> DrawProblem(int seed) {
  SyntheticOptions options;
  options.k = absl::GetFlag(FLAGS_synthetic);
  options.seed = static_cast<uint64_t>(seed);
  return SyntheticProblem(options);
}

// The middles of as many equal stretches.
absl::StatusOr<Batches> SomeOf(Batches batches, Index wanted) {
  if (wanted == 0) return batches;
  std::vector<Index> picked;
  picked.reserve(static_cast<size_t>(wanted));
  for (Index i = 0; i < wanted; ++i) {
    picked.push_back((2 * i + 1) * batches.count() / (2 * wanted));
  }
  return batches.Pick(picked);
}

absl::StatusOr<Problem> LoadLayer(int index) {
  ATTNPRUNE_ASSIGN_OR_RETURN(AttentionLayer loaded,
                             LoadAttentionLayer(absl::GetFlag(FLAGS_model), index));
  const std::string tensor = absl::StrCat("model.layers.", index, ".self_attn.input");
  const std::string folder = absl::GetFlag(FLAGS_data);
  Problem problem;
  problem.weights = std::move(loaded.weights);
  problem.attention = loaded.attention;
  ATTNPRUNE_ASSIGN_OR_RETURN(Batches calibration,
                             LoadBatches(folder + "/calibration.safetensors", tensor));
  ATTNPRUNE_ASSIGN_OR_RETURN(problem.calibration,
                             SomeOf(std::move(calibration), absl::GetFlag(FLAGS_sequences)));
  ATTNPRUNE_ASSIGN_OR_RETURN(problem.held_out,
                             LoadBatches(folder + "/held_out.safetensors", tensor));
  return problem;
}

absl::StatusOr<Problem> MakeProblem(const std::string& layer, const std::string& sparsity) {
  int index = 0;
  if (!absl::SimpleAtoi(layer, &index)) return absl::InvalidArgumentError("layers must be numbers");
  ATTNPRUNE_ASSIGN_OR_RETURN(Problem problem, Synthetic() ? DrawProblem(index) : LoadLayer(index));
  ATTNPRUNE_ASSIGN_OR_RETURN(problem.sparsity, ParseSparsity(sparsity));
  return problem;
}

absl::StatusOr<Cell> RunOne(const std::string& text, const Problem& problem) {
  const int threads = absl::GetFlag(FLAGS_threads);
  ATTNPRUNE_ASSIGN_OR_RETURN(const auto method, ParseMethod(text));
  ATTNPRUNE_ASSIGN_OR_RETURN(const auto prepared,
                             PreparedProblem::Create(problem, {.threads = threads}));
  ATTNPRUNE_ASSIGN_OR_RETURN(const PruneResult result, method->Prune(*prepared));
  ATTNPRUNE_ASSIGN_OR_RETURN(const Score score, Judge(*prepared, result));
  const BatchScore& held_out = *score.held_out;
  return Cell{.held_out = held_out.relative_error,
              .mask_only = held_out.mask_only_relative_error.value_or(held_out.relative_error),
              .seconds = result.seconds};
}

absl::StatusOr<Cell> BestOf(const std::vector<std::string>& texts, const Problem& problem) {
  ATTNPRUNE_ASSIGN_OR_RETURN(Cell best, RunOne(texts[0], problem));
  for (size_t i = 1; i < texts.size(); ++i) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const Cell cell, RunOne(texts[i], problem));
    if (cell.held_out < best.held_out) best = cell;
  }
  return best;
}

// The rivals' least error of every layer.
std::vector<double> Best(const std::map<std::string, Row>& rows,
                         const std::vector<std::string>& rivals) {
  std::vector<double> best;
  for (const Cell& cell : rows.at(rivals[0])) best.push_back(cell.held_out);
  for (const std::string& rival : rivals) {
    const Row& row = rows.at(rival);
    for (size_t i = 0; i < best.size(); ++i) best[i] = std::min(best[i], row[i].held_out);
  }
  return best;
}

// Mean of the ratios to `best` over the layers at first, first + step, ...; "-" if there are none.
std::string MeanRatio(const Row& row, const std::vector<double>& best, size_t first, size_t step) {
  double sum = 0;
  int count = 0;
  for (size_t i = first; i < row.size(); i += step) {
    sum += row[i].held_out / best[i];
    ++count;
  }
  return count == 0 ? "-" : absl::StrFormat("%.3f", sum / count);
}

void PrintChosen(const std::string& sparsity, const std::map<std::string, Row>& rows) {
  absl::PrintF("\nSparsity %s\n\n| method |", sparsity);
  for (const std::string& layer : absl::GetFlag(FLAGS_layers)) absl::PrintF(" layer %s |", layer);
  absl::PrintF(" seconds |\n|---|---|");
  for (size_t i = 0; i < absl::GetFlag(FLAGS_layers).size(); ++i) absl::PrintF("---|");
  for (const auto& [name, row] : rows) {
    double seconds = 0;
    absl::PrintF("\n| %s |", name);
    for (const Cell& cell : row) {
      absl::PrintF(" %.5f |", cell.held_out);
      seconds += cell.seconds / static_cast<double>(row.size());
    }
    absl::PrintF(" %.2f |", seconds);
  }
  absl::PrintF("\n");
  std::cout.flush();
}

void PrintTable(const std::string& sparsity, const std::map<std::string, Row>& rows) {
  const std::vector<double> masks = Best(rows, {"magnitude", "wanda", "gd"});
  const std::vector<double> all = Best(rows, {"magnitude", "wanda", "gd", "sparsegpt"});
  absl::PrintF("\nSparsity %s\n\n| method |", sparsity);
  for (const std::string& layer : absl::GetFlag(FLAGS_layers)) {
    absl::PrintF(" %s %s |", Synthetic() ? "seed" : "layer", layer);
  }
  absl::PrintF(
      " ÷ best mask | chosen on | not chosen on | ÷ best rival | chosen on | not chosen on | mask "
      "only | seconds |\n|---|");
  for (size_t i = 0; i < masks.size() + 8; ++i) absl::PrintF("---|");
  for (const auto& [name, row] : rows) {
    double mask_only = 0, seconds = 0;
    absl::PrintF("\n| %s |", name);
    for (const Cell& cell : row) {
      absl::PrintF(" %.5f |", cell.held_out);
      mask_only += cell.mask_only / static_cast<double>(row.size());
      seconds += cell.seconds / static_cast<double>(row.size());
    }
    for (const std::vector<double>& best : {masks, all}) {
      absl::PrintF(" %s | %s | %s |", MeanRatio(row, best, 0, 1), MeanRatio(row, best, 0, 2),
                   MeanRatio(row, best, 1, 2));
    }
    absl::PrintF(" %.4f | %.2f |", mask_only, seconds);
  }
  absl::PrintF("\n");
  std::cout.flush();
}

absl::Status Run(const std::vector<std::string>& chosen) {
  ATTNPRUNE_RETURN_IF_ERROR(InitializeBlas());
  std::map<std::string, std::vector<std::string>> methods;
  for (const std::string& text : chosen) methods[text] = {text};
  if (chosen.empty()) {
    for (const MethodInfo& info : Methods()) methods[info.name] = {info.name};
  }
  if (chosen.empty() && !Synthetic()) methods["gd"] = GdSettings();
  for (const std::string& sparsity : absl::GetFlag(FLAGS_sparsities)) {
    std::map<std::string, Row> rows;
    for (const std::string& layer : absl::GetFlag(FLAGS_layers)) {
      ATTNPRUNE_ASSIGN_OR_RETURN(const Problem problem, MakeProblem(layer, sparsity));
      for (const auto& [name, texts] : methods) {
        ATTNPRUNE_ASSIGN_OR_RETURN(const Cell cell, BestOf(texts, problem));
        rows[name].push_back(cell);
      }
    }
    (chosen.empty() ? PrintTable : PrintChosen)(sparsity, rows);
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
  std::cerr << "method_table: " << status.message() << "\n";
  return 1;
} catch (const std::exception& error) {  // std::bad_alloc where memory runs out
  std::cerr << "method_table: " << error.what() << "\n";
  return 1;
}
