// What came of a run, as text. Pure.
#ifndef ATTNPRUNE_CLIENT_CLI_VIEWS_RUN_TABLE_H_
#define ATTNPRUNE_CLIENT_CLI_VIEWS_RUN_TABLE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "attnprune/v1/run.pb.h"

namespace attnprune::cli {

// done / total; 0 where the total is not known.
double ShareOf(int64_t done, int64_t total);

// "2:4" or "0.5".
std::string SparsityText(const v1::Sparsity& sparsity);
// "sparsegpt:blocksize=64", parameters by name.
std::string MethodText(const v1::Method& method);
std::string MethodsText(const v1::Run& run);                   // "alps, q and k by kfac"
std::string AllocationText(const v1::Allocation& allocation);  // "owl:limit=0.1"
std::string SampledText(const v1::SampledRows& sampled);       // "48 sampled rows"
std::string CurvatureText(
    const v1::Curvature& curvature);                     // "on:labels=32768", as --curvature has it
std::string TrainingText(const v1::Training& training);  // "on:steps=200", likewise
// What the distillation, or a block's reconstruction, came to, as a line. Empty: neither is there.
std::string TrainedText(const v1::RunResult& result);
// "down=alps@0.3", "gate skipped": as --rule and --skip have them.
std::string RuleText(const v1::Rule& rule);
std::string OrderText(v1::Order order);  // "sequential"

// "model  nats/token 3.2011 dense, 3.4123 pruned: +0.2112 +- 0.0031 ... perplexity 24.56 -> 30.34"
std::string ScoreText(const v1::ModelScore& score);
// The last one of the run's results; null: there is none.
const v1::ModelScore* ScoreOf(const v1::Run& run);

// Entries pruned and entries in all of the run's pruned tensors.
struct PrunedEntries {
  int64_t pruned = 0, size = 0;
};
PrunedEntries EntriesOf(const v1::Run& run);

// The error on held-out rows or, where there are none, on calibration rows.
double JudgedError(const v1::PrunedTensor& tensor);
// The same of the attention of the block of a tensor that has it.
double AttentionErrorOf(const v1::PrunedTensor& tensor);
std::string BlockSparsitiesText(const v1::RunResult& result);  // "0.6812 0.7188"

// Errors by block and map, with that of the block's output, and below it the model's score. Empty
// before the first result.
// Fewer maps, and less of what is below, where a terminal is `width` wide.
std::string RunTable(const v1::Run& run, absl::optional<int> width = absl::nullopt);

// A run at length: state, what it does or waits for, what is asked for, estimate, failure, results.
std::string RunText(const v1::Run& run, absl::Time now, absl::optional<int> width = absl::nullopt);

// Runs, one a row with a heading. "left" is the time left or, of one that is queued, until it may
// start.
std::string RunListText(const std::vector<v1::Run>& runs, absl::Time now,
                        absl::optional<int> width = absl::nullopt);

// The losses of runs that differ by their methods: one a row, under these names.
std::string LossTable(const std::vector<std::string>& names, const std::vector<v1::Run>& runs,
                      absl::optional<int> width = absl::nullopt);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_VIEWS_RUN_TABLE_H_
