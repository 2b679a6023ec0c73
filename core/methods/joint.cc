#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/base/status_macros.h"
#include "core/methods/kfac_objective.h"
#include "core/methods/kfac_run.h"
#include "core/methods/kfac_search.h"
#include "core/methods/linear_map.h"
#include "core/methods/methods.h"
#include "core/methods/phase_observer.h"
#include "core/methods/refit_state.h"
#include "core/methods/search_method.h"
#include "core/methods/solver_state.h"

namespace attnprune {
namespace {

// Matrices of the weights' size at a search's peak, which is a checkpoint: measured with W of 2048
// x 2048. The result of the phase before is two more, in two copies.
constexpr double kSearchMatrices = 20, kEarlierResult = 4;

constexpr int kSteps = 600, kLongSteps = 2000;
constexpr double kWeightRate = 0.05, kLongWeightRate = 0.03;
constexpr double kOneBatch = 1;

double Or(double automatic, double given) { return std::isnan(given) ? automatic : given; }

bool IsLong(const ParameterValues& values) { return values.GetSwitch("long"); }

int SearchSteps(const ParameterValues& values) {
  return static_cast<int>(Or(IsLong(values) ? kLongSteps : kSteps, values.Get("steps")));
}

SearchSettings SettingsOf(const ParameterValues& values) {
  const bool is_long = IsLong(values);
  const int steps = SearchSteps(values);
  const int rise = static_cast<int>(values.Get("rise") * steps);
  return {.plan = {.steps = steps,
                   .rise = rise,
                   .full_from_start = !is_long,
                   .freeze = rise,
                   .score_rate = values.Get("score_rate"),
                   .weight_rate =
                       Or(is_long ? kLongWeightRate : kWeightRate, values.Get("weight_rate"))},
          .validation = values.Get("validation"),
          .batches_per_step = is_long ? values.Get("batch") : Or(kOneBatch, values.Get("batch")),
          .by_factors = values.GetSwitch("factors")};
}

KfacOptions RoundsOf(const ParameterValues& values) {
  return {.damping = 0.01,
          .validation = values.Get("validation"),
          .mu = 3,
          .rounds = values.GetInt("rounds"),
          .steps = 100,
          .refine_steps = 20,
          .by_factors = values.GetSwitch("factors")};
}

KfacOptions OneShotOf(KfacOptions options) {
  options.rounds = 0;
  return options;
}

// Every setting, in a fixed order, for PreparedProblem::Fingerprint; of the phases before the
// rounds, or of the rounds.
std::vector<double> FingerprintValues(const SearchSettings& search, int rounds, bool in_rounds) {
  return {static_cast<double>(search.plan.steps),
          static_cast<double>(search.plan.rise),
          search.plan.score_rate,
          search.plan.weight_rate,
          search.validation,
          search.batches_per_step,
          search.by_factors ? 1.0 : 0.0,
          static_cast<double>(rounds),
          in_rounds ? 1.0 : 0.0};
}

// The default of `joint`: three phases, each with objectives of its own, of which only one is there
// at a time.
class JointMethod final : public Method {
 public:
  JointMethod(const SearchSettings& search, const KfacOptions& rounds)
      : search_(search), rounds_(rounds) {}

  absl::string_view name() const override { return "joint"; }

 private:
  // A run between two phases, or where it is to be taken up again.
  struct Run {
    PreparedProblem& prepared;
    ProgressObserver& observer;
    int evaluate_every = 0;
    uint64_t search_fingerprint = 0, rounds_fingerprint = 0;
    std::string resume_from = {};  // the state of the phase that is to go on
    PruneResult result = {};       // of the phase before
    bool decided = true;  // whether there are batches that decide, or nobody asked for them
  };

