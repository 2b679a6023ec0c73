#include "client/cli/flags/prune_flags.h"

#include <cmath>
#include <limits>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "client/cli/flags/connect.h"
#include "client/cli/flags/loss_flags.h"
#include "core/base/status_macros.h"
#include "core/methods/registry.h"

namespace attnprune::cli {
namespace {

// A named set of flags, which stand where they are not given themselves. The best first.
struct Recipe {
  const char* name;
  const char* method;
  double dense_target;      // in sequential order
  const char* curvature;    // likewise
  const char* allocation;   // likewise, of a fraction
  const char* sampled;      // likewise, where the curvature is taken
  const char* reconstruct;  // likewise
  const char* distill;      // likewise
  const char* help;
};
constexpr Recipe kRecipes[] = {
    {"best", "alps", 0.5, "on:labels=32768", "loss", "on", "on", "on",
     "fast with --curvature on:labels=32768, --sampled-rows on, --allocation loss for a fraction, "
     "--reconstruct on and --distill on"},
    {"fast", "alps", 0.5, "on", "uniform", "off", "off", "off",
     "alps for every map in the metric of the model's own loss: --dense-target 0.5 --curvature on"},
    {"linear", "alps", 0.5, "off", "uniform", "off", "off", "off",
     "alps for every map by its own output: --dense-target 0.5"},
};
constexpr const Recipe& kDefaultRecipe = kRecipes[1];  // fast
constexpr Recipe kNoRecipe = {"",    "",    0,     "off", "uniform",
                              "off", "off", "off", ""};  // beside a --method

std::string RecipesText() {
  return absl::StrJoin(kRecipes, "; ", [](std::string* text, const Recipe& recipe) {
    absl::StrAppend(text, recipe.name, ": ", recipe.help);
  });
}

absl::StatusOr<Recipe> RecipeOf(const std::string& name) {
  for (const Recipe& recipe : kRecipes) {
    if (recipe.name == name) return recipe;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("--recipe must be one of these, got ", name, "; ", RecipesText()));
}

absl::Status RefusedRule(const std::string& text) {
  return absl::InvalidArgumentError(absl::StrCat(
      "--rule must be PATTERN=METHOD@SPARSITY, PATTERN=METHOD or PATTERN=@SPARSITY, got ", text));
}

// Flags of a job that say nothing to a run.
absl::Status CheckNoJobFlags(const JobFlags& f) {
  const std::pair<const char*, bool> given[] = {
      {"--layer", f.layer != kNoLayer},
      {"--weights", !f.weights.empty()},
      {"--fused", !f.fused.empty()},
      {"--fused-product", !f.fused_product.empty()},
      {"--q", !f.q.empty()},
      {"--k", !f.k.empty()},
      {"--calibration", !f.calibration.empty()},
      {"--held-out", !f.held_out.empty()},
      {"--attention", !f.attention.empty()},
      {"--compute", f.tokens.compute != "f32"},
      {"--evaluate-every", f.evaluate_every != 0},
      {"--tensorboard", !f.tensorboard.empty()},
  };
  for (const auto& [flag, is_given] : given) {
    if (!is_given) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(flag, " is for jobs, which prune one layer; a run prunes the whole model"));
  }
  return absl::OkStatus();
}

absl::Status CheckHeldOutFlags(const PruneFlags& flags) {
  const double fraction = flags.job.held_out_fraction;
  if (!(fraction >= 0 && fraction < 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--held-out-fraction must be in [0, 1), got ", fraction));
  }
  const int given =
      int{!flags.held_out_text.empty()} + int{!flags.held_out_tokens.empty()} + int{fraction > 0};
  if (given <= 1) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "at most one of --held-out-text, --held-out-tokens and --held-out-fraction can be given");
}

bool IsSequential(const PruneFlags& flags) { return flags.order == PruneFlags().order; }

// Of a flag for which only `none` goes with another order.
template <typename Value>
absl::Status CheckOrder(const PruneFlags& flags, const char* flag, const char* none,
                        const Value& given, bool is_none) {
  if (is_none || IsSequential(flags)) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(flag, " must be ", none, " unless --order is sequential, got ", given));
}

absl::Status CheckDenseTarget(const PruneFlags& flags) {
  const double target = flags.dense_target.value_or(0);
  if (!(target >= 0 && target <= 1)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--dense-target must be in [0, 1], got ", target));
  }
  return CheckOrder(flags, "--dense-target", "0", target, target == 0);
}

