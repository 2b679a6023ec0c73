#include "client/cli/files/run_report.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cli/views/format.h"
#include "client/cli/views/run_table.h"
#include "core/io/sha256.h"
#include "core/tensor/dtype.h"

namespace attnprune::cli {
namespace {

using Object = nlohmann::ordered_json;

constexpr char kDenseIsNoSmaller[] =
    "A dense output, zeros in the place of pruned weights, is not smaller or faster by itself: "
    "files "
    "shrink with `--format bitmask`, and time with a runtime that has kernels for the pattern.";

int64_t ElementBytes(v1::DType dtype) {
  return static_cast<int64_t>(SizeOf(ParseDType(v1::DType_Name(dtype)).value_or(DType::kF32)));
}

int64_t DenseBytesOf(const v1::TensorRef& ref) {
  return std::accumulate(ref.shape().begin(), ref.shape().end(), ElementBytes(ref.dtype()),
                         [](int64_t a, int64_t b) { return a * b; });
}

bool Is2Of4(const v1::PrunedTensor& tensor) {
  return tensor.asked().n_of_m().n() == 2 && tensor.asked().n_of_m().m() == 4;
}

// --- report.json ---

Object SizesJson(const StoredSizes& sizes) {
  Object json = {{"dense", sizes.dense}, {"bitmask", sizes.bitmask}};
  if (sizes.packed_2_4.has_value()) json["packed2of4"] = *sizes.packed_2_4;
  return json;
}

Object TensorJson(int block, const v1::PrunedTensor& tensor) {
  Object json = {{"name", tensor.name()},
                 {"block", block},
                 {"maps", std::vector<std::string>(tensor.maps().begin(), tensor.maps().end())},
                 {"method", tensor.method()},
                 {"asked", SparsityText(tensor.asked())},
                 {"sparsity", tensor.sparsity()},
                 {"pruned", tensor.pruned()},
                 {"entries", tensor.size()},
                 {"calibrationError", tensor.calibration_error()}};
  if (tensor.has_held_out_error()) json["heldOutError"] = tensor.held_out_error();
  if (tensor.has_attention_calibration_error()) {
    json["attentionCalibrationError"] = tensor.attention_calibration_error();
  }
  if (tensor.has_attention_held_out_error()) {
    json["attentionHeldOutError"] = tensor.attention_held_out_error();
  }
  if (tensor.steps() > 0) json["steps"] = tensor.steps();
  json["seconds"] = tensor.seconds();
  json["bytes"] = SizesJson(SizesOf(tensor));
  return json;
}

Object ScoreJson(const v1::ModelScore& score) {
  return {{"tokens", score.tokens()},
          {"dense",
           {{"natsPerToken", score.dense_nats_per_token()},
            {"perplexity", std::exp(score.dense_nats_per_token())}}},
          {"pruned",
           {{"natsPerToken", score.pruned_nats_per_token()},
            {"perplexity", std::exp(score.pruned_nats_per_token())}}},
          {"difference",
           {{"mean", score.difference()},
            {"standardErrorByToken", score.difference_error_by_token()},
            {"standardErrorByRow", score.difference_error_by_row()}}}};
}

Object TrainedJson(const v1::Trained& trained) {
  return {{"steps", trained.steps()},
          {"bestStep", trained.best_step()},
          {"startLoss", trained.start_loss()},
          {"bestLoss", trained.best_loss()},
          {"trainingRows", trained.training_rows()},
          {"validationRows", trained.validation_rows()}};
}

Object TokensJson(const v1::TokenIds& tokens) {
  const int64_t total =
      std::accumulate(tokens.lengths().begin(), tokens.lengths().end(), int64_t{0});
  return {{"rows", tokens.lengths_size()}, {"tokens", total}, {"sha256", tokens.ids().sha256()}};
}

Object ProvenanceJson(const v1::Run& run, const std::string& version) {
  std::vector<std::string> rules;
  for (const v1::Rule& rule : run.rules()) rules.push_back(RuleText(rule));
  Object json = {{"attnprune", version},
                 {"run", run.name()},
                 {"created", run.create_time().seconds()},
                 {"attempts", run.attempt()},
                 {"sparsity", SparsityText(run.sparsity())},
                 {"method", MethodText(run.method())},
                 {"rules", rules},
                 {"order", OrderText(run.order())},
                 {"denseTarget", run.dense_target()},
                 {"seed", run.seed()},
                 {"configSha256", Sha256Of(run.model().config())},
                 {"calibration", TokensJson(run.calibration())}};
  if (run.has_attention_method()) json["attentionMethod"] = MethodText(run.attention_method());
  if (run.has_curvature()) json["curvature"] = CurvatureText(run.curvature());
  if (run.has_sampled()) json["sampledRows"] = run.sampled().rows();
  if (run.has_allocation()) json["allocation"] = AllocationText(run.allocation());
  if (run.has_reconstruction()) json["reconstruct"] = TrainingText(run.reconstruction());
  if (run.has_distillation()) json["distill"] = TrainingText(run.distillation());
  if (run.has_held_out()) json["heldOut"] = TokensJson(run.held_out());
  if (run.held_out_fraction() > 0) json["heldOutFraction"] = run.held_out_fraction();
  return json;
}

// --- report.md ---

std::string MarkdownRow(const std::vector<std::string>& cells) {
  return absl::StrCat("| ", absl::StrJoin(cells, " | "), " |\n");
}

std::string MarkdownTable(const std::vector<std::string>& heading,
                          const std::vector<std::vector<std::string>>& rows) {
  std::string text = MarkdownRow(heading);
  absl::StrAppend(&text, "|");
  for (size_t i = 0; i < heading.size(); ++i) absl::StrAppend(&text, "---|");
  absl::StrAppend(&text, "\n");
  for (const auto& row : rows) absl::StrAppend(&text, MarkdownRow(row));
  return absl::StrCat(text, "\n");
}

std::string LossSection(const v1::Run& run) {
  const v1::ModelScore* const score = ScoreOf(run);
  if (score == nullptr) {
    return "No tokens were held out, so this says nothing of the model's loss: `attnprune eval` "
           "does.\n\n";
  }
  const auto row = [](const char* model, double nats) {
    return std::vector<std::string>{model, absl::StrFormat("%.4f", nats),
                                    absl::StrFormat("%.4f", std::exp(nats))};
  };
  return absl::StrCat(
      MarkdownTable({"model", "nats/token", "perplexity"},
                    {row("dense", score->dense_nats_per_token()),
                     row("pruned", score->pruned_nats_per_token())}),
      absl::StrFormat("Difference %+.4f nats/token over %d held-out tokens; standard error %.4f "
                      "by token, %.4f by row.\n\n",
                      score->difference(), score->tokens(), score->difference_error_by_token(),
                      score->difference_error_by_row()));
}

std::string TrainingSection(const v1::Run& run) {
  std::string lines;
  for (const v1::RunResult& result : run.results()) {
    if (const std::string line = TrainedText(result); !line.empty()) {
      absl::StrAppend(&lines, "- ", line, "\n");
    }
  }
  if (lines.empty()) return "";
  return absl::StrCat(
      "## Training of what is kept\n\n", lines,
      "\nErrors of a block are relative to what it does to its input, as far as the loss feels "
      "it; divergences are KL(dense || pruned) in nats a token. The tensors' errors below are "
      "those of before.\n\n");
}

std::string SizesSection(const v1::Run& run) {
  const StoredSizes sizes = SizesOf(run);
  std::vector<std::vector<std::string>> rows = {
      {"dense", BytesText(sizes.dense)},
      {"bitmask: a bit an entry and the kept values", BytesText(sizes.bitmask)}};
  if (sizes.packed_2_4.has_value()) {
    rows.push_back({"2:4-packed: kept values and 2 bits each", BytesText(*sizes.packed_2_4)});
  }
  return absl::StrCat("## Sizes\n\n", kDenseIsNoSmaller, "\n\n",
                      MarkdownTable({"whole model", "bytes"}, rows));
}

std::string BlocksSection(const v1::Run& run) {
  std::vector<std::vector<std::string>> rows;
  for (const v1::RunResult& result : run.results()) {
    if (!result.has_block_score() || !result.block_score().has_output_error()) continue;
    rows.push_back({absl::StrCat(result.block()),
                    absl::StrFormat("%.5f", result.block_score().output_error())});
  }
  if (rows.empty()) return "";
  return absl::StrCat("## Blocks\n\n", MarkdownTable({"block", "output error"}, rows));
}

// The attention's error stands in the rows of q and k that were pruned together.
std::string TensorsSection(const v1::Run& run) {
  const bool attends = run.has_attention_method();
  std::vector<std::vector<std::string>> rows;
  for (const v1::RunResult& result : run.results()) {
    for (const v1::PrunedTensor& tensor : result.tensors()) {
      std::vector<std::string>& row = rows.emplace_back();
      row = {absl::StrCat("`", tensor.name(), "`"),
             absl::StrJoin(tensor.maps(), ", "),
             tensor.method(),
             absl::StrFormat("%.2f %%", 100 * tensor.sparsity()),
             absl::StrFormat("%.5f", tensor.calibration_error()),
             tensor.has_held_out_error() ? absl::StrFormat("%.5f", tensor.held_out_error()) : "-",
             SecondsText(tensor.seconds())};
      if (!attends) continue;
      row.push_back(tensor.has_attention_calibration_error()
                        ? absl::StrFormat("%.5f", AttentionErrorOf(tensor))
                        : "-");
    }
  }
  std::vector<std::string> heading = {"tensor", "maps",     "method", "pruned",
                                      "error",  "held out", "time"};
  if (attends) heading.emplace_back("attention");
  return absl::StrCat("## Tensors\n\n", MarkdownTable(heading, rows));
}

std::string ProvenanceSection(const v1::Run& run, const std::string& version) {
  std::string text = "## Provenance\n\n";
  const Object provenance = ProvenanceJson(run, version);
  for (const auto& [key, value] : provenance.items()) {
    absl::StrAppend(&text, "- ", key, ": ",
                    value.is_string() ? value.get<std::string>() : value.dump(), "\n");
  }
  return text;
}

}  // namespace

StoredSizes SizesOf(const v1::PrunedTensor& tensor) {
  const int64_t element = ElementBytes(tensor.weights().dtype());
  const int64_t kept = (tensor.size() - tensor.pruned()) * element;
  StoredSizes sizes{.dense = tensor.size() * element,
                    .bitmask = (tensor.size() + 7) / 8 + kept,
                    .packed_2_4 = {}};
  constexpr int64_t kEntriesAByte = 8;  // 2 of every 4 entries are kept, with 2 bits each
  if (Is2Of4(tensor)) sizes.packed_2_4 = kept + tensor.size() / kEntriesAByte;
  return sizes;
}

StoredSizes SizesOf(const v1::Run& run) {
  StoredSizes all{.dense = 0, .bitmask = 0, .packed_2_4 = 0};
  std::set<std::string> pruned;
  for (const v1::RunResult& result : run.results()) {
    for (const v1::PrunedTensor& tensor : result.tensors()) {
      const StoredSizes sizes = SizesOf(tensor);
      pruned.insert(tensor.name());
      all.dense += sizes.dense;
      all.bitmask += sizes.bitmask;
      if (!sizes.packed_2_4.has_value()) all.packed_2_4.reset();
      if (all.packed_2_4.has_value()) *all.packed_2_4 += *sizes.packed_2_4;
    }
  }
  int64_t rest = 0;
  for (const v1::TensorRef& tensor : run.model().tensors()) {
    if (!pruned.contains(tensor.name())) rest += DenseBytesOf(tensor);
  }
  all.dense += rest;
  all.bitmask += rest;
  if (pruned.empty()) all.packed_2_4.reset();
  if (all.packed_2_4.has_value()) *all.packed_2_4 += rest;
  return all;
}

std::string RunReportJson(const v1::Run& run, const std::string& version) {
  Object json = {{"provenance", ProvenanceJson(run, version)}};
  const PrunedEntries entries = EntriesOf(run);
  json["model"] = {{"pruned", entries.pruned},
                   {"entriesOfPrunedTensors", entries.size},
                   {"bytes", SizesJson(SizesOf(run))}};
  if (const v1::ModelScore* const score = ScoreOf(run)) json["model"]["loss"] = ScoreJson(*score);
  for (const v1::RunResult& result : run.results()) {
    for (const auto& [name, sparsity] : result.tensor_sparsities()) {
      json["model"]["tensorSparsities"][name] = sparsity;
    }
    if (result.block_sparsities_size() == 0) continue;
    json["model"]["blockSparsities"] =
        std::vector<double>(result.block_sparsities().begin(), result.block_sparsities().end());
  }
  json["blocks"] = Object::array();
  json["tensors"] = Object::array();
  for (const v1::RunResult& result : run.results()) {
    if (result.has_distilled()) json["model"]["distilled"] = TrainedJson(result.distilled());
    if (result.has_reconstructed()) {
      Object trained = TrainedJson(result.reconstructed());
      trained["block"] = result.block();
      json["reconstructed"].push_back(std::move(trained));
    }
    for (const v1::PrunedTensor& tensor : result.tensors()) {
      json["tensors"].push_back(TensorJson(result.block(), tensor));
    }
    if (!result.has_block_score() || !result.block_score().has_output_error()) continue;
    json["blocks"].push_back(
        {{"block", result.block()}, {"outputError", result.block_score().output_error()}});
  }
  return absl::StrCat(json.dump(2), "\n");
}

std::string RunReportMarkdown(const v1::Run& run, const std::string& version) {
  const PrunedEntries entries = EntriesOf(run);
  return absl::StrCat(
      "# A pruned model\n\n",
      absl::StrFormat("%.2f %% of the %d weights of its pruned tensors are zero: %s by %s, in "
                      "%s order.\n\n",
                      100 * ShareOf(entries.pruned, entries.size), entries.size,
                      SparsityText(run.sparsity()), MethodsText(run), OrderText(run.order())),
      LossSection(run), TrainingSection(run), SizesSection(run), BlocksSection(run),
      TensorsSection(run), ProvenanceSection(run, version));
}

}  // namespace attnprune::cli
