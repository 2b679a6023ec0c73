#include "core/methods/search_method.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <utility>

#include "core/base/status_macros.h"
#include "core/methods/calibration_split.h"
#include "core/methods/linear_map.h"
#include "core/methods/saliency.h"
#include "core/objective/attention_objective.h"

namespace attnprune {
namespace {

SearchStart StartFromSaliency(PreparedProblem& prepared, const std::vector<NamedWeight>& weights,
                              SearchedWeights searched) {
  SearchStart start;
  start.scores = LogSaliency(prepared, searched);
  for (size_t m = 0; m < weights.size(); ++m) {
    start.masks.push_back(Binarize(start.scores[m], weights[m].inputs_are_rows,
                                   prepared.problem().sparsity, prepared.pool()));
    start.values.push_back(Matrix::CopyFrom(weights[m].dense));
  }
  return start;
}

absl::StatusOr<StepStats> StatsOf(const SparseSearch& search, const SparseSearch::Figures& figures,
                                  SearchObjectives& objectives, int evaluate_every,
                                  std::chrono::steady_clock::time_point start) {
  StepStats stats;
  stats.step = search.steps_taken();
  stats.steps = search.plan().steps;
  stats.attention_loss = figures.loss;
  stats.soft_relative_error = figures.relative_error;
  stats.gradient_norm = figures.gradient_norm;
  const bool due =
      evaluate_every > 0 && (stats.step == stats.steps || stats.step % evaluate_every == 0);
  if (due) {
    const std::vector<Matrix> weights = search.Candidate();
    ATTNPRUNE_RETURN_IF_ERROR(objectives.Report(Views(weights), stats));
  }
  stats.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return stats;
}

}  // namespace

Parameter ValidationParameter(const char* name) {
  return {name,
          Parameter::Kind::kReal,
          0.25,
          0,
          0.9,
          "Fraction of the calibration batches, rounded but at least one on each side, that the "
          "method does not learn from and by which it chooses what to return. With 0, or a single "
          "batch, what it learns from decides."};
}

Parameter BatchParameter(const char* name) {
  return {name,
          Parameter::Kind::kInteger,
          kAutomatic,
          1,
          1e6,
          "Calibration batches that a step learns from, at most; the steps take turns. Default: a "
          "quarter of the calibration batches, rounded up, 4 at most."};
}

Parameter FactorsParameter() {
  return {
      "factors",
      Parameter::Kind::kSwitch,
      1,
      0,
      1,
      "1: search W_Q and W_K apart where a fused problem has them; 0: search the fused W itself. "
      "No effect on projections."};
}

Index BatchesPerStep(const SearchSettings& settings, Index calibration_batches) {
  if (std::isnan(settings.batches_per_step)) return DefaultBatchesPerStep(calibration_batches);
  return static_cast<Index>(settings.batches_per_step);
}

double SearchBytes(const ProblemShape& shape, double matrices, DenseAttention dense) {
  const double copies = dense == DenseAttention::kRecompute
                            ? 0
                            : CalibrationSize(shape).tokens * static_cast<double>(shape.features());
  return sizeof(float) * (matrices * Entries(shape) + copies);
}

double SearchOperations(const ProblemShape& shape, const SearchSettings& settings,
                        DenseAttention dense) {
  const DataSize calibration = CalibrationSize(shape);
  const auto per_step =
      static_cast<double>(BatchesPerStep(settings, static_cast<Index>(calibration.batches)));
  const double share = std::min(per_step / std::max(calibration.batches, 1.0), 1.0);
  return settings.plan.steps * share * GradientOperations(shape, calibration, dense);
}

absl::StatusOr<TerminationReason> RunSparseSearch(SparseSearch& search,
                                                  SearchObjectives& objectives,
                                                  const RunOptions& options,
                                                  ProgressObserver& observer) {
  if (!search.PrunesAnything()) return TerminationReason::kCompleted;
  const auto start = std::chrono::steady_clock::now();
  while (search.steps_taken() < search.plan().steps) {
    const SparseSearch::Figures figures = search.Evaluate();
    if (!figures.finite) return TerminationReason::kNumericalError;
    search.Step();
    ATTNPRUNE_ASSIGN_OR_RETURN(const StepStats stats,
                               StatsOf(search, figures, objectives, options.evaluate_every, start));
    const Verdict verdict = observer.OnStep(stats, search);
    if (verdict == Verdict::kStop && stats.step < stats.steps) {
      search.UpdateIncumbent();
      return TerminationReason::kStopped;
    }
  }
  return TerminationReason::kCompleted;
}

namespace {

// Every setting, in a fixed order, for PreparedProblem::Fingerprint.
std::vector<double> FingerprintValues(const SearchSettings& settings) {
  const SearchPlan& plan = settings.plan;
  return {static_cast<double>(plan.steps),
          static_cast<double>(plan.rise),
          static_cast<double>(plan.freeze),
          plan.score_rate,
          plan.weight_rate,
          settings.validation,
          settings.batches_per_step,
          settings.by_factors ? 1.0 : 0.0};
}

class SearchMethod final : public Method {
 public:
  SearchMethod(const char* name, const SearchSettings& settings)
      : name_(name), settings_(settings) {}

  absl::string_view name() const override { return name_; }

 private:
  absl::StatusOr<PruneResult> DoPrune(PreparedProblem& prepared, RunOptions& options,
                                      ProgressObserver& observer) const override;

  const char* const name_;
  const SearchSettings settings_;
};

absl::StatusOr<PruneResult> SearchMethod::DoPrune(PreparedProblem& prepared, RunOptions& options,
                                                  ProgressObserver& observer) const {
  const Problem& problem = prepared.problem();
  ThreadPool& pool = prepared.pool();
  const std::vector<NamedWeight> weights = LinearMaps(problem, settings_.by_factors);
  const SearchedWeights searched = SearchedOf(problem, weights);
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const std::unique_ptr<SearchObjectives> objectives,
      SearchObjectives::Create(prepared, searched, settings_.validation,
                               BatchesPerStep(settings_, problem.calibration.count())));
  SparseSearch search(weights, problem.sparsity, StartFromSaliency(prepared, weights, searched),
                      *objectives, pool, settings_.plan,
                      prepared.Fingerprint(name_, FingerprintValues(settings_)));
  if (!options.resume_from.empty()) {
    const std::string state = std::exchange(options.resume_from, {});
    ATTNPRUNE_RETURN_IF_ERROR(search.Restore(state));
  }
  PruneResult result;
  ATTNPRUNE_ASSIGN_OR_RETURN(result.reason,
                             RunSparseSearch(search, *objectives, options, observer));
  result.steps = search.steps_taken();
  result.matrices = search.Best();
  return result;
}

}  // namespace

MethodInfo SearchMethodInfo(const char* name, const char* summary,
                            std::vector<Parameter> parameters,
                            SearchSettings (*settings)(const ParameterValues&), double matrices) {
  return {.name = name,
          .summary = summary,
          .parameters = std::move(parameters),
          .create = [=](const ParameterValues& values) -> std::unique_ptr<Method> {
            return std::make_unique<SearchMethod>(name, settings(values));
          },
          .steps = [](const ParameterValues& values) { return values.GetInt("steps"); },
          .bytes = [=](const ProblemShape& shape, const ParameterValues&, DenseAttention dense,
                       int) { return SearchBytes(shape, matrices, dense); },
          .operations =
              [=](const ProblemShape& shape, const ParameterValues& values, DenseAttention dense) {
                return SearchOperations(shape, settings(values), dense);
              }};
}

}  // namespace attnprune