  absl::StatusOr<PruneResult> DoPrune(PreparedProblem& prepared, RunOptions& options,
                                      ProgressObserver& observer) const override;
  // Each takes over run.result, or leaves its own there; kStopped in its reason ends the run.
  absl::Status OneShot(Run& run, std::vector<Matrix>& scores) const;
  absl::Status Search(Run& run, std::vector<Matrix> scores) const;
  absl::Status Rounds(Run& run) const;
  const SearchSettings search_;
  const KfacOptions rounds_;
};

absl::Status JointMethod::OneShot(Run& run, std::vector<Matrix>& scores) const {
  const KfacOptions options = OneShotOf(rounds_);
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const std::unique_ptr<KfacObjective> objective,
      KfacObjective::Create(run.prepared, options.by_factors, options.validation));
  run.decided = objective->validates() || options.validation == 0;
  KfacSearch search(options, *objective, run.prepared.problem().sparsity, run.prepared.pool(),
                    run.search_fingerprint);
  if (!run.resume_from.empty()) {
    const std::string state = std::exchange(run.resume_from, {});
    ATTNPRUNE_RETURN_IF_ERROR(search.Restore(state, KfacStepsAtMost(options)));
  }
  const int after = search_.plan.steps + KfacStepsAtMost(rounds_);
  PhaseObserver phase(0, run.decided ? after : 0, "", run.search_fingerprint, run.observer);
  ATTNPRUNE_ASSIGN_OR_RETURN(run.result.reason,
                             RunKfac(options, run.evaluate_every, *objective, search, phase));
  if (phase.stopped() && run.decided) run.result.reason = TerminationReason::kStopped;
  run.result.steps = search.steps_taken();
  run.result.matrices = search.Best();
  scores = search.LogScores();
  return absl::OkStatus();
}

// What is pruned begins with its dense value. Scores that are not given are those of the state.
SearchStart StartFrom(const std::vector<NamedWeight>& weights, const PruneResult& result,
                      std::vector<Matrix> scores) {
  SearchStart start;
  start.scores = std::move(scores);
  for (size_t m = 0; m < weights.size(); ++m) {
    const PrunedMatrix& pruned = result.matrices[m];
    Matrix values = Matrix::CopyFrom(weights[m].dense);
    for (Index i = 0; i < values.size(); ++i) {
      const auto at = static_cast<size_t>(i);
      if (pruned.mask.kept(i)) values.flat()[at] = pruned.weights.flat()[at];
    }
    if (start.scores.size() == m) start.scores.emplace_back(values.rows(), values.cols());
    start.masks.push_back(pruned.mask);
    start.values.push_back(std::move(values));
  }
  return start;
}

absl::Status JointMethod::Search(Run& run, std::vector<Matrix> scores) const {
  const Problem& problem = run.prepared.problem();
  const std::vector<NamedWeight> weights = LinearMaps(problem, search_.by_factors);
  const SearchedWeights searched = SearchedOf(problem, weights);
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const std::unique_ptr<SearchObjectives> objectives,
      SearchObjectives::Create(run.prepared, searched, search_.validation,
                               BatchesPerStep(search_, problem.calibration.count())));
  SparseSearch search(weights, problem.sparsity, StartFrom(weights, run.result, std::move(scores)),
                      *objectives, run.prepared.pool(), search_.plan, run.search_fingerprint);
  if (!run.resume_from.empty()) {
    const std::string state = std::exchange(run.resume_from, {});
    ATTNPRUNE_RETURN_IF_ERROR(search.Restore(state));
  }
  PhaseObserver phase(run.result.steps, KfacStepsAtMost(rounds_),
                      SerializeResult(run.result, run.search_fingerprint), run.search_fingerprint,
                      run.observer);
  const RunOptions options = {.evaluate_every = run.evaluate_every, .resume_from = {}};
  ATTNPRUNE_ASSIGN_OR_RETURN(run.result.reason,
                             RunSparseSearch(search, *objectives, options, phase));
  if (phase.stopped()) run.result.reason = TerminationReason::kStopped;
  run.result.steps += search.steps_taken();
  run.result.matrices = search.Best();
  return absl::OkStatus();
}

absl::Status JointMethod::Rounds(Run& run) const {
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const std::unique_ptr<KfacObjective> objective,
      KfacObjective::Create(run.prepared, rounds_.by_factors, rounds_.validation));
  KfacSearch search(rounds_, *objective, run.prepared.problem().sparsity, run.prepared.pool(),
                    run.rounds_fingerprint);
  search.StartFrom(run.result.matrices);
  if (!run.resume_from.empty()) {
    const std::string state = std::exchange(run.resume_from, {});
    ATTNPRUNE_RETURN_IF_ERROR(search.Restore(state, KfacStepsAtMost(rounds_)));
  }
  PhaseObserver phase(run.result.steps, 0, SerializeResult(run.result, run.rounds_fingerprint),
                      run.rounds_fingerprint, run.observer);
  ATTNPRUNE_ASSIGN_OR_RETURN(run.result.reason,
                             RunKfac(rounds_, run.evaluate_every, *objective, search, phase));
  run.result.steps += search.steps_taken();
  run.result.matrices = search.Best();
  return absl::OkStatus();
}

absl::StatusOr<PruneResult> JointMethod::DoPrune(PreparedProblem& prepared, RunOptions& options,
                                                 ProgressObserver& observer) const {
  const auto fingerprint = [&](bool in_rounds) {
    return prepared.Fingerprint(name(), FingerprintValues(search_, rounds_.rounds, in_rounds));
  };
  Run run{.prepared = prepared,
          .observer = observer,
          .evaluate_every = options.evaluate_every,
          .search_fingerprint = fingerprint(false),
          .rounds_fingerprint = fingerprint(true)};
  bool in_search = false, in_rounds = false;
  if (!options.resume_from.empty()) {
    const std::string bytes = std::exchange(options.resume_from, {});
    absl::StatusOr<RefitState> state = ParseRefitState(bytes, run.rounds_fingerprint);
    in_rounds = state.ok();
    if (!in_rounds) {
      ATTNPRUNE_ASSIGN_OR_RETURN(state, ParseRefitState(bytes, run.search_fingerprint));
      in_search = !state->base_result.empty();
    }
    if (in_rounds || in_search) {
      ATTNPRUNE_ASSIGN_OR_RETURN(
          run.result, ParseResult(std::exchange(state->base_result, {}), prepared.problem(),
                                  in_rounds ? run.rounds_fingerprint : run.search_fingerprint));
    }
    run.resume_from =
        in_rounds || in_search ? std::move(state->search_state) : std::move(state->base_state);
  }
  const auto stopped = [&run] { return run.result.reason == TerminationReason::kStopped; };
  std::vector<Matrix> scores;
  if (!in_search && !in_rounds) {
    ATTNPRUNE_RETURN_IF_ERROR(OneShot(run, scores));
    if (stopped() || !run.decided || run.result.steps == 0) return std::move(run.result);
  }
  if (!in_rounds && search_.plan.steps > 0) {
    ATTNPRUNE_RETURN_IF_ERROR(Search(run, std::move(scores)));
    if (stopped()) return std::move(run.result);
  }
  ATTNPRUNE_RETURN_IF_ERROR(Rounds(run));
  return std::move(run.result);
}

