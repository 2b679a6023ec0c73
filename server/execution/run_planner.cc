#include <algorithm>
#include <array>
#include <numeric>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "core/model/attention_layer.h"
#include "core/model/pass_estimate.h"
#include "core/model/sampler.h"
#include "core/problem/shape_check.h"
#include "core/sequential/allocation.h"
#include "core/sequential/block_reconstruction.h"
#include "core/sequential/curvature.h"
#include "core/sequential/distillation.h"
#include "server/execution/run_map_cost.h"
#include "server/execution/run_places.h"
#include "server/execution/run_plan.h"

namespace attnprune {
namespace {

constexpr double kFloat = 4, kDouble = 8, kMaskBits = 8;

double TotalOf(absl::Span<const Index> lengths) {
  return static_cast<double>(std::accumulate(lengths.begin(), lengths.end(), Index{0}));
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

std::vector<BatchGroup> GroupsOf(absl::Span<const Index> lengths, Index features) {
  std::vector<BatchGroup> groups;
  for (const Index length : lengths) {
    if (groups.empty() || groups.back().length != length) groups.push_back({0, length, features});
    ++groups.back().batches;
  }
  return groups;
}

// Adds up a plan, block by block.
class Planner {
 public:
  Planner(const RunSpec& run, const ModelWeights& model, absl::Span<const Index> calibration,
          absl::Span<const Index> held_out, const RunMachine& machine)
      : run_(run),
        model_(model),
        real_(calibration),
        calibration_(calibration.begin(), calibration.end()),
        held_out_(held_out),
        machine_(machine) {}

  absl::StatusOr<RunPlan> Make();

 private:
  absl::Status AddAllocation();
  void AddSampling();
  void AddCurvature();
  absl::Status CheckRowsDecide() const;
  absl::Status AddReconstruction(Index layer, BlockCost& cost);
  absl::Status AddDistillation();
  absl::Status AddBlock(Index layer);
  absl::Status AddStretch(Index layer, const Stretch& stretch, BlockCost& cost);
  absl::Status AddTensor(Index layer, const Stretch::Tensor& tensor);
  absl::StatusOr<double> LinearOperations(Index layer, const TensorMaps& tensor,
                                          bool by_attention) const;
  absl::Status AddAttention(Index layer, const Stretch::Piece& piece);
  absl::Status CheckAttention(Index layer) const;
  absl::Status CheckRulesMatch() const;
  double PassOperations(absl::Span<const Index> lengths) const;  // of one block
  double SidesBetween(LayerPoint from, LayerHooks::Until until) const;
  double Advance(LayerPoint from) const;
  RunSizes Sizes() const;
  void AddMemory();
  void AddAttentionCosts();
  void AddUp();

  const RunSpec& run_;
  const ModelWeights& model_;
  const absl::Span<const Index> real_;
  std::vector<Index> calibration_;  // the real rows and those that the model writes
  const absl::Span<const Index> held_out_;
  const RunMachine machine_;
  RunPlan plan_;
  double calibration_pass_ = 0, held_out_pass_ = 0;  // of one block
  SampleEstimate sampling_;
  CurvatureEstimate curvature_;
  ReconstructionEstimate reconstruction_;  // the most of any block
  DistillationEstimate distillation_;
  double most_method_bytes_ = 0, most_moments_bytes_ = 0, pruned_bytes_ = 0;
  std::array<double, std::size(kAttentionWays)> most_attention_bytes_ = {};
  // By block, of its piece that is pruned as attention.
  std::vector<absl::optional<ProblemShape>> attention_;
  bool keeps_values_ = false;
  std::vector<bool> matched_;
};

// In units of which a pass's rate is the reference.
double Planner::PassOperations(absl::Span<const Index> lengths) const {
  const PassEstimate pass = EstimatePass(model_.options(), Compute::kFloat32, lengths, 1, 0);
  return pass.map_operations + pass.attention_operations;
}

// Of all rows that a block is pruned on.
double Planner::SidesBetween(LayerPoint from, LayerHooks::Until until) const {
  return OperationsBetween(model_.options(), calibration_, from, until) *
             (run_.dense_target > 0 ? 2 : 1) +
         OperationsBetween(model_.options(), held_out_, from, until);
}

// from: where what the block has kept is.
double Planner::Advance(LayerPoint from) const {
  if (run_.independent) return calibration_pass_ + held_out_pass_;
  return SidesBetween(from, LayerHooks::Until::kEnd) + held_out_pass_;
}

absl::Status Planner::AddAllocation() {
  const Index blocks = model_.options().layer_count();
  if (const auto* progression = std::get_if<ProgressionChoice>(&run_.allocation)) {
    plan_.block_sparsities =
        ProgressionSparsities(run_.choice.sparsity.fraction,
                              progression->step.value_or(DefaultProgressionStep(blocks)), blocks);
    return CheckBlockSparsities(plan_.block_sparsities);
  }
  if (run_.owl() == nullptr) return absl::OkStatus();
  const PassEstimate pass =
      EstimatePass(model_.options(), Compute::kFloat32, calibration_, blocks, 0);
  plan_.allocate_operations = pass.map_operations + pass.attention_operations;
  ++plan_.results;
  return absl::OkStatus();
}

// Before anything that counts calibration rows.
void Planner::AddSampling() {
  if (!run_.sampled.has_value()) return;
  const std::vector<Index> sampled = SampledLengths(real_, run_.sampled->rows);
  calibration_.insert(calibration_.end(), sampled.begin(), sampled.end());
  sampling_ = EstimateSampling(model_.options(), real_, run_.sampled->rows, machine_.memory_budget);
  plan_.sample_operations = sampling_.operations;
  plan_.disk_bytes = sizeof(int32_t) * TotalOf(sampled);
  ++plan_.results;
}

void Planner::AddCurvature() {
  if (!run_.curvature.has_value()) return;
  const CurvatureChoice& choice = *run_.curvature;
  const Tokens rows =
      SomeRows({.ids = {}, .lengths = {calibration_.begin(), calibration_.end()}}, choice.rows);
  curvature_ = EstimateCurvature(model_.options(), rows.lengths,
                                 {.draws = choice.Draws(static_cast<Index>(TotalOf(rows.lengths))),
                                  .widest = choice.widest,
                                  .output = run_.reconstruction.has_value()});
  plan_.measure_operations = curvature_.operations;
  ++plan_.results;
}

absl::Status Planner::CheckRowsDecide() const {
  const std::pair<const char*, bool> trainings[] = {
      {"run.reconstruction", run_.reconstruction.has_value()},
      {"run.distillation", run_.distillation.has_value()}};
  for (const auto& [field, is_given] : trainings) {
    if (!is_given || real_.size() >= 2) continue;
    return MustError(field, "have 2 calibration rows that are not held out", real_.size());
  }
  return absl::OkStatus();
}

absl::Status Planner::AddReconstruction(Index layer, BlockCost& cost) {
  if (!run_.reconstruction.has_value() || cost.prune.empty()) return absl::OkStatus();
  ATTNPRUNE_ASSIGN_OR_RETURN(const double entries, EntriesOfLayer(model_, layer));
  const ReconstructionEstimate estimate = EstimateReconstruction(
      model_.options(), entries, calibration_, run_.dense_target > 0, *run_.reconstruction);
  cost.reconstruct = estimate.operations;
  reconstruction_.bytes = std::max(reconstruction_.bytes, estimate.bytes);
  reconstruction_.state_bytes = std::max(reconstruction_.state_bytes, estimate.state_bytes);
  reconstruction_.values_bytes = std::max(reconstruction_.values_bytes, estimate.values_bytes);
  ++plan_.results;
  return absl::OkStatus();
}

absl::Status Planner::AddDistillation() {
  if (!run_.distillation.has_value()) return absl::OkStatus();
  ATTNPRUNE_ASSIGN_OR_RETURN(const double entries, EntriesOfMaps(model_));
  distillation_ = EstimateDistillation(model_.options(), entries, calibration_, *run_.distillation);
  plan_.distill_operations = distillation_.operations;
  // The held-out rows go through the model once more.
  plan_.score_operations += static_cast<double>(model_.options().layer_count()) * held_out_pass_;
  // Its weights beside those of before, and of what it saves on the way two at a time.
  plan_.disk_bytes += pruned_bytes_ + 2 * distillation_.values_bytes;
  ++plan_.results;
  return absl::OkStatus();
}

absl::Status Planner::AddTensor(Index layer, const Stretch::Tensor& tensor) {
  const RunChoice& choice = *BaseChoiceOf(run_, tensor.what);
  ATTNPRUNE_ASSIGN_OR_RETURN(const MatrixSize size, SizeOfMaps(model_, layer, tensor.what.maps));
  ATTNPRUNE_RETURN_IF_ERROR(CheckFits(run_, tensor.what, choice.sparsity, size.in));
  ATTNPRUNE_ASSIGN_OR_RETURN(const MapCost cost, CostOf(run_, model_, layer, tensor.what.maps,
                                                        choice.method, machine_.threads));
  const double bytes_per_entry = static_cast<double>(SizeOf(tensor.what.stored->dtype));
  // The method's own, its result, the tensor as it was, as stored, and its mask.
  most_method_bytes_ =
      std::max(most_method_bytes_,
               cost.bytes + size.entries() * (3 * kFloat + bytes_per_entry + 1 / kMaskBits));
  pruned_bytes_ += size.entries() * (bytes_per_entry + 1 / kMaskBits);
  return absl::OkStatus();
}

// Of its maps by the method for linear maps, but q and k where they are pruned as attention.
absl::StatusOr<double> Planner::LinearOperations(Index layer, const TensorMaps& tensor,
                                                 bool by_attention) const {
  std::vector<LinearMap> maps = tensor.maps;
  if (by_attention) std::erase_if(maps, IsAttentionMap);
  if (maps.empty()) return 0;
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const MapCost cost,
      CostOf(run_, model_, layer, maps, BaseChoiceOf(run_, tensor)->method, machine_.threads));
  return cost.operations;
}

absl::Status Planner::CheckAttention(Index layer) const {
  std::vector<TensorMaps> tensors;
  const Chosen has_maps = [](Index, const TensorMaps& tensor) {
    return tensor.has_attention_maps();
  };
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<Stretch> stretches,
                             StretchesOf(model_, layer, Passes::kOnce, has_maps));
  for (const Stretch& stretch : stretches) {
    for (const Stretch::Tensor& tensor : stretch.tensors) tensors.push_back(tensor.what);
  }
  return CheckAttentionTensors(run_, tensors);
}

absl::Status Planner::AddAttention(Index layer, const Stretch::Piece& piece) {
  ATTNPRUNE_ASSIGN_OR_RETURN(ProblemShape shape, AttentionShapeOf(model_, layer));
  const RunChoice* const choice = BaseChoiceOf(run_, piece.tensors[0].what);
  if (choice == nullptr) return absl::InternalError("a tensor of the plan is not chosen");
  shape.sparsity = choice->sparsity;
  shape.calibration = GroupsOf(calibration_, shape.features());
  shape.held_out = GroupsOf(held_out_, shape.features());
  if (const absl::Status status = Validate(shape); !status.ok()) {
    return FieldError("run.attention_method",
                      absl::StrCat("must suit the model's attention: block ", layer, ", ",
                                   piece.tensors[0].what.stored->name, ": ", status.message()));
  }
  for (size_t way = 0; way < std::size(kAttentionWays); ++way) {
    most_attention_bytes_[way] =
        std::max(most_attention_bytes_[way],
                 AttentionBytes(run_, shape, kAttentionWays[way], machine_.threads));
  }
  attention_.back() = std::move(shape);
  return absl::OkStatus();
}

absl::Status Planner::AddStretch(Index layer, const Stretch& stretch, BlockCost& cost) {
  const double tokens = TotalOf(calibration_) + TotalOf(held_out_);
  const double sides = (held_out_.empty() ? 1 : 2) + (run_.dense_target > 0 ? 2 : 0);
  double moments = 0, entries = 0;
  for (const Stretch::Piece& piece : stretch.Pieces()) {
    double operations = 0;
    for (const Stretch::Tensor& tensor : piece.tensors) {
      ATTNPRUNE_RETURN_IF_ERROR(AddTensor(layer, tensor));
      ATTNPRUNE_ASSIGN_OR_RETURN(const double linear,
                                 LinearOperations(layer, tensor.what, piece.attention));
      operations += linear;
    }
    if (piece.attention) {
      ATTNPRUNE_RETURN_IF_ERROR(AddAttention(layer, piece));
    }
    cost.prune.push_back(operations);
    ++plan_.results;
  }
  for (size_t g = 0; g < stretch.groups.size(); ++g) {
    const auto of_group = [g](const Stretch::Tensor& tensor) { return tensor.inputs == g; };
    const auto first = std::find_if(stretch.tensors.begin(), stretch.tensors.end(), of_group);
    ATTNPRUNE_ASSIGN_OR_RETURN(const MatrixSize size, SizeOfMaps(model_, layer, first->what.maps));
    const auto d = static_cast<double>(size.in);
    moments += tokens * d * d;
    entries += d * d;
  }
  cost.collect.push_back(moments * (run_.dense_target > 0 ? 2 : 1));
  most_moments_bytes_ = std::max(most_moments_bytes_, sides * kDouble * entries);
  return absl::OkStatus();
}

absl::Status Planner::AddBlock(Index layer) {
  const Chosen chosen = [&](Index, const TensorMaps& tensor) {
    const RunRule* const rule = RuleOf(run_, tensor);
    if (rule != nullptr) matched_[static_cast<size_t>(rule - run_.rules.data())] = true;
    return BaseChoiceOf(run_, tensor) != nullptr;
  };
  const Chosen as_attention = [&](Index, const TensorMaps& tensor) {
    return IsByAttention(run_, tensor);
  };
  const Passes passes = run_.independent ? Passes::kOnce : Passes::kByGroup;
  ATTNPRUNE_ASSIGN_OR_RETURN(std::vector<Stretch> stretches,
                             StretchesOf(model_, layer, passes, chosen, as_attention));
  attention_.emplace_back();
  BlockCost cost;
  LayerPoint kept = LayerPoint::kInput;
  for (const Stretch& stretch : stretches) {
    ATTNPRUNE_RETURN_IF_ERROR(AddStretch(layer, stretch, cost));
    const LayerHooks::Until until = GroupAt(stretch.groups.back()).until;
    cost.collect.back() += SidesBetween(kept, until);
    if (!run_.independent) kept = LastPointBefore(until);
  }
  keeps_values_ = keeps_values_ || kept != LayerPoint::kInput;
  ATTNPRUNE_RETURN_IF_ERROR(AddReconstruction(layer, cost));
  cost.advance = Advance(cost.reconstruct > 0 ? LayerPoint::kInput : kept);
  if (run_.independent) cost.score = 2 * held_out_pass_;
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
  const bool attends = std::any_of(attention_.begin(), attention_.end(),
                                   [](const auto& shape) { return shape.has_value(); });
  if (attends || !run_.attention_method.has_value()) return absl::OkStatus();
  return FieldError("run.attention_method",
                    "must be left q and k of a block, got none: run.rules take them all");
}

RunSizes Planner::Sizes() const {
  const ModelOptions& model = model_.options();
  const double row = kFloat * static_cast<double>(model.hidden_size);
  const double calibration = TotalOf(calibration_), held_out = TotalOf(held_out_);
  // In independent order those before and behind a block, in the dense model.
  const bool twice = run_.independent || run_.dense_target > 0;
  const double pruned_on = calibration * (twice ? 2 : 1);
  std::vector<Index> all(calibration_.begin(), calibration_.end());
  all.insert(all.end(), held_out_.begin(), held_out_.end());
  const PassEstimate pass = EstimatePass(model, Compute::kFloat32, all, 1, /*memory_budget=*/1);
  RunSizes sizes;
  sizes.hidden_states = row * (pruned_on + 2 * held_out);
  if (keeps_values_) {
    sizes.kept_states = kFloat * static_cast<double>(KeptWidth(model)) * (pruned_on + held_out);
  }
  // The layer once more for the dense pass where the two differ.
  const bool layer_twice = !held_out_.empty() || twice;
  sizes.layer = pass.bytes * (layer_twice ? 1.5 : 1) + most_moments_bytes_ + curvature_.layer_bytes;
  sizes.method = most_method_bytes_;
  sizes.by_attention = run_.attention_method.has_value();
  sizes.attention_method = most_attention_bytes_;
  sizes.tokens = row * (calibration + held_out);
  sizes.sampling = sampling_.bytes;
  // Before the blocks: a layer as it is passed back, the states of all, B and what is stored of it.
  sizes.measuring = 2 * pass.bytes + 1.5 * curvature_.layer_bytes;
  sizes.measuring_states = curvature_.state_bytes;
  // With its values, as they are saved.
  sizes.reconstructing =
      reconstruction_.bytes + reconstruction_.values_bytes + curvature_.layer_bytes;
  sizes.reconstructing_states = reconstruction_.state_bytes;
  sizes.distilling = distillation_.bytes;
  sizes.distilling_states = distillation_.state_bytes;
  return sizes;
}

void Planner::AddMemory() {
  const RunSizes sizes = Sizes();
  plan_.disk_bytes += 2 * sizes.hidden_states + pruned_bytes_ + curvature_.stored_bytes;
  if (run_.reconstruction.has_value()) {
    plan_.disk_bytes += pruned_bytes_ + 2 * reconstruction_.values_bytes;
  }
  plan_.places.keeps_values = keeps_values_;
  ChoosePlaces(sizes, machine_.memory_budget, plan_);
}

void Planner::AddAttentionCosts() {
  for (size_t block = 0; block < attention_.size(); ++block) {
    if (!attention_[block].has_value()) continue;
    plan_.costs[block].prune[0] +=
        AttentionOperations(run_, *attention_[block], plan_.places.attention);
  }
}

void Planner::AddUp() {
  plan_.operations = plan_.sample_operations + plan_.allocate_operations +
                     plan_.measure_operations + plan_.distill_operations + plan_.score_operations;
  for (const BlockCost& cost : plan_.costs) plan_.operations += cost.All();
}

absl::StatusOr<RunPlan> Planner::Make() {
  AddSampling();
  calibration_pass_ = PassOperations(calibration_);
  held_out_pass_ = held_out_.empty() ? 0 : PassOperations(held_out_);
  matched_.assign(run_.rules.size(), false);
  ATTNPRUNE_RETURN_IF_ERROR(CheckRowsDecide());
  const Index layers = model_.options().layer_count();
  for (Index layer = 0; layer < layers; ++layer) {
    ATTNPRUNE_RETURN_IF_ERROR(CheckAttention(layer));
    ATTNPRUNE_RETURN_IF_ERROR(AddBlock(layer));
  }
  ATTNPRUNE_RETURN_IF_ERROR(CheckRulesMatch());
  const auto stays_dense = [](const BlockCost& cost) { return cost.prune.empty(); };
  if (std::all_of(plan_.costs.begin(), plan_.costs.end(), stays_dense)) {
    return FieldError("run.rules", "must leave a map to be pruned, got none left");
  }
  ATTNPRUNE_RETURN_IF_ERROR(AddAllocation());
  AddCurvature();
  ATTNPRUNE_RETURN_IF_ERROR(AddDistillation());
  if (!held_out_.empty()) {
    const double head = static_cast<double>(model_.options().hidden_size) *
                        static_cast<double>(model_.options().vocab);
    plan_.score_operations += 2 * 2 * TotalOf(held_out_) * head;
    ++plan_.results;
  }
  AddMemory();
  AddAttentionCosts();
  AddUp();
  return std::move(plan_);
}

}  // namespace

absl::StatusOr<RunPlan> MakePlan(const RunSpec& run, const ModelWeights& model,
                                 absl::Span<const Index> calibration,
                                 absl::Span<const Index> held_out, const RunMachine& machine) {
  return Planner(run, model, calibration, held_out, machine).Make();
}

}  // namespace attnprune
