#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <map>
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

constexpr int kSteps = 600, kLongSteps = 2000, kRivalRounds = 6;
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
          .rival_rounds = std::min(kRivalRounds, values.GetInt("rounds")),
          .by_factors = values.GetSwitch("factors")};
}

KfacOptions OneShotOf(KfacOptions options) {
  options.rounds = options.rival_rounds = 0;
  return options;
}

// ALPS's defaults.
ParameterValues AlpsValues(bool by_factors) {
  std::map<std::string, double> values;
  for (const Parameter& parameter : AlpsInfo().parameters) {
    values[parameter.name] = parameter.default_value;
  }
  values["factors"] = by_factors ? 1 : 0;
  return ParameterValues(std::move(values));
}

int AlpsSteps(const KfacOptions& rounds) {
  return rounds.rival_rounds == 0 ? 0 : AlpsInfo().steps(AlpsValues(rounds.by_factors));
}

enum class Stage { kOneShot, kSearch, kAlps, kRounds };
constexpr std::array kResumed = {Stage::kRounds, Stage::kAlps, Stage::kSearch};

// Every setting, in a fixed order, for PreparedProblem::Fingerprint, and the stage: the one-shot
// answer and the search have one, being told apart by the result before them.
std::vector<double> FingerprintValues(const SearchSettings& search, int rounds, Stage stage) {
  const auto later = static_cast<int>(stage) - static_cast<int>(Stage::kSearch);
  return {static_cast<double>(search.plan.steps),
          static_cast<double>(search.plan.rise),
          search.plan.score_rate,
          search.plan.weight_rate,
          search.validation,
          search.batches_per_step,
          search.by_factors ? 1.0 : 0.0,
          static_cast<double>(rounds),
          static_cast<double>(std::max(later, 0))};
}

// The default of `joint`: stages with objectives of their own, of which only one is there at a
// time.
class JointMethod final : public Method {
 public:
  JointMethod(const SearchSettings& search, const KfacOptions& rounds)
      : search_(search), rounds_(rounds), alps_(AlpsInfo().create(AlpsValues(rounds.by_factors))) {}

  absl::string_view name() const override { return "joint"; }

 private:
  // A run between two stages, or where it is to be taken up again.
  struct Run {
    PreparedProblem& prepared;
    ProgressObserver& observer;
    int evaluate_every = 0;
    Stage stage = Stage::kOneShot;  // the first that is to be done
    std::string resume_from = {};   // its state
    PruneResult result = {};        // of the stages before
    std::vector<Matrix> scores = {};
    std::vector<PrunedMatrix> rival = {};  // ALPS's answer
    bool decided = true;  // whether there are batches that decide, or nobody asked for them

    bool stopped() const { return result.reason == TerminationReason::kStopped; }
  };

  absl::StatusOr<PruneResult> DoPrune(PreparedProblem& prepared, RunOptions& options,
                                      ProgressObserver& observer) const override;
  uint64_t FingerprintOf(Run& run, Stage stage) const;
  // Where `state` says that the run is.
  absl::Status TakeUp(Run& run, const std::string& state) const;
  // Each goes on from run.result and leaves its own there; kStopped in its reason ends the run.
  absl::Status OneShot(Run& run) const;
  absl::Status Search(Run& run) const;
  absl::Status Alps(Run& run) const;
  absl::Status Rounds(Run& run) const;

  const SearchSettings search_;
  const KfacOptions rounds_;
  const std::unique_ptr<Method> alps_;
};

uint64_t JointMethod::FingerprintOf(Run& run, Stage stage) const {
  return run.prepared.Fingerprint(name(), FingerprintValues(search_, rounds_.rounds, stage));
}

