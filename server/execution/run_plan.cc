#include "server/execution/run_plan.h"

#include <fnmatch.h>

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "core/model/pass_estimate.h"

namespace attnprune {
namespace {

constexpr double kFloat = 4, kDouble = 8, kMaskBits = 8;

double TotalOf(absl::Span<const Index> lengths) {
  return static_cast<double>(std::accumulate(lengths.begin(), lengths.end(), Index{0}));
}

bool Matches(const RunRule& rule, const TensorMaps& tensor) {
  return rule.pattern == ToString(tensor.maps[0]) ||
         fnmatch(rule.pattern.c_str(), tensor.stored->name.c_str(), 0) == 0;
}

const RunRule* RuleOf(const RunSpec& run, const TensorMaps& tensor) {
  const auto found = std::find_if(run.rules.begin(), run.rules.end(),
                                  [&](const RunRule& rule) { return Matches(rule, tensor); });
  return found == run.rules.end() ? nullptr : &*found;
}

// Of the matrix that all maps of a tensor make, (out, in).
struct MatrixSize {
  double out = 0;
  Index in = 0;
  double entries() const { return out * static_cast<double>(in); }
};

absl::StatusOr<MatrixSize> SizeOfMaps(const ModelWeights& model, Index layer,
                                      absl::Span<const LinearMap> maps) {
  MatrixSize size;
  for (const LinearMap map : maps) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const absl::optional<StoredMap> stored, model.Map(layer, map));
    if (!stored.has_value()) continue;
    size.out += static_cast<double>(stored->out);
    size.in = stored->in;
  }
  return size;
}

absl::Status CheckFits(const RunSpec& run, const TensorMaps& tensor, const Sparsity& sparsity,
                       Index inputs) {
  if (!sparsity.structured() || inputs % sparsity.group == 0) return absl::OkStatus();
  const RunRule* const rule = RuleOf(run, tensor);
  const std::string place = rule == nullptr ? "run" : rule->field;
  return MustError(absl::StrCat(place, ".sparsity.n_of_m.m"),
                   absl::StrCat("divide the ", inputs, " inputs of ", tensor.stored->name),
                   sparsity.group);
}

// A linear map as the registry's costs know shapes.
ProblemShape LinearShape(const MatrixSize& size) {
  ProjectionShape layer;
  layer.w_q = {static_cast<Index>(size.out), size.in};
  ProblemShape shape;
  shape.weights = layer;
  return shape;
}

// Adds up a plan, block by block.
class Planner {
 public:
  Planner(const RunSpec& run, const ModelWeights& model, absl::Span<const Index> calibration,
          absl::Span<const Index> held_out)
      : run_(run), model_(model), calibration_(calibration), held_out_(held_out) {}

  absl::StatusOr<RunPlan> Make();

 private:
  absl::Status AddBlock(Index layer);
  absl::Status AddTensor(Index layer, const Stretch::Tensor& tensor, BlockCost& cost);
  absl::Status CheckRulesMatch() const;
  double PassOperations(absl::Span<const Index> lengths) const;  // of one block
  double Advance() const;
  void AddMemory();

  const RunSpec& run_;
  const ModelWeights& model_;
  const absl::Span<const Index> calibration_, held_out_;
  RunPlan plan_;
  double calibration_pass_ = 0, held_out_pass_ = 0;  // of one block
  double most_method_bytes_ = 0, most_moments_bytes_ = 0, pruned_bytes_ = 0;
  std::vector<bool> matched_;
};

// In units of which a pass's rate is the reference.
double Planner::PassOperations(absl::Span<const Index> lengths) const {
  const PassEstimate pass = EstimatePass(model_.options(), Compute::kFloat32, lengths, 1, 0);
  return pass.map_operations + pass.attention_operations;
}

double Planner::Advance() const {
  if (run_.independent) return calibration_pass_ + held_out_pass_;
  return calibration_pass_ * (run_.dense_target > 0 ? 2 : 1) + 2 * held_out_pass_;
}