std::vector<Parameter> JointParameters() {
  using Kind = Parameter::Kind;
  return {
      {"steps", Kind::kInteger, kAutomatic, 0, 1e6,
       "Steps of the search. Default: 600, of the long one 2000. 0: none."},
      {"rise", Kind::kReal, 0.6, 0, 1,
       "Fraction of the search's steps in which the mask moves; in the long search the sparsity "
       "rises to its target over them. Then the mask stands still and the weights settle. With 0 "
       "the mask is the starting one."},
      {"score_rate", Kind::kReal, 0.05, 1e-9, 1e3,
       "How far a step moves a score of root-mean-square gradient in its matrix; a score starts as "
       "the logarithm of the weight's size in the one-shot answer's metric, in the long search of "
       "its saliency."},
      {"weight_rate", Kind::kReal, kAutomatic, 1e-9, 10,
       "How far a step moves a weight, in units of 2 mean |W| of its matrix; falls to 0 while the "
       "weights settle. Default: 0.05, in the long search 0.03."},
      {"batch", Kind::kInteger, kAutomatic, 1, 1e6,
       "Calibration batches that a step of the search learns from, at most; the steps take turns. "
       "Default: 1; in the long search a quarter of the calibration batches, rounded up, 4 at "
       "most."},
      {"rounds", Kind::kInteger, 8, 0, 1e4,
       "Rounds of kfac after the search that learn from the batches which do not decide, at most; "
       "as many as were of use are then done on all batches. No effect with long=1."},
      {"long", Kind::kSwitch, 0, 0, 1,
       "0: the one-shot answer of kfac, the search from it where it helps the batches that decide, "
       "then rounds. Of a single batch, where nothing decides, the one-shot answer alone. 1: a "
       "long search from the dense weights alone."},
      ValidationParameter("validation"),
      FactorsParameter(),
  };
}

// The long search, from LogSaliency's scores, by itself.
const MethodInfo& LongSearch() {
  static const MethodInfo info =
      SearchMethodInfo("joint", "", JointParameters(), SettingsOf, kSearchMatrices);
  return info;
}

double JointBytes(const ProblemShape& shape, const ParameterValues& values, DenseAttention dense,
                  int threads) {
  if (IsLong(values)) return LongSearch().bytes(shape, values, dense, threads);
  return std::max(SearchBytes(shape, kSearchMatrices + kEarlierResult, dense),
                  KfacBytes(shape, RoundsOf(values), dense, threads) +
                      sizeof(float) * kEarlierResult * Entries(shape));
}

double JointOperations(const ProblemShape& shape, const ParameterValues& values,
                       DenseAttention dense) {
  const SearchSettings settings = SettingsOf(values);
  const double search = SearchOperations(shape, settings, dense);
  if (IsLong(values)) return search;
  const KfacOptions rounds = RoundsOf(values);
  const double one_shot = KfacOperations(shape, OneShotOf(rounds), dense);
  if (CalibrationSize(shape).batches < 2 && settings.validation > 0) return one_shot;
  return search + one_shot + KfacOperations(shape, rounds, dense);
}

int JointSteps(const ParameterValues& values) {
  const int search = SearchSteps(values);
  if (IsLong(values)) return search;
  const KfacOptions rounds = RoundsOf(values);
  return KfacStepsAtMost(OneShotOf(rounds)) + search + KfacStepsAtMost(rounds);
}

}  // namespace

const MethodInfo& JointInfo() {
  static const MethodInfo info = {
      .name = "joint",
      .summary = "Searches mask and kept weights together under the attention loss",
      .parameters = JointParameters(),
      .create = [](const ParameterValues& values) -> std::unique_ptr<Method> {
        if (IsLong(values)) return LongSearch().create(values);
        return std::make_unique<JointMethod>(SettingsOf(values), RoundsOf(values));
      },
      .steps = JointSteps,
      .bytes = JointBytes,
      .operations = JointOperations};
  return info;
}

}  // namespace attnprune