absl::Status JointMethod::OneShot(Run& run) const {
  const uint64_t fingerprint = FingerprintOf(run, Stage::kOneShot);
  const KfacOptions options = OneShotOf(rounds_);
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const std::unique_ptr<KfacObjective> objective,
      KfacObjective::Create(run.prepared, options.by_factors, options.validation));
  run.decided = objective->validates() || options.validation == 0;
  KfacSearch search(options, *objective, run.prepared.problem().sparsity, run.prepared.pool(),
                    fingerprint);
  if (!run.resume_from.empty()) {
    const std::string state = std::exchange(run.resume_from, {});
    ATTNPRUNE_RETURN_IF_ERROR(search.Restore(state, KfacStepsAtMost(options)));
  }
  const int after = search_.plan.steps + AlpsSteps(rounds_) + KfacStepsAtMost(rounds_);
  PhaseObserver phase(0, run.decided ? after : 0, "", fingerprint, run.observer);
  ATTNPRUNE_ASSIGN_OR_RETURN(run.result.reason,
                             RunKfac(options, run.evaluate_every, *objective, search, phase));
  if (phase.stopped() && run.decided) run.result.reason = TerminationReason::kStopped;
  run.result.steps = search.steps_taken();
  run.result.matrices = search.Best();
  run.scores = search.LogScores();
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

absl::Status JointMethod::Search(Run& run) const {
  const uint64_t fingerprint = FingerprintOf(run, Stage::kSearch);
  const Problem& problem = run.prepared.problem();
  const std::vector<NamedWeight> weights = LinearMaps(problem, search_.by_factors);
  const SearchedWeights searched = SearchedOf(problem, weights);
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const std::unique_ptr<SearchObjectives> objectives,
      SearchObjectives::Create(run.prepared, searched, search_.validation,
                               BatchesPerStep(search_, problem.calibration.count())));
  SparseSearch search(weights, problem.sparsity,
                      StartFrom(weights, run.result, std::exchange(run.scores, {})), *objectives,
                      run.prepared.pool(), search_.plan, fingerprint);
  if (!run.resume_from.empty()) {
    const std::string state = std::exchange(run.resume_from, {});
    ATTNPRUNE_RETURN_IF_ERROR(search.Restore(state));
  }
  PhaseObserver phase(run.result.steps, AlpsSteps(rounds_) + KfacStepsAtMost(rounds_),
                      SerializeResult(run.result, fingerprint), fingerprint, run.observer);
  const RunOptions options = {.evaluate_every = run.evaluate_every, .resume_from = {}};
  ATTNPRUNE_ASSIGN_OR_RETURN(run.result.reason,
                             RunSparseSearch(search, *objectives, options, phase));
  if (phase.stopped()) run.result.reason = TerminationReason::kStopped;
  run.result.steps += search.steps_taken();
  run.result.matrices = search.Best();
  return absl::OkStatus();
}

// Where it has no finite answer the rounds have no rival.
absl::Status JointMethod::Alps(Run& run) const {
  const uint64_t fingerprint = FingerprintOf(run, Stage::kAlps);
  PhaseObserver phase(run.result.steps, KfacStepsAtMost(rounds_),
                      SerializeResult(run.result, fingerprint), fingerprint, run.observer);
  const RunOptions options = {.evaluate_every = run.evaluate_every,
                              .resume_from = std::exchange(run.resume_from, {})};
  absl::StatusOr<PruneResult> alps = alps_->Prune(run.prepared, options, phase);
  if (absl::IsFailedPrecondition(alps.status())) return absl::OkStatus();
  ATTNPRUNE_RETURN_IF_ERROR(alps.status());
  run.result.steps += alps->steps;
  run.result.reason = phase.stopped() ? TerminationReason::kStopped : alps->reason;
  run.rival = std::move(alps->matrices);
  return absl::OkStatus();
}

absl::Status JointMethod::Rounds(Run& run) const {
  const uint64_t fingerprint = FingerprintOf(run, Stage::kRounds);
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const std::unique_ptr<KfacObjective> objective,
      KfacObjective::Create(run.prepared, rounds_.by_factors, rounds_.validation));
  KfacSearch search(rounds_, *objective, run.prepared.problem().sparsity, run.prepared.pool(),
                    fingerprint);
  if (run.resume_from.empty()) {
    search.StartFrom(run.result.matrices, std::exchange(run.rival, {}));
  } else {
    const std::string state = std::exchange(run.resume_from, {});
    ATTNPRUNE_RETURN_IF_ERROR(search.Restore(state, KfacStepsAtMost(rounds_)));
  }
  PhaseObserver phase(run.result.steps, 0, SerializeResult(run.result, fingerprint), fingerprint,
                      run.observer);
  ATTNPRUNE_ASSIGN_OR_RETURN(run.result.reason,
                             RunKfac(rounds_, run.evaluate_every, *objective, search, phase));
  run.result.steps += search.steps_taken();
  run.result.matrices = search.Best();
  return absl::OkStatus();
}

