// The flags of a run, in which a whole model is pruned: some of a job's, and those that only runs
// have. jobs/make_run.h makes runs of them.
#ifndef ATTNPRUNE_CLIENT_CLI_FLAGS_PRUNE_FLAGS_H_
#define ATTNPRUNE_CLIENT_CLI_FLAGS_PRUNE_FLAGS_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "attnprune/v1/run.pb.h"
#include "client/cli/flags/command_line.h"
#include "client/cli/flags/job_flags.h"

namespace attnprune::cli {

// How a pruned model's folder stores its pruned tensors (files/bitmask_format.h).
struct FormatFlag {
  std::string text = "dense";

  bool bitmask() const { return text == "bitmask"; }
};

// One of the models that a command makes: a --method or a --recipe.
struct RunVariant {
  std::string label;   // of its folder and its row
  std::string method;  // as --method has it
  double dense_target = 0;
  std::string curvature;             // as --curvature has it
  std::string allocation;            // as --allocation has it
  bool curvature_by_recipe = false;  // which nobody asked for by the flag
  std::string sampled_rows;          // as --sampled-rows has them
  bool sampled_by_recipe = false;
  std::string reconstruct, distill;  // as --reconstruct and --distill have them
  bool reconstruct_by_recipe = false, distill_by_recipe = false;
};

struct PruneFlags {
  JobFlags job;  // those of its fields that AddPruneFlags adds; its --held-out-fraction too
  std::string held_out_text, held_out_tokens;
  std::vector<std::string> rules, skips;  // PATTERN=METHOD@SPARSITY; PATTERN
  std::string order = "sequential";
  std::optional<double> dense_target;
  std::optional<std::string> curvature;
  std::optional<std::string> sampled_rows;
  std::optional<std::string> reconstruct, distill;
  std::string attention_method;  // as --method has one; empty: none
  std::optional<std::string> allocation;
  std::vector<std::string> recipes;
  absl::Duration time;  // that the best recipe is to fit; zero: none
  FormatFlag format;
  bool compare = false;
  // Set by CompletePruneFlags: one; several with --compare; with --time every recipe, the best
  // first.
  std::vector<RunVariant> variants;
};

// All of a run's, of which `prune` has no others.
void AddPruneFlags(Command& command, PruneFlags& flags);
// What AddJobFlags does not add.
void AddOnlyRunFlags(Command& command, PruneFlags& flags);
void AddFormatFlag(Command& command, FormatFlag& format);

// With its variants, and what the flags leave open filled in from --recipe. INVALID_ARGUMENT: there
// is no such recipe; a flag of a job is given that a run does not have; or one is missing, or goes
// with no other.
absl::StatusOr<PruneFlags> CompletePruneFlags(const PruneFlags& given);

// INVALID_ARGUMENT names a flag of AddOnlyRunFlags that is given.
absl::Status CheckNoRunFlags(const PruneFlags& flags);

// "q=alps:steps=100@0.3", "down=@2:4" or "gate=magnitude". INVALID_ARGUMENT names --rule.
absl::StatusOr<v1::Rule> ParseRuleFlag(const std::string& text);

// "owl:outlier=5,limit=0.08" or "progression:step=0.02"; nullopt: "uniform". INVALID_ARGUMENT names
// --allocation.
absl::StatusOr<std::optional<v1::Allocation>> ParseAllocationFlag(const std::string& text);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_FLAGS_PRUNE_FLAGS_H_