absl::Status CheckCurvature(const PruneFlags& flags) {
  if (!flags.curvature.has_value()) return absl::OkStatus();
  ATTNPRUNE_ASSIGN_OR_RETURN(const auto curvature, ParseCurvatureFlag(*flags.curvature));
  return CheckOrder(flags, "--curvature", "off", *flags.curvature, !curvature.has_value());
}

absl::Status CheckTraining(const PruneFlags& flags, const char* flag,
                           const std::optional<std::string>& given) {
  if (!given.has_value()) return absl::OkStatus();
  ATTNPRUNE_ASSIGN_OR_RETURN(const auto training, ParseTrainingFlag(flag, *given));
  return CheckOrder(flags, flag, "off", *given, !training.has_value());
}

absl::Status CheckTime(const PruneFlags& flags) {
  const bool chosen = flags.compare || !flags.job.methods.empty() || !flags.recipes.empty();
  if (flags.time == absl::ZeroDuration() || !chosen) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "--time chooses the recipe: --method, --recipe and --compare must not be given beside it");
}

absl::Status CheckSampledRows(const PruneFlags& flags) {
  if (!flags.sampled_rows.has_value()) return absl::OkStatus();
  ATTNPRUNE_ASSIGN_OR_RETURN(const SampledFlag sampled, ParseSampledFlag(*flags.sampled_rows));
  return CheckOrder(flags, "--sampled-rows", "off", *flags.sampled_rows, sampled.rows == 0);
}

absl::Status CheckVariantCount(const PruneFlags& flags) {
  const std::vector<std::string>&methods = flags.job.methods, &recipes = flags.recipes;
  if (flags.compare && methods.size() + recipes.size() < 2) {
    return absl::InvalidArgumentError(
        "--compare needs at least two models: --method or --recipe several times");
  }
  if (flags.compare) return absl::OkStatus();
  for (const auto& [flag, given] : {std::pair("--method", &methods), {"--recipe", &recipes}}) {
    if (given->size() < 2) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        flag,
        " must be given once, or several times with --compare, which makes a model for "
        "each; got ",
        absl::StrJoin(*given, " and ")));
  }
  return absl::OkStatus();
}

std::string NameOfMethod(const std::string& method) { return method.substr(0, method.find(':')); }

bool ReadsCurvature(const std::string& method) {
  const std::string name = NameOfMethod(method);
  return absl::c_any_of(Methods(), [&name](const MethodInfo& info) {
    return info.name == name && info.reads_curvature;
  });
}

bool IsFraction(const std::string& sparsity) { return sparsity.find(':') == std::string::npos; }

// What the flags do not say is `recipe`'s.
RunVariant VariantOf(const PruneFlags& flags, const std::string& method, const Recipe& recipe) {
  const double target = IsSequential(flags) ? recipe.dense_target : 0;
  const bool measures = IsSequential(flags) && ReadsCurvature(method);
  const std::string curvature =
      flags.curvature.value_or(measures ? recipe.curvature : kNoRecipe.curvature);
  const bool shares = IsFraction(flags.job.sparsity) && curvature != kNoRecipe.curvature;
  return {
      .label = NameOfMethod(method),
      .method = method,
      .dense_target = flags.dense_target.value_or(target),
      .curvature = curvature,
      .allocation = flags.allocation.value_or(shares ? recipe.allocation : kNoRecipe.allocation),
      .curvature_by_recipe = !flags.curvature.has_value(),
      .sampled_rows = flags.sampled_rows.value_or(
          curvature != kNoRecipe.curvature ? recipe.sampled : kNoRecipe.sampled),
      .sampled_by_recipe = !flags.sampled_rows.has_value(),
      .reconstruct = flags.reconstruct.value_or(IsSequential(flags) ? recipe.reconstruct
                                                                    : kNoRecipe.reconstruct),
      .distill = flags.distill.value_or(IsSequential(flags) ? recipe.distill : kNoRecipe.distill),
      .reconstruct_by_recipe = !flags.reconstruct.has_value(),
      .distill_by_recipe = !flags.distill.has_value()};
}

// Every recipe, the best first.
std::vector<RunVariant> VariantsByTime(const PruneFlags& flags) {
  std::vector<RunVariant> variants;
  for (const Recipe& recipe : kRecipes) {
    variants.push_back(VariantOf(flags, recipe.method, recipe));
    variants.back().label = recipe.name;
  }
  return variants;
}