absl::Status JointMethod::TakeUp(Run& run, const std::string& state) const {
  absl::StatusOr<RefitState> parts;
  for (const Stage stage : kResumed) {
    run.stage = stage;
    parts = ParseRefitState(state, FingerprintOf(run, stage));
    if (parts.ok()) break;
  }
  ATTNPRUNE_RETURN_IF_ERROR(parts.status());
  if (parts->base_result.empty()) {
    run.stage = Stage::kOneShot;
    run.resume_from = std::move(parts->base_state);
    return absl::OkStatus();
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(
      run.result, ParseResult(std::exchange(parts->base_result, {}), run.prepared.problem(),
                              FingerprintOf(run, run.stage)));
  run.resume_from = std::move(parts->search_state);
  return absl::OkStatus();
}

absl::StatusOr<PruneResult> JointMethod::DoPrune(PreparedProblem& prepared, RunOptions& options,
                                                 ProgressObserver& observer) const {
  Run run{.prepared = prepared, .observer = observer, .evaluate_every = options.evaluate_every};
  if (!options.resume_from.empty()) {
    ATTNPRUNE_RETURN_IF_ERROR(TakeUp(run, std::exchange(options.resume_from, {})));
  }
  if (run.stage == Stage::kOneShot) {
    ATTNPRUNE_RETURN_IF_ERROR(OneShot(run));
    if (run.stopped() || !run.decided || run.result.steps == 0) return std::move(run.result);
  }
  if (run.stage <= Stage::kSearch && search_.plan.steps > 0) {
    ATTNPRUNE_RETURN_IF_ERROR(Search(run));
    if (run.stopped()) return std::move(run.result);
  }
  if (run.stage <= Stage::kAlps && rounds_.rival_rounds > 0) {
    ATTNPRUNE_RETURN_IF_ERROR(Alps(run));
    if (run.stopped()) return std::move(run.result);
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
       "as many as were of use are then done on all batches. As many, but 6 at most, are done from "
       "alps's answer. No effect with long=1."},
      {"long", Kind::kSwitch, 0, 0, 1,
       "0: the one-shot answer of kfac, the search from it where it helps the batches that decide, "
       "then rounds; alps's answer and rounds for its mask where these are better for them. Of a "
       "single batch, where nothing decides, the one-shot answer alone. 1: a long search from the "
       "dense weights alone."},
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
  const KfacOptions rounds = RoundsOf(values);
  const double earlier = sizeof(float) * kEarlierResult * Entries(shape);
  const double alps = AlpsInfo().bytes(shape, AlpsValues(rounds.by_factors), dense, threads);
  return std::max({SearchBytes(shape, kSearchMatrices, dense), alps,
                   KfacBytes(shape, rounds, dense, threads)}) +
         earlier;
}

double JointOperations(const ProblemShape& shape, const ParameterValues& values,
                       DenseAttention dense) {
  const SearchSettings settings = SettingsOf(values);
  const double search = SearchOperations(shape, settings, dense);
  if (IsLong(values)) return search;
  const KfacOptions rounds = RoundsOf(values);
  const double one_shot = KfacOperations(shape, OneShotOf(rounds), dense);
  if (CalibrationSize(shape).batches < 2 && settings.validation > 0) return one_shot;
  const double alps = rounds.rival_rounds == 0
                          ? 0
                          : AlpsInfo().operations(shape, AlpsValues(rounds.by_factors), dense);
  return search + one_shot + alps + KfacOperations(shape, rounds, dense);
}

int JointSteps(const ParameterValues& values) {
  const int search = SearchSteps(values);
  if (IsLong(values)) return search;
  const KfacOptions rounds = RoundsOf(values);
  return KfacStepsAtMost(OneShotOf(rounds)) + search + AlpsSteps(rounds) + KfacStepsAtMost(rounds);
}

}  // namespace

const MethodInfo& JointInfo() {
  static const MethodInfo info = {
      .name = "joint",
      .summary = "Searches mask and kept weights together under the attention loss",
      .parameters = JointParameters(),
      .uses_moments = true,
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
