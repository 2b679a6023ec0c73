#include "server/execution/run_spec.h"

#include <algorithm>
#include <limits>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "core/methods/calibration_split.h"
#include "core/model/forward.h"
#include "core/model/model_options.h"
#include "core/problem/shape_check.h"
#include "server/blobs/upload_spec.h"
#include "server/execution/job_spec.h"

namespace attnprune {
namespace {

constexpr int64_t kMaxConfigBytes = int64_t{1} << 20;
constexpr int kMaxRules = 1000;
constexpr size_t kMaxPattern = 256;
constexpr Index kMostDraws = 64;                                          // of a token's label
constexpr int64_t kMostRows = int64_t{1} << 20, kMostPrefix = kMostRows;  // of a curvature
constexpr int64_t kMostLabels = std::numeric_limits<int32_t>::max();
constexpr double kColdest = 0.01, kHottest = 10;  // temperatures
constexpr int64_t kLeastWidest = 16, kMostWidest = 16384;
constexpr double kMostOutlier = 1e6, kMostLimit = 0.5, kMostRange = 0.5;
constexpr int kReconstructionSteps = 200, kDistillationSteps = 400;  // by default
constexpr int64_t kMostSteps = 100'000, kMostRowsOfAStep = 1024;
constexpr double kRateOfAll = 0.002, kMostRate = 0.1;  // where nothing is removed; by default
constexpr Index kLeastTokens = 2;                      // of a row: one that is predicted

// 0 < tokens in all, in 63 bits.
absl::StatusOr<RunTokens> DecodeTokens(const std::string& field, const v1::TokenIds& tokens,
                                       int64_t max_bytes) {
  const v1::TensorRef& ids = tokens.ids();
  const std::string place = absl::StrCat(field, ".ids");
  ATTNPRUNE_RETURN_IF_ERROR(CheckSha256(absl::StrCat(place, ".sha256"), ids.sha256()));
  if (ids.dtype() != v1::I32) {
    return MustError(absl::StrCat(place, ".dtype"), "be I32", v1::DType_Name(ids.dtype()));
  }
  if (ids.shape_size() != 1 || ids.shape(0) < 1 ||
      ids.shape(0) > max_bytes / static_cast<int64_t>(SizeOf(DType::kI32))) {
    return MustError(absl::StrCat(place, ".shape"), "be one count of tokens",
                     ShapeText(std::vector<int64_t>(ids.shape().begin(), ids.shape().end())));
  }
  RunTokens decoded;
  decoded.ids = {.field = place,
                 .matrix = {},
                 .sha256 = ids.sha256(),
                 .name = ids.name(),
                 .dtype = DType::kI32,
                 .extents = {ids.shape(0)}};
  int64_t left = ids.shape(0);
  for (int i = 0; i < tokens.lengths_size(); ++i) {
    const int64_t length = tokens.lengths(i);
    if (length < kLeastTokens || length > left) {
      return MustError(absl::StrCat(field, ".lengths[", i, "]"),
                       absl::StrCat("be at least ", kLeastTokens, " and at most the ", left,
                                    " tokens that are left"),
                       length);
    }
    left -= length;
    decoded.lengths.push_back(length);
  }
  if (left == 0) return decoded;
  return MustError(absl::StrCat(field, ".lengths"),
                   absl::StrCat("come to the ", ids.shape(0), " tokens"), ids.shape(0) - left);
}

absl::StatusOr<Sparsity> DecodeRunSparsity(const std::string& field, const v1::Sparsity& sparsity) {
  if (sparsity.has_fraction()) {
    const double fraction = sparsity.fraction();
    if (fraction >= 0 && fraction < 1) return Sparsity::Fraction(fraction);  // NaN is neither
    return MustError(absl::StrCat(field, ".fraction"), "be in [0, 1)", fraction);
  }
  if (!sparsity.has_n_of_m()) {
    return FieldError(absl::StrCat(field, ".kind"), "must be fraction or n_of_m, got neither");
  }
  const std::string n_of_m = absl::StrCat(field, ".n_of_m");
  ProblemFields fields;
  fields.n_of_m = n_of_m.c_str();
  const int64_t n = sparsity.n_of_m().n(), m = sparsity.n_of_m().m();
  ATTNPRUNE_RETURN_IF_ERROR(ValidateNOfM(n, m, fields));
  return Sparsity::NOfM(n, m);
}

absl::StatusOr<ChosenMethod> DecodeAnyMethod(const std::string& field, const v1::Method& method) {
  return DecodeMethod({method.name(), {method.parameters().begin(), method.parameters().end()}},
                      field);
}

// One for linear maps.
absl::StatusOr<ChosenMethod> DecodeRunMethod(const std::string& field, const v1::Method& method) {
  ATTNPRUNE_ASSIGN_OR_RETURN(ChosenMethod chosen, DecodeAnyMethod(field, method));
  if (chosen.info->linear) return chosen;
  std::string names;
  for (const MethodInfo& info : Methods()) {
    if (info.linear) absl::StrAppend(&names, names.empty() ? "" : ", ", info.name);
  }
  return MustError(absl::StrCat(field, ".name"),
                   absl::StrCat("be a method for linear maps (", names, ")"), method.name());
}

absl::StatusOr<RunRule> DecodeRule(const std::string& field, const v1::Rule& rule,
                                   const RunChoice& usual) {
  if (rule.pattern().empty() || rule.pattern().size() > kMaxPattern) {
    return MustError(absl::StrCat(field, ".pattern"),
                     absl::StrCat("have 1 to ", kMaxPattern, " bytes"), rule.pattern().size());
  }
  RunRule decoded{.field = field, .pattern = rule.pattern(), .choice = absl::nullopt};
  if (rule.skip()) {
    if (!rule.has_method() && !rule.has_sparsity()) return decoded;
    return FieldError(absl::StrCat(field, ".skip"),
                      "must be false where a method or a sparsity is given, got true");
  }
  RunChoice choice = usual;
  if (rule.has_method()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(choice.method,
                               DecodeRunMethod(absl::StrCat(field, ".method"), rule.method()));
    choice.own_method = true;
  }
  if (rule.has_sparsity()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(
        choice.sparsity, DecodeRunSparsity(absl::StrCat(field, ".sparsity"), rule.sparsity()));
    choice.own_sparsity = true;
  }
  decoded.choice = std::move(choice);
  return decoded;
}

absl::StatusOr<std::vector<JobTensor>> DecodeModel(const v1::Model& model, int64_t max_bytes) {
  const auto config_bytes = static_cast<int64_t>(model.config().size());
  if (config_bytes < 1 || config_bytes > kMaxConfigBytes) {
    return MustError("run.model.config", absl::StrCat("have 1 to ", kMaxConfigBytes, " bytes"),
                     config_bytes);
  }
  std::vector<JobTensor> tensors;
  std::set<std::string> names;
  for (int i = 0; i < model.tensors_size(); ++i) {
    const std::string field = absl::StrCat("run.model.tensors[", i, "]");
    ATTNPRUNE_ASSIGN_OR_RETURN(JobTensor tensor, DecodeTensor(field, model.tensors(i), max_bytes));
    if (!names.insert(tensor.name).second || tensor.name.empty()) {
      return MustError(absl::StrCat(field, ".name"), "be given and different from all others",
                       tensor.name.empty() ? "none" : tensor.name);
    }
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

absl::StatusOr<AllocationChoice> DecodeAllocation(const v1::Allocation& allocation) {
  if (allocation.has_owl()) {
    OwlChoice owl;
    if (allocation.owl().has_outlier()) owl.outlier = allocation.owl().outlier();
    if (allocation.owl().has_limit()) owl.limit = allocation.owl().limit();
    if (!(owl.outlier > 0 && owl.outlier <= kMostOutlier)) {  // written so that NaN fails too
      return MustError("run.allocation.owl.outlier",
                       absl::StrCat("be above 0 and at most ", kMostOutlier), owl.outlier);
    }
    if (owl.limit >= 0 && owl.limit <= kMostLimit) return owl;
    return MustError("run.allocation.owl.limit", absl::StrCat("be in [0, ", kMostLimit, "]"),
                     owl.limit);
  }
  if (allocation.has_by_loss()) {
    ByLossChoice by_loss;
    if (allocation.by_loss().has_range()) by_loss.range = allocation.by_loss().range();
    if (by_loss.range >= 0 && by_loss.range <= kMostRange) return by_loss;
    return MustError("run.allocation.by_loss.range", absl::StrCat("be in [0, ", kMostRange, "]"),
                     by_loss.range);
  }
  if (!allocation.has_progression()) {
    return FieldError("run.allocation.kind", "must be owl, progression or by_loss, got none");
  }
  ProgressionChoice progression;
  if (!allocation.progression().has_step()) return progression;
  progression.step = allocation.progression().step();
  if (*progression.step >= -1 && *progression.step <= 1) return progression;
  return MustError("run.allocation.progression.step", "be in [-1, 1]", *progression.step);
}

// 0: the default, which `value` has.
template <typename Value>
absl::Status DecodeCount(const std::string& field, int64_t given, int64_t least, int64_t most,
                         Value& value) {
  if (given == 0) return absl::OkStatus();
  if (given < least || given > most) {
    return MustError(field, absl::StrCat("be in [", least, ", ", most, "], or 0"), given);
  }
  value = static_cast<Value>(given);
  return absl::OkStatus();
}

absl::StatusOr<CurvatureChoice> DecodeCurvature(const v1::Curvature& curvature) {
  CurvatureChoice choice;
  ATTNPRUNE_RETURN_IF_ERROR(
      DecodeCount("run.curvature.rows", curvature.rows(), 1, kMostRows, choice.rows));
  ATTNPRUNE_RETURN_IF_ERROR(
      DecodeCount("run.curvature.labels", curvature.labels(), 1, kMostLabels, choice.labels));
  ATTNPRUNE_RETURN_IF_ERROR(DecodeCount("run.curvature.widest", curvature.widest(), kLeastWidest,
                                        kMostWidest, choice.widest));
  return choice;
}

absl::StatusOr<SampledChoice> DecodeSampled(const v1::SampledRows& sampled) {
  SampledChoice choice;
  if (sampled.rows() < 1 || sampled.rows() > kMostRows) {
    return MustError("run.sampled.rows", absl::StrCat("be in [1, ", kMostRows, "]"),
                     sampled.rows());
  }
  choice.rows = sampled.rows();
  if (sampled.has_temperature()) choice.temperature = sampled.temperature();
  if (!(choice.temperature >= kColdest && choice.temperature <= kHottest)) {  // NaN too
    return MustError("run.sampled.temperature",
                     absl::StrCat("be in [", kColdest, ", ", kHottest, "]"), choice.temperature);
  }
  ATTNPRUNE_RETURN_IF_ERROR(
      DecodeCount("run.sampled.prefix", sampled.prefix(), 1, kMostPrefix, choice.prefix));
  return choice;
}

absl::StatusOr<TrainingOptions> DecodeTraining(const std::string& field,
                                               const v1::Training& training, int default_steps,
                                               const RunSpec& run) {
  TrainingOptions options{.steps = default_steps, .seed = run.seed};
  ATTNPRUNE_RETURN_IF_ERROR(
      DecodeCount(absl::StrCat(field, ".steps"), training.steps(), 1, kMostSteps, options.steps));
  ATTNPRUNE_RETURN_IF_ERROR(DecodeCount(absl::StrCat(field, ".rows"), training.rows(), 1,
                                        kMostRowsOfAStep, options.rows));
  const Sparsity& sparsity = run.choice.sparsity;
  const double removed = sparsity.structured() ? static_cast<double>(sparsity.pruned) /
                                                     static_cast<double>(sparsity.group)
                                               : sparsity.fraction;
  options.rate = std::min(kRateOfAll / (1 - removed), kMostRate);
  if (training.has_rate()) options.rate = training.rate();
  if (options.rate > 0 && options.rate <= 1) return options;  // written so that NaN fails
  return MustError(absl::StrCat(field, ".rate"), "be above 0 and at most 1", options.rate);
}

// What needs hidden states that go through the whole model.
absl::Status CheckOnlySequential(const v1::Run& run) {
  const std::pair<const char*, bool> given[] = {{"run.reconstruction", run.has_reconstruction()},
                                                {"run.distillation", run.has_distillation()},
                                                {"run.sampled", run.has_sampled()},
                                                {"run.curvature", run.has_curvature()}};
  for (const auto& [field, is_given] : given) {
    if (is_given) return FieldError(field, "must be absent in INDEPENDENT order, got one");
  }
  return absl::OkStatus();
}

absl::Status DecodeHow(const v1::Run& run, RunSpec& spec) {
  if (spec.independent) ATTNPRUNE_RETURN_IF_ERROR(CheckOnlySequential(run));
  if (run.has_reconstruction()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(
        spec.reconstruction,
        DecodeTraining("run.reconstruction", run.reconstruction(), kReconstructionSteps, spec));
  }
  if (run.has_distillation()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(
        spec.distillation,
        DecodeTraining("run.distillation", run.distillation(), kDistillationSteps, spec));
  }
  if (run.has_sampled()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(spec.sampled, DecodeSampled(run.sampled()));
  }
  if (run.has_curvature()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(spec.curvature, DecodeCurvature(run.curvature()));
  }
  if (run.has_attention_method()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(spec.attention_method,
                               DecodeAnyMethod("run.attention_method", run.attention_method()));
  }
  if (!run.has_allocation()) return absl::OkStatus();
  ATTNPRUNE_ASSIGN_OR_RETURN(spec.allocation, DecodeAllocation(run.allocation()));
  if (spec.by_loss() != nullptr && !spec.curvature.has_value()) {
    return FieldError("run.allocation.by_loss", "must be absent without run.curvature, got one");
  }
  if (!spec.choice.sparsity.structured()) return absl::OkStatus();
  return MustError("run.allocation", "be absent where run.sparsity is n_of_m",
                   ToString(spec.choice.sparsity));
}

bool ReadsCurvature(const RunChoice& choice) { return choice.method.info->reads_curvature; }

// Whether what a curvature costs is of use.
absl::Status CheckCurvatureIsRead(const RunSpec& run) {
  if (!run.curvature.has_value() || run.by_loss() != nullptr || run.reconstruction.has_value() ||
      ReadsCurvature(run.choice)) {
    return absl::OkStatus();
  }
  for (const RunRule& rule : run.rules) {
    if (rule.choice.has_value() && ReadsCurvature(*rule.choice)) return absl::OkStatus();
  }
  std::string names;
  for (const MethodInfo& info : Methods()) {
    if (info.reads_curvature) absl::StrAppend(&names, names.empty() ? "" : ", ", info.name);
  }
  return FieldError("run.curvature",
                    absl::StrCat("must be read by a method of the run (", names,
                                 "), run.allocation.by_loss or run.reconstruction, got none"));
}

absl::Status CheckDenseTarget(const RunSpec& run) {
  const double share = run.dense_target;
  if (!(share >= 0 && share <= 1)) {  // written so that NaN fails too
    return MustError("run.dense_target", "be in [0, 1]", share);
  }
  if (share == 0 || !run.independent) return absl::OkStatus();
  return MustError("run.dense_target", "be 0 in INDEPENDENT order", share);
}

absl::Status CheckHeldOutFraction(const RunSpec& run) {
  const double fraction = run.held_out_fraction;
  if (fraction == 0) return absl::OkStatus();
  if (!(fraction > 0 && fraction < 1)) {  // written so that NaN fails too
    return MustError("run.held_out_fraction", "be in [0, 1)", fraction);
  }
  if (run.held_out.given()) {
    return MustError("run.held_out_fraction", "be 0 where run.held_out is given", fraction);
  }
  if (run.calibration.lengths.size() >= 2) return absl::OkStatus();
  return MustError("run.held_out_fraction", "be 0 with a single calibration row", fraction);
}

}  // namespace

int CurvatureChoice::Draws(Index tokens) const {
  return static_cast<int>(std::clamp<Index>((labels + tokens - 1) / tokens, 1, kMostDraws));
}

std::vector<const JobTensor*> RunSpec::Tensors() const {
  std::vector<const JobTensor*> all;
  for (const JobTensor& tensor : tensors) all.push_back(&tensor);
  all.push_back(&calibration.ids);
  if (held_out.given()) all.push_back(&held_out.ids);
  return all;
}

absl::StatusOr<RunSpec> DecodeRun(const v1::Run& run, int64_t max_tensor_bytes) {
  ATTNPRUNE_ASSIGN_OR_RETURN(ChosenMethod method, DecodeRunMethod("run.method", run.method()));
  ATTNPRUNE_ASSIGN_OR_RETURN(const Sparsity sparsity,
                             DecodeRunSparsity("run.sparsity", run.sparsity()));
  RunSpec spec{.config = run.model().config(),
               .held_out_fraction = run.held_out_fraction(),
               .choice = {std::move(method), sparsity},
               .independent = run.order() == v1::INDEPENDENT,
               .dense_target = run.dense_target(),
               .seed = run.seed()};
  if (run.order() != v1::ORDER_UNSPECIFIED && run.order() != v1::SEQUENTIAL && !spec.independent) {
    return MustError("run.order", "be SEQUENTIAL or INDEPENDENT", static_cast<int>(run.order()));
  }
  ATTNPRUNE_RETURN_IF_ERROR(CheckDenseTarget(spec));
  ATTNPRUNE_RETURN_IF_ERROR(DecodeHow(run, spec));
  ATTNPRUNE_ASSIGN_OR_RETURN(spec.tensors, DecodeModel(run.model(), max_tensor_bytes));
  ATTNPRUNE_ASSIGN_OR_RETURN(spec.calibration,
                             DecodeTokens("run.calibration", run.calibration(), max_tensor_bytes));
  if (run.has_held_out()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(spec.held_out,
                               DecodeTokens("run.held_out", run.held_out(), max_tensor_bytes));
  }
  ATTNPRUNE_RETURN_IF_ERROR(CheckHeldOutFraction(spec));
  if (run.rules_size() > kMaxRules) {
    return MustError("run.rules", absl::StrCat("have at most ", kMaxRules, " entries"),
                     run.rules_size());
  }
  for (int i = 0; i < run.rules_size(); ++i) {
    ATTNPRUNE_ASSIGN_OR_RETURN(
        RunRule rule, DecodeRule(absl::StrCat("run.rules[", i, "]"), run.rules(i), spec.choice));
    spec.rules.push_back(std::move(rule));
  }
  ATTNPRUNE_RETURN_IF_ERROR(CheckCurvatureIsRead(spec));
  return spec;
}

absl::StatusOr<ModelWeights> ModelOf(const RunSpec& run, std::vector<MappedFile> files) {
  absl::StatusOr<ModelOptions> options = ParseModelOptions(run.config, "config.json");
  if (!options.ok()) {
    return WithField(
        absl::InvalidArgumentError(absl::StrCat("run.model.config: ", options.status().message())),
        "run.model.config");
  }
  std::vector<TensorInfo> tensors;
  for (size_t i = 0; i < run.tensors.size(); ++i) {
    const JobTensor& tensor = run.tensors[i];
    tensors.push_back({.name = tensor.name,
                       .dtype = tensor.dtype,
                       .shape = tensor.extents,
                       .bytes = files.empty() ? absl::Span<const char>() : files[i].bytes(),
                       .file = "the model"});
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(
      Checkpoint checkpoint,
      Checkpoint::Of("run.model.tensors", std::move(tensors), std::move(files)));
  ModelWeights model = ModelWeights::Of(std::move(checkpoint), *std::move(options));
  absl::Status status = model.Check();
  const bool predicts = run.held_out.given() || run.held_out_fraction > 0 ||
                        run.curvature.has_value() || run.sampled.has_value() ||
                        run.distillation.has_value();
  if (status.ok() && predicts) status = CheckPredicts(model);
  if (status.ok()) return model;
  return WithField(
      absl::InvalidArgumentError(absl::StrCat("run.model.tensors: ", status.message())),
      "run.model.tensors");
}

absl::StatusOr<Tokens> TokensOf(const RunTokens& tokens, absl::Span<const char> ids) {
  Tokens read;
  read.lengths = tokens.lengths;
  if (!tokens.given()) return read;
  ATTNPRUNE_ASSIGN_OR_RETURN(read.ids, ToIntegers(DType::kI32, ids));
  return read;
}

RunRows HoldOutRows(const RunSpec& run, RunRows rows) {
  if (run.held_out_fraction == 0) return rows;
  const std::vector<bool> apart =
      BatchesSetApart(static_cast<Index>(rows.calibration.lengths.size()), run.held_out_fraction);
  RunRows split;
  Index first = 0;
  for (size_t i = 0; i < apart.size(); ++i) {
    const Index length = rows.calibration.lengths[i];
    Tokens& side = apart[i] ? split.held_out : split.calibration;
    if (!rows.calibration.ids.empty()) {
      const auto begin = rows.calibration.ids.begin() + first;
      side.ids.insert(side.ids.end(), begin, begin + length);
    }
    side.lengths.push_back(length);
    first += length;
  }
  return split;
}

}  // namespace attnprune