absl::Status Planner::AddTensor(Index layer, const Stretch::Tensor& tensor, BlockCost& cost) {
  const RunChoice& choice = *ChoiceOf(run_, tensor.what);
  ATTNPRUNE_ASSIGN_OR_RETURN(const MatrixSize size, SizeOfMaps(model_, layer, tensor.what.maps));
  ATTNPRUNE_RETURN_IF_ERROR(CheckFits(run_, tensor.what, choice.sparsity, size.in));
  const ProblemShape shape = LinearShape(size);
  const MethodInfo& info = *choice.method.info;
  const auto keep = DenseAttention::kKeep;
  cost.prune.push_back(info.operations(shape, choice.method.values, keep));
  const double bytes_per_entry = static_cast<double>(SizeOf(tensor.what.stored->dtype));
  // The method's own, its result, the tensor as it was, as stored, and its mask.
  most_method_bytes_ = std::max(
      most_method_bytes_, info.bytes(shape, choice.method.values, keep) +
                              size.entries() * (3 * kFloat + bytes_per_entry + 1 / kMaskBits));
  pruned_bytes_ += size.entries() * (bytes_per_entry + 1 / kMaskBits);
  ++plan_.results;
  return absl::OkStatus();
}

absl::Status Planner::AddBlock(Index layer) {
  const Chosen chosen = [&](Index, const TensorMaps& tensor) {
    const RunRule* const rule = RuleOf(run_, tensor);
    if (rule != nullptr) matched_[static_cast<size_t>(rule - run_.rules.data())] = true;
    return ChoiceOf(run_, tensor) != nullptr;
  };
  const Passes passes = run_.independent ? Passes::kOnce : Passes::kByGroup;
  ATTNPRUNE_ASSIGN_OR_RETURN(std::vector<Stretch> stretches,
                             StretchesOf(model_, layer, passes, chosen));
  const double tokens = TotalOf(calibration_) + TotalOf(held_out_);
  const double sides = (held_out_.empty() ? 1 : 2) + (run_.dense_target > 0 ? 2 : 0);
  BlockCost cost;
  for (const Stretch& stretch : stretches) {
    double moments = 0, entries = 0;
    for (const Stretch::Tensor& tensor : stretch.tensors) {
      ATTNPRUNE_RETURN_IF_ERROR(AddTensor(layer, tensor, cost));
    }
    for (size_t g = 0; g < stretch.groups.size(); ++g) {
      const auto of_group = [g](const Stretch::Tensor& tensor) { return tensor.inputs == g; };
      const auto first = std::find_if(stretch.tensors.begin(), stretch.tensors.end(), of_group);
      ATTNPRUNE_ASSIGN_OR_RETURN(const MatrixSize size,
                                 SizeOfMaps(model_, layer, first->what.maps));
      const auto d = static_cast<double>(size.in);
      moments += tokens * d * d;
      entries += d * d;
    }
    // A pass as far as the stretch's inputs: a half of the block, on the mean.
    cost.collect.push_back((moments + (calibration_pass_ + held_out_pass_) / 2) *
                           (run_.dense_target > 0 ? 2 : 1));
    most_moments_bytes_ = std::max(most_moments_bytes_, sides * kDouble * entries);
  }
  cost.advance = Advance();
  if (run_.independent) cost.score = 2 * held_out_pass_;
  plan_.operations += cost.All();
  ++plan_.results;
  plan_.blocks.push_back(std::move(stretches));
  plan_.costs.push_back(std::move(cost));
  return absl::OkStatus();
}

absl::Status Planner::CheckRulesMatch() const {
  for (size_t i = 0; i < matched_.size(); ++i) {
    if (matched_[i]) continue;
    return MustError(absl::StrCat(run_.rules[i].field, ".pattern"),
                     "match a map of the model that no rule before it matches",
                     run_.rules[i].pattern);
  }
  return absl::OkStatus();
}