absl::StatusOr<std::vector<RunVariant>> VariantsOf(const PruneFlags& flags) {
  if (flags.time > absl::ZeroDuration()) return VariantsByTime(flags);
  std::vector<Recipe> recipes;
  for (const std::string& name : flags.recipes) {
    ATTNPRUNE_ASSIGN_OR_RETURN(recipes.emplace_back(), RecipeOf(name));
  }
  const std::vector<std::string>& methods = flags.job.methods;
  if (!flags.compare) {
    const Recipe& usual = methods.empty() ? kDefaultRecipe : kNoRecipe;
    const Recipe recipe = recipes.empty() ? usual : recipes[0];
    const std::string method = methods.empty() ? recipe.method : methods[0];
    return std::vector<RunVariant>{VariantOf(flags, method, recipe)};
  }
  std::vector<RunVariant> variants;
  for (const std::string& method : methods) {
    variants.push_back(VariantOf(flags, method, kNoRecipe));
  }
  for (const Recipe& recipe : recipes) {
    variants.push_back(VariantOf(flags, recipe.method, recipe));
    variants.back().label = recipe.name;
  }
  std::vector<std::string> names;
  for (const RunVariant& variant : variants) names.push_back(variant.label);
  names = LabelsOf(names);
  for (size_t i = 0; i < names.size(); ++i) variants[i].label = names[i];
  return variants;
}

}  // namespace

void AddFormatFlag(Command& command, FormatFlag& format) {
  command.Add("--format", format.text,
              "Of pruned tensors: dense, as they were with zeros; or bitmask, a bit an entry and "
              "the kept values, which attnprune unpack makes dense again",
              {.show_default = true, .one_of = {"dense", "bitmask"}});
}

void AddOnlyRunFlags(Command& command, PruneFlags& flags) {
  command.Add("--held-out-text", flags.held_out_text,
              "Text that the losses of the dense and the pruned model are taken on: all its "
              "windows without overlap, as eval reads it",
              {.type = "FILE"});
  command.Add("--held-out-tokens", flags.held_out_tokens, "Token ids instead, as --tokens",
              {.type = "FILE[:NAME]", .excludes = "--held-out-text"});
  command.Add("--rule", flags.rules,
              "Other method or sparsity for some maps: PATTERN is a role (q, k, v, o, gate, up, "
              "down) or the name of a tensor with * and ?; METHOD@SPARSITY, METHOD or @SPARSITY. "
              "The first that matches counts. Repeatable",
              {.type = "PATTERN=METHOD@SPARSITY", .repeatable = true});
  command.Add("--skip", flags.skips, "Maps that stay dense; goes before the rules. Repeatable",
              {.type = "PATTERN", .repeatable = true});
  command.Add("--order", flags.order,
              "sequential: each block on what the pruned ones before it give; independent: every "
              "map on its inputs in the dense model",
              {.show_default = true, .one_of = {"sequential", "independent"}});
  command.Add(
      "--dense-target", flags.dense_target,
      "In sequential order, how much of what a map is to give is what it gives in the dense "
      "model, 0 to 1; the rest is what it would give dense on its inputs in the pruned one. "
      "0.5 loses less, for twice the passes; default: 0, or the recipe's");
  command.Add(
      "--curvature", flags.curvature,
      "In sequential order: on[:rows=64,labels=COUNT,widest=2048], the curvature of the model's "
      "own loss is taken first, and alps counts each output's error as the loss feels it; "
      "or off. Of so many calibration rows, with so many labels drawn at least (each token's "
      "once); outputs beyond the widest are weighed in several blocks. Default: off, or the "
      "recipe's",
      {.type = "on[:PARAMETER=NUMBER,...]"});
  command.Add(
      "--sampled-rows", flags.sampled_rows,
      "In sequential order: calibration rows more, which the dense model writes itself: COUNT, or "
      "on: what is missing to 256; each goes on from the first tokens of a real one "
      "(:temperature=1,prefix=4). Or off. Default: off, or the recipe's",
      {.type = "off|on|COUNT[:PARAMETER=NUMBER,...]"});
  command.Add(
      "--reconstruct", flags.reconstruct,
      "In sequential order: on[:steps=200,rows=4,rate=NUMBER], the kept weights of each pruned "
      "block are trained so that it gives what the dense one does, as far as the loss feels it "
      "where a curvature is taken; steps, rows, rate and deciding rows as those of --distill. Or "
      "off. Default: off, or the recipe's",
      {.type = "on[:PARAMETER=NUMBER,...]"});
  command.Add(
      "--distill", flags.distill,
      "In sequential order: on[:steps=400,rows=4,rate=NUMBER], the kept weights of the whole "
      "pruned model are trained at the end to predict what the dense one does, so many steps of so "
      "many calibration rows (the rate's default: 0.002 / (1 - sparsity)); every eighth real row "
      "is "
      "not trained on and decides which weights stand; or off. Default: off, or the recipe's",
      {.type = "on[:PARAMETER=NUMBER,...]"});
  command.Add("--attention-method", flags.attention_method,
              "Prunes the queries and keys of a block together, so that its attention matrix "
              "changes least: any method of run (kfac, joint, ...). Rules that name a method or "
              "skip go before it. Default: q and k by --method, each by itself",
              {.type = "NAME[:PARAMETER=NUMBER,...]"});
  command.Add(
      "--allocation", flags.allocation,
      "What loses more, of a sparsity that is a fraction: uniform, none; "
      "owl[:outlier=5,limit=0.08], those whose scores have fewer outliers; "
      "progression[:step=NUMBER], each step more than the one before it (default: 0.06 "
      "from the first to the last); loss[:range=0.05], each tensor by one threshold on "
      "what the model's loss feels of its weights, which needs --curvature. Default: uniform, or "
      "the recipe's",
      {.type = "NAME[:PARAMETER=NUMBER,...]"});
  command.Add("--recipe", flags.recipes,
              absl::StrCat("What other flags leave open, by name; without --method the default is ",
                           kDefaultRecipe.name, ". Repeatable with --compare. ", RecipesText()),
              {.type = "NAME", .repeatable = true});
  AddDuration(command, "--time", flags.time,
              "Instead of a recipe: the best one that the server estimates to be done by then, on "
              "all threads of a server of its own, on one of a server that is named; 0: none");
  AddFormatFlag(command, flags.format);
  command.Add(
      "--compare", flags.compare,
      "One model for each --method and --recipe, in OUTPUT/NAME, and a table of their losses");
}

