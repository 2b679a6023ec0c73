#include <algorithm>
#include <deque>
#include <iterator>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/methods/linear_map.h"
#include "core/methods/methods.h"
#include "core/methods/phase_observer.h"
#include "core/methods/refit_state.h"
#include "core/methods/search_method.h"

namespace attnprune {
namespace {

constexpr char kSuffix[] = "+refit";
// Matrices of the weights' size at the peak, which is a checkpoint: measured with W of 2048 x 2048.
constexpr double kRefitMatrices = 21;

SearchSettings RefitSettings(const ParameterValues& values) {
  return {.plan = {.steps = values.GetInt("refit_steps"),
                   .rise = 0,
                   .freeze = 0,
                   .score_rate = 0,
                   .weight_rate = values.Get("refit_rate")},
          .validation = values.Get("refit_validation"),
          .batches_per_step = values.Get("refit_batch")};
}

std::vector<Parameter> RefitParameters() {
  using Kind = Parameter::Kind;
  return {
      {"refit_steps", Kind::kInteger, 500, 1, 1e6, "Steps of the refit."},
      {"refit_rate", Kind::kReal, 0.05, 1e-9, 10,
       "How far a step moves a weight, in units of 2 mean |W| of its matrix; falls to 0."},
      BatchParameter("refit_batch"),
      ValidationParameter("refit_validation"),
  };
}

class RefitMethod final : public Method {
 public:
  RefitMethod(std::string name, std::unique_ptr<Method> base, bool draws,
              std::vector<double> parameters, const SearchSettings& settings)
      : name_(std::move(name)),
        base_(std::move(base)),
        draws_(draws),
        parameters_(std::move(parameters)),
        settings_(settings) {}

  absl::string_view name() const override { return name_; }
  Index PrunedCount(const NamedWeight& weight, const Sparsity& sparsity) const override {
    return base_->PrunedCount(weight, sparsity);
  }

 private:
  absl::StatusOr<PruneResult> DoPrune(PreparedProblem& prepared, RunOptions& options,
                                      ProgressObserver& observer) const override;
  // BASE's result. Its reason is kStopped if the observer wished so, even at BASE's last step.
  absl::StatusOr<PruneResult> RunBase(PreparedProblem& prepared, RunOptions options,
                                      uint64_t fingerprint, ProgressObserver& observer) const;
  absl::StatusOr<PruneResult> Refit(PreparedProblem& prepared, PruneResult base, RunOptions options,
                                    uint64_t fingerprint, ProgressObserver& observer) const;

