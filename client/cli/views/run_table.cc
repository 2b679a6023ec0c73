#include "client/cli/views/run_table.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cli/views/format.h"
#include "client/cli/views/waiting_view.h"
#include "core/base/format.h"

namespace attnprune::cli {
namespace {

constexpr size_t kRunModelWidth = 24;  // of a list's cell

// Pruned tensors and the output error of each block.
struct BlockRow {
  std::map<std::string, double> errors;  // by maps
  absl::optional<double> output;
};

struct BlockTable {
  std::vector<std::string>
      columns;  // maps of a tensor, in the order of the first block that has it
  std::map<int, BlockRow> rows;
};

BlockTable TableOf(const v1::Run& run) {
  BlockTable table;
  for (const v1::RunResult& result : run.results()) {
    for (const v1::PrunedTensor& tensor : result.tensors()) {
      const std::string maps = absl::StrJoin(tensor.maps(), ",");
      const auto known = std::find(table.columns.begin(), table.columns.end(), maps);
      if (known == table.columns.end()) table.columns.push_back(maps);
      table.rows[result.block()].errors[maps] = JudgedError(tensor);
    }
    if (result.has_block_score() && result.block_score().has_output_error()) {
      table.rows[result.block()].output = result.block_score().output_error();
    }
  }
  return table;
}

bool HasHeldOut(const v1::Run& run) {
  for (const v1::RunResult& result : run.results()) {
    for (const v1::PrunedTensor& tensor : result.tensors()) {
      if (tensor.has_held_out_error()) return true;
    }
  }
  return false;
}

std::string ErrorCell(absl::optional<double> error) {
  return error.has_value() ? absl::StrFormat("%.5f", *error) : "-";
}

std::string EntriesLine(const v1::Run& run) {
  const PrunedEntries entries = EntriesOf(run);
  return absl::StrFormat("pruned %.2f %% of %d weights of the pruned tensors\n",
                         100 * ShareOf(entries.pruned, entries.size), entries.size);
}

std::string AskedText(const v1::Run& run) {
  std::string text = absl::StrCat(
      "asked     ", SparsityText(run.sparsity()), " by ", MethodsText(run), ", ",
      OrderText(run.order()),
      run.dense_target() > 0 ? absl::StrCat(", dense target ", FormatNumber(run.dense_target()))
                             : "",
      run.has_curvature() ? absl::StrCat(", curvature ", CurvatureText(run.curvature())) : "",
      run.has_sampled() ? absl::StrCat(", ", SampledText(run.sampled())) : "",
      run.has_allocation() ? absl::StrCat(", allocation ", AllocationText(run.allocation())) : "",
      run.has_reconstruction() ? absl::StrCat(", reconstruct ", TrainingText(run.reconstruction()))
                               : "",
      run.has_distillation() ? absl::StrCat(", distill ", TrainingText(run.distillation())) : "",
      "\n");
  for (const v1::Rule& rule : run.rules()) {
    absl::StrAppend(&text, "rule      ", RuleText(rule), "\n");
  }
  return text;
}

std::string TimesText(const v1::Run& run) {
  std::string text = absl::StrCat("created   ", TimeText(run.create_time()), "\n");
  if (run.has_start_time()) {
    absl::StrAppend(&text, "started   ", TimeText(run.start_time()), ", attempt ", run.attempt(),
                    "\n");
  }
  if (run.has_end_time()) absl::StrAppend(&text, "ended     ", TimeText(run.end_time()), "\n");
  return text;
}

}  // namespace

double ShareOf(int64_t done, int64_t total) {
  if (total <= 0) return 0;
  return std::clamp(static_cast<double>(done) / static_cast<double>(total), 0.0, 1.0);
}

std::string SparsityText(const v1::Sparsity& sparsity) {
  if (!sparsity.has_n_of_m()) return FormatNumber(sparsity.fraction());
  return absl::StrCat(sparsity.n_of_m().n(), ":", sparsity.n_of_m().m());
}

std::string MethodText(const v1::Method& method) {
  std::vector<std::string> parameters;
  for (const auto& [name, value] : method.parameters()) {
    parameters.push_back(absl::StrCat(name, "=", FormatNumber(value)));
  }
  std::sort(parameters.begin(), parameters.end());
  return absl::StrCat(method.name(), parameters.empty() ? "" : ":", absl::StrJoin(parameters, ","));
}

std::string MethodsText(const v1::Run& run) {
  if (!run.has_attention_method()) return MethodText(run.method());
  return absl::StrCat(MethodText(run.method()), ", q and k by ",
                      MethodText(run.attention_method()));
}

std::string AllocationText(const v1::Allocation& allocation) {
  v1::Method shown;  // written as a method is
  auto& parameters = *shown.mutable_parameters();
  if (allocation.has_owl()) {
    shown.set_name("owl");
    if (allocation.owl().has_outlier()) parameters["outlier"] = allocation.owl().outlier();
    if (allocation.owl().has_limit()) parameters["limit"] = allocation.owl().limit();
  } else if (allocation.has_by_loss()) {
    shown.set_name("loss");
    if (allocation.by_loss().has_range()) parameters["range"] = allocation.by_loss().range();
  } else {
    shown.set_name("progression");
    const v1::Progression& progression = allocation.progression();
    if (progression.has_step()) parameters["step"] = progression.step();
  }
  return MethodText(shown);
}

std::string SampledText(const v1::SampledRows& sampled) {
  std::string text = absl::StrCat(sampled.rows(), " sampled rows");
  if (sampled.has_temperature()) {
    absl::StrAppend(&text, ", temperature ", FormatNumber(sampled.temperature()));
  }
  if (sampled.prefix() > 0) absl::StrAppend(&text, ", prefix ", sampled.prefix());
  return text;
}

std::string CurvatureText(const v1::Curvature& curvature) {
  v1::Method shown;  // written as a method is
  shown.set_name("on");
  auto& parameters = *shown.mutable_parameters();
  if (curvature.rows() > 0) parameters["rows"] = curvature.rows();
  if (curvature.labels() > 0) parameters["labels"] = curvature.labels();
  if (curvature.widest() > 0) parameters["widest"] = curvature.widest();
  return MethodText(shown);
}

std::string TrainingText(const v1::Training& training) {
  v1::Method shown;
  shown.set_name("on");
  auto& parameters = *shown.mutable_parameters();
  if (training.steps() > 0) parameters["steps"] = training.steps();
  if (training.rows() > 0) parameters["rows"] = training.rows();
  if (training.has_rate()) parameters["rate"] = training.rate();
  return MethodText(shown);
}

std::string TrainedText(const v1::RunResult& result) {
  if (!result.has_distilled() && !result.has_reconstructed()) return "";
  const bool whole = result.has_distilled();
  const v1::Trained& trained = whole ? result.distilled() : result.reconstructed();
  const std::string became =
      trained.best_step() > 0
          ? absl::StrFormat("to %.5f at step %d of %d", trained.best_loss(), trained.best_step(),
                            trained.steps())
          : absl::StrFormat("and no better in %d steps: the start stands", trained.steps());
  return absl::StrFormat(
      "%s  %d rows; %s of %d others from %.5f %s",
      whole ? "distilled" : absl::StrCat("block ", result.block(), "  reconstructed"),
      trained.training_rows(), whole ? "divergence" : "error", trained.validation_rows(),
      trained.start_loss(), became);
}

std::string RuleText(const v1::Rule& rule) {
  if (rule.skip()) return absl::StrCat(rule.pattern(), " skipped");
  return absl::StrCat(rule.pattern(), "=", rule.has_method() ? MethodText(rule.method()) : "",
                      rule.has_sparsity() ? absl::StrCat("@", SparsityText(rule.sparsity())) : "");
}

std::string OrderText(v1::Order order) {
  return order == v1::INDEPENDENT ? "independent" : "sequential";
}

std::string ScoreText(const v1::ModelScore& score) {
  return absl::StrFormat(
      "model  nats/token %.4f dense, %.4f pruned: %+.4f +- %.4f (by row %.4f), "
      "perplexity %.4f -> %.4f",
      score.dense_nats_per_token(), score.pruned_nats_per_token(), score.difference(),
      score.difference_error_by_token(), score.difference_error_by_row(),
      std::exp(score.dense_nats_per_token()), std::exp(score.pruned_nats_per_token()));
}

const v1::ModelScore* ScoreOf(const v1::Run& run) {
  const v1::ModelScore* score = nullptr;
  for (const v1::RunResult& result : run.results()) {
    if (result.has_model_score()) score = &result.model_score();
  }
  return score;
}

PrunedEntries EntriesOf(const v1::Run& run) {
  PrunedEntries entries;
  for (const v1::RunResult& result : run.results()) {
    for (const v1::PrunedTensor& tensor : result.tensors()) {
      entries.pruned += tensor.pruned();
      entries.size += tensor.size();
    }
  }
  return entries;
}

double JudgedError(const v1::PrunedTensor& tensor) {
  return tensor.has_held_out_error() ? tensor.held_out_error() : tensor.calibration_error();
}

double AttentionErrorOf(const v1::PrunedTensor& tensor) {
  return tensor.has_attention_held_out_error() ? tensor.attention_held_out_error()
                                               : tensor.attention_calibration_error();
}

std::string BlockSparsitiesText(const v1::RunResult& result) {
  return absl::StrJoin(result.block_sparsities(), " ", [](std::string* text, double sparsity) {
    absl::StrAppendFormat(text, "%.4f", sparsity);
  });
}

std::string RunTable(const v1::Run& run, absl::optional<int> width) {
  const BlockTable table = TableOf(run);
  if (table.rows.empty()) return "";
  std::vector<std::vector<std::string>> rows = {{"block"}};
  rows[0].insert(rows[0].end(), table.columns.begin(), table.columns.end());
  rows[0].push_back("output");
  for (const auto& [block, row] : table.rows) {
    std::vector<std::string>& cells = rows.emplace_back();
    cells.push_back(absl::StrCat(block));
    for (const std::string& maps : table.columns) {
      const auto found = row.errors.find(maps);
      cells.push_back(found == row.errors.end() ? "-" : ErrorCell(found->second));
    }
    cells.push_back(ErrorCell(row.output));
  }
  std::string text =
      absl::StrCat(TableText(rows, width, table.columns),
                   HasHeldOut(run) ? "errors on held-out rows\n" : "errors on calibration rows\n");
  absl::StrAppend(&text, EntriesLine(run));
  for (const v1::RunResult& result : run.results()) {
    if (const std::string line = TrainedText(result); !line.empty()) {
      absl::StrAppend(&text, line, "\n");
    }
  }
  if (const v1::ModelScore* const score = ScoreOf(run)) {
    absl::StrAppend(&text, ScoreText(*score), "\n");
  }
  return text;
}

std::string RunText(const v1::Run& run, absl::Time now, absl::optional<int> width) {
  std::string text = absl::StrCat(
      run.name(), "  ", StateText(run.state()), run.cancel_requested() ? " (cancel requested)" : "",
      "\n", WaitsRow(run.waiting(), now), run.has_at_work() ? AtWorkRow(run.at_work()) : "");
  absl::StrAppend(&text, AskedText(run), TimesText(run));
  absl::StrAppend(&text, "done      ", run.results_done(), " of ", run.results_total(),
                  " results\n");
  if (run.has_estimate()) {
    absl::StrAppend(&text, "estimate  ", BytesText(run.estimate().memory_bytes()), ", disk ",
                    BytesText(run.estimate().disk_bytes()), ", ",
                    SecondsText(run.estimate().seconds()), " on one idle thread\n");
  }
  for (const auto& [key, value] : run.labels()) {
    absl::StrAppend(&text, "label     ", key, "=", value, "\n");
  }
  if (run.has_failure()) absl::StrAppend(&text, "failure   ", run.failure().message(), "\n");
  const std::string table = RunTable(run, width);
  return table.empty() ? text : absl::StrCat(text, "\n", table);
}

std::string RunListText(const std::vector<v1::Run>& runs, absl::Time now,
                        absl::optional<int> width) {
  Rows rows = {{"run", "state", "model", "at work", "done", "left", "sparsity", "method",
                "priority", "created"}};
  for (const v1::Run& run : runs) {
    const double share = run.has_at_work() ? run.at_work().share()
                                           : ShareOf(run.results_done(), run.results_total());
    rows.push_back({run.name(), StateCell(run), Shortened(ModelText(run.labels()), kRunModelWidth),
                    run.at_work().method(), absl::StrFormat("%.0f %%", 100 * share),
                    LeftCell(run, now), SparsityText(run.sparsity()), run.method().name(),
                    absl::StrCat(run.priority()), TimeText(run.create_time())});
  }
  return TableText(std::move(rows), width,
                   {"created", "priority", "sparsity", "method", "model", "left", "at work"});
}

std::string LossTable(const std::vector<std::string>& names, const std::vector<v1::Run>& runs,
                      absl::optional<int> width) {
  std::vector<std::vector<std::string>> rows = {
      {"method", "pruned %", "nats/token", "perplexity", "difference", "+- by token", "+- by row"}};
  const v1::ModelScore* dense = nullptr;
  for (size_t i = 0; i < runs.size(); ++i) {
    const PrunedEntries entries = EntriesOf(runs[i]);
    std::vector<std::string>& row = rows.emplace_back();
    row = {names[i], absl::StrFormat("%.2f", 100 * ShareOf(entries.pruned, entries.size))};
    const v1::ModelScore* const score = ScoreOf(runs[i]);
    if (score == nullptr) {
      row.resize(rows[0].size(), runs[i].state() == v1::SUCCEEDED ? "-" : "failed");
      continue;
    }
    dense = score;
    row.push_back(absl::StrFormat("%.4f", score->pruned_nats_per_token()));
    row.push_back(absl::StrFormat("%.4f", std::exp(score->pruned_nats_per_token())));
    row.push_back(absl::StrFormat("%+.4f", score->difference()));
    row.push_back(absl::StrFormat("%.4f", score->difference_error_by_token()));
    row.push_back(absl::StrFormat("%.4f", score->difference_error_by_row()));
  }
  if (dense != nullptr) {
    rows.insert(rows.begin() + 1,
                {"dense", "0.00", absl::StrFormat("%.4f", dense->dense_nats_per_token()),
                 absl::StrFormat("%.4f", std::exp(dense->dense_nats_per_token())), "-", "-", "-"});
  }
  return TableText(rows, width,
                   {"+- by row", "+- by token", "nats/token", "pruned %", "perplexity"});
}

}  // namespace attnprune::cli