void AddPruneFlags(Command& command, PruneFlags& flags) {
  JobFlags& job = flags.job;
  command.Add("--model", job.model, "Hugging Face folder", {.type = "DIR", .required = true});
  AddTextFlags(command, job.tokens);
  AddSampleFlags(command, job.tokens);
  command.Add("--seed", job.seed, "Of the samples, and of methods that draw random numbers",
              {.show_default = true, .at_least = 0});
  command.Add("--held-out-fraction", job.held_out_fraction,
              "Instead of held-out files: fraction of the calibration rows that is only scored, "
              "evenly spaced; below 1",
              {.show_default = true});
  AddSparsityFlag(command, job.sparsity);
  command.Add("--method", job.methods,
              "Of every linear map; default: by --recipe. Repeatable with --compare",
              {.type = "NAME[:PARAMETER=NUMBER,...]", .repeatable = true});
  AddOnlyRunFlags(command, flags);
  AddPlaceFlags(command, job);
  command.Add("--output", job.output,
              "Folder for the pruned model: shards, names and dtypes as they were, all that lies "
              "beside them, report.json and report.md",
              {.type = "DIR", .required = true});
  command.Add("--save-mask", job.save_mask,
              "File for the masks; {method} in it: with --compare, one for each model",
              {.type = "FILE"});
  command.Add("--overwrite", job.overwrite, "Write into an output folder that is not empty");
  command.Add("--quiet", job.quiet, "No progress: only states, warnings and results");
}

absl::StatusOr<v1::Rule> ParseRuleFlag(const std::string& text) {
  const std::vector<std::string> sides = absl::StrSplit(text, absl::MaxSplits('=', 1));
  if (sides.size() != 2 || sides[0].empty()) return RefusedRule(text);
  const size_t at = sides[1].rfind('@');
  const std::string method = sides[1].substr(0, at);
  const std::string sparsity = at == std::string::npos ? "" : sides[1].substr(at + 1);
  if (sparsity.empty() && (method.empty() || at != std::string::npos)) return RefusedRule(text);
  v1::Rule rule;
  rule.set_pattern(sides[0]);
  if (!method.empty()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(*rule.mutable_method(), ParseMethodFlag(method, "--rule"));
  }
  if (!sparsity.empty()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(*rule.mutable_sparsity(), ParseSparsityFlag(sparsity, "--rule"));
  }
  return rule;
}