void Planner::AddMemory() {
  const ModelOptions& model = model_.options();
  const double features = static_cast<double>(model.hidden_size);
  // In independent order those before and behind a block, in the dense model.
  const bool twice = run_.independent || run_.dense_target > 0;
  const double states = TotalOf(calibration_) * (twice ? 2 : 1) + 2 * TotalOf(held_out_);
  std::vector<Index> all(calibration_.begin(), calibration_.end());
  all.insert(all.end(), held_out_.begin(), held_out_.end());
  const PassEstimate pass = EstimatePass(model, Compute::kFloat32, all, 1, /*memory_budget=*/1);
  plan_.hidden_bytes = kFloat * features * states;
  // The layer once more for the dense pass where the two differ.
  const bool layer_twice = !held_out_.empty() || twice;
  const double dense_layer = layer_twice ? pass.bytes / 2 : 0;
  plan_.memory_bytes =
      plan_.hidden_bytes + pass.bytes + dense_layer + most_moments_bytes_ + most_method_bytes_;
  plan_.disk_bytes = 2 * plan_.hidden_bytes + pruned_bytes_;
}

absl::StatusOr<RunPlan> Planner::Make() {
  calibration_pass_ = PassOperations(calibration_);
  held_out_pass_ = held_out_.empty() ? 0 : PassOperations(held_out_);
  matched_.assign(run_.rules.size(), false);
  const Index layers = model_.options().layer_count();
  for (Index layer = 0; layer < layers; ++layer) ATTNPRUNE_RETURN_IF_ERROR(AddBlock(layer));
  ATTNPRUNE_RETURN_IF_ERROR(CheckRulesMatch());
  if (plan_.results == static_cast<int>(layers)) {
    return FieldError("run.rules", "must leave a map to be pruned, got none left");
  }
  if (!held_out_.empty()) {
    const double head = static_cast<double>(model_.options().hidden_size) *
                        static_cast<double>(model_.options().vocab);
    plan_.score_operations = 2 * 2 * TotalOf(held_out_) * head;
    plan_.operations += plan_.score_operations;
    ++plan_.results;
  }
  AddMemory();
  return std::move(plan_);
}

}  // namespace

const RunChoice* ChoiceOf(const RunSpec& run, const TensorMaps& tensor) {
  const RunRule* const rule = RuleOf(run, tensor);
  if (rule == nullptr) return &run.choice;
  return rule->choice.has_value() ? &*rule->choice : nullptr;
}

std::vector<std::string> RolesOf(absl::Span<const LinearMap> maps) {
  std::vector<std::string> roles;
  for (const LinearMap map : maps) roles.emplace_back(ToString(map));
  return roles;
}

absl::StatusOr<RunPlan> MakePlan(const RunSpec& run, const ModelWeights& model,
                                 absl::Span<const Index> calibration,
                                 absl::Span<const Index> held_out) {
  return Planner(run, model, calibration, held_out).Make();
}

double BlockCost::OfTensors(int count) const {
  const auto end = prune.begin() + std::min<std::ptrdiff_t>(count, std::ssize(prune));
  const double collected = count > 0 ? std::accumulate(collect.begin(), collect.end(), 0.0) : 0;
  return collected + std::accumulate(prune.begin(), end, 0.0);
}

double BlockCost::OfPart() const { return advance + OfTensors(static_cast<int>(prune.size())); }

PassOptions PassOptionsOf(const RunPlan& plan, const JobRunnerOptions& options) {
  PassOptions pass;
  pass.memory_budget = NeedsWithin(plan, options.memory_budget_bytes).spilled ? 1 : 0;
  pass.spill_folder = options.spill_folder;
  return pass;
}

RunNeeds NeedsWithin(const RunPlan& plan, int64_t budget) {
  const bool spilled = budget > 0 && plan.memory_bytes > static_cast<double>(budget);
  const double moved = spilled ? plan.hidden_bytes : 0;
  return {.spilled = spilled,
          .memory_bytes = static_cast<int64_t>(plan.memory_bytes - moved),
          .disk_bytes = static_cast<int64_t>(plan.disk_bytes + moved)};
}

}  // namespace attnprune