  const std::string name_;
  const std::unique_ptr<Method> base_;
  const bool draws_;                      // whether BASE does
  const std::vector<double> parameters_;  // all, in order of name
  const SearchSettings settings_;
};

absl::StatusOr<PruneResult> RefitMethod::RunBase(PreparedProblem& prepared, RunOptions options,
                                                 uint64_t fingerprint,
                                                 ProgressObserver& observer) const {
  PhaseObserver phase(0, settings_.plan.steps, "", fingerprint, observer);
  ATTNPRUNE_ASSIGN_OR_RETURN(PruneResult result, base_->Prune(prepared, std::move(options), phase));
  if (phase.stopped()) result.reason = TerminationReason::kStopped;
  return result;
}

SearchStart StartFrom(const PruneResult& base) {
  SearchStart start;
  for (const PrunedMatrix& matrix : base.matrices) {
    start.masks.push_back(matrix.mask);
    start.values.push_back(matrix.weights.Clone());
  }
  return start;
}

absl::StatusOr<PruneResult> RefitMethod::Refit(PreparedProblem& prepared, PruneResult base,
                                               RunOptions options, uint64_t fingerprint,
                                               ProgressObserver& observer) const {
  const Problem& problem = prepared.problem();
  const bool factors = problem.fused() && base.matrices.size() == 2;
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const std::unique_ptr<SearchObjectives> objectives,
      SearchObjectives::Create(
          prepared, factors ? SearchedWeights::kFactors : SearchedWeights::kAttention,
          settings_.validation, BatchesPerStep(settings_, problem.calibration.count())));
  SparseSearch search(PrunedMaps(problem, base), problem.sparsity, StartFrom(base), *objectives,
                      prepared.pool(), settings_.plan, fingerprint);
  if (!options.resume_from.empty()) {
    const std::string state = std::exchange(options.resume_from, {});
    ATTNPRUNE_RETURN_IF_ERROR(search.Restore(state));
  }
  PhaseObserver phase(base.steps, 0, SerializeResult(base, fingerprint), fingerprint, observer);
  ATTNPRUNE_ASSIGN_OR_RETURN(base.reason, RunSparseSearch(search, *objectives, options, phase));
  base.steps += search.steps_taken();
  std::vector<PrunedMatrix> best = search.Best();
  for (size_t m = 0; m < best.size(); ++m) {
    base.matrices[m].weights = std::move(best[m].weights);
  }
  return base;
}

absl::StatusOr<PruneResult> RefitMethod::DoPrune(PreparedProblem& prepared, RunOptions& options,
                                                 ProgressObserver& observer) const {
  const uint64_t fingerprint = prepared.Fingerprint(
      name_, parameters_, draws_ ? absl::make_optional(options.seed) : absl::nullopt);
  RefitState state;
  if (!options.resume_from.empty()) {
    const std::string bytes = std::exchange(options.resume_from, {});
    ATTNPRUNE_ASSIGN_OR_RETURN(state, ParseRefitState(bytes, fingerprint));
  }
  RunOptions phase = options;
  PruneResult base;
  if (state.base_result.empty()) {
    phase.resume_from = std::exchange(state.base_state, {});
    ATTNPRUNE_ASSIGN_OR_RETURN(base, RunBase(prepared, std::move(phase), fingerprint, observer));
    if (base.reason == TerminationReason::kStopped ||
        base.reason == TerminationReason::kNumericalError) {
      return base;
    }
    phase = options;
  } else {
    ATTNPRUNE_ASSIGN_OR_RETURN(
        base, ParseResult(std::exchange(state.base_result, {}), prepared.problem(), fingerprint));
    phase.resume_from = std::exchange(state.search_state, {});
  }
  return Refit(prepared, std::move(base), std::move(phase), fingerprint, observer);
}

std::unique_ptr<Method> Create(const char* name, const MethodInfo& base,
                               const ParameterValues& values) {
  std::vector<double> parameters;
  for (const auto& [key, value] : values.all()) parameters.push_back(value);
  return std::make_unique<RefitMethod>(name, base.create(values), base.draws, std::move(parameters),
                                       RefitSettings(values));
}

// The text for as long as the process lives.
const char* Keep(std::string text) {
  static std::deque<std::string>& texts = *new std::deque<std::string>;
  return texts.emplace_back(std::move(text)).c_str();
}

}  // namespace

MethodInfo WithRefit(const MethodInfo& base) {
  const char* const name = Keep(absl::StrCat(base.name, kSuffix));
  const char* const summary = Keep(
      absl::StrCat("Runs ", base.name, ", then moves the kept weights under the attention loss"));
  std::vector<Parameter> parameters = base.parameters;
  std::ranges::move(RefitParameters(), std::back_inserter(parameters));
  return {
      .name = name,
      .summary = summary,
      .parameters = std::move(parameters),
      .draws = base.draws,
      .uses_moments = base.uses_moments,
      .create = [name, &base](const ParameterValues& values) { return Create(name, base, values); },
      .steps =
          [&base](const ParameterValues& values) {
            return (base.steps == nullptr ? 0 : base.steps(values)) +
                   RefitSettings(values).plan.steps;
          },
      .bytes =
          [&base](const ProblemShape& shape, const ParameterValues& values, DenseAttention dense,
                  int threads) {
            return std::max(base.bytes(shape, values, dense, threads),
                            SearchBytes(shape, kRefitMatrices, dense));
          },
      .operations =
          [&base](const ProblemShape& shape, const ParameterValues& values, DenseAttention dense) {
            return base.operations(shape, values, dense) +
                   SearchOperations(shape, RefitSettings(values), dense);
          }};
}

}  // namespace attnprune