absl::StatusOr<std::optional<v1::Allocation>> ParseAllocationFlag(const std::string& text) {
  const auto refused = [&text](const std::string& why) {
    return absl::InvalidArgumentError(
        absl::StrCat("--allocation must be uniform, owl[:outlier=NUMBER,limit=NUMBER], "
                     "progression[:step=NUMBER] or loss[:range=NUMBER], got ",
                     text, why));
  };
  const absl::StatusOr<MethodSpec> spec = ParseMethodSpec(text);
  if (!spec.ok()) return refused(absl::StrCat(": ", spec.status().message()));
  v1::Allocation allocation;
  if (spec->name == "owl") {
    allocation.mutable_owl();
  } else if (spec->name == "progression") {
    allocation.mutable_progression();
  } else if (spec->name == "loss") {
    allocation.mutable_by_loss();
  } else if (spec->name != "uniform") {
    return refused("");
  }
  for (const auto& [name, value] : spec->parameters) {
    if (allocation.has_owl() && name == "outlier") {
      allocation.mutable_owl()->set_outlier(value);
    } else if (allocation.has_owl() && name == "limit") {
      allocation.mutable_owl()->set_limit(value);
    } else if (allocation.has_progression() && name == "step") {
      allocation.mutable_progression()->set_step(value);
    } else if (allocation.has_by_loss() && name == "range") {
      allocation.mutable_by_loss()->set_range(value);
    } else {
      return refused(absl::StrCat(": ", spec->name, " has no parameter ", name));
    }
  }
  if (spec->name == "uniform") return std::nullopt;
  return allocation;
}

absl::StatusOr<PruneFlags> CompletePruneFlags(const PruneFlags& given) {
  PruneFlags flags = given;
  if (flags.job.model.empty()) return absl::InvalidArgumentError("--model DIR is required");
  ATTNPRUNE_RETURN_IF_ERROR(CheckNoJobFlags(flags.job));
  ATTNPRUNE_RETURN_IF_ERROR(CheckTokenFlags(flags.job.tokens));
  ATTNPRUNE_RETURN_IF_ERROR(CheckHeldOutFlags(flags));
  ATTNPRUNE_RETURN_IF_ERROR(CheckDenseTarget(flags));
  ATTNPRUNE_RETURN_IF_ERROR(CheckTime(flags));
  ATTNPRUNE_RETURN_IF_ERROR(CheckVariantCount(flags));
  if (flags.allocation.has_value()) {
    ATTNPRUNE_RETURN_IF_ERROR(ParseAllocationFlag(*flags.allocation).status());
  }
  ATTNPRUNE_RETURN_IF_ERROR(CheckCurvature(flags));
  ATTNPRUNE_RETURN_IF_ERROR(CheckSampledRows(flags));
  ATTNPRUNE_RETURN_IF_ERROR(CheckTraining(flags, "--reconstruct", flags.reconstruct));
  ATTNPRUNE_RETURN_IF_ERROR(CheckTraining(flags, "--distill", flags.distill));
  ATTNPRUNE_ASSIGN_OR_RETURN(flags.variants, VariantsOf(flags));
  return flags;
}

absl::Status CheckNoRunFlags(const PruneFlags& flags) {
  const std::pair<const char*, bool> given[] = {
      {"--held-out-text", !flags.held_out_text.empty()},
      {"--held-out-tokens", !flags.held_out_tokens.empty()},
      {"--rule", !flags.rules.empty()},
      {"--skip", !flags.skips.empty()},
      {"--order", flags.order != PruneFlags().order},
      {"--dense-target", flags.dense_target.has_value()},
      {"--curvature", flags.curvature.has_value()},
      {"--sampled-rows", flags.sampled_rows.has_value()},
      {"--reconstruct", flags.reconstruct.has_value()},
      {"--distill", flags.distill.has_value()},
      {"--attention-method", !flags.attention_method.empty()},
      {"--allocation", flags.allocation.has_value()},
      {"--recipe", !flags.recipes.empty()},
      {"--time", flags.time > absl::ZeroDuration()},
      {"--format", flags.format.bitmask()},
      {"--compare", flags.compare},
  };
  for (const auto& [flag, is_given] : given) {
    if (is_given) return absl::InvalidArgumentError(absl::StrCat(flag, " needs --run"));
  }
  return absl::OkStatus();
}

}  // namespace attnprune::cli
