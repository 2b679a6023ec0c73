#include "core/methods/kfac_search.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>

#include "core/base/status_macros.h"
#include "core/kernels/finite.h"
#include "core/methods/linear_map.h"
#include "core/methods/solver_state.h"

namespace attnprune {
namespace {

constexpr double kOnward = 0.4, kBackward = 4;  // what mu is multiplied by
constexpr int kRefusals = 3, kUnhelpful = 4;
constexpr int kHeldRounds = 2;  // on all batches, for each that was of use; they cost half

std::vector<Matrix> CopiesOf(const std::vector<Matrix>& matrices) {
  std::vector<Matrix> copies;
  copies.reserve(matrices.size());
  for (const Matrix& matrix : matrices) copies.push_back(matrix.Clone());
  return copies;
}

absl::Status Unfinished() {
  return ResumeRefused("must hold every matrix of the run, finite and of its sparsity");
}

}  // namespace

KfacSearch::KfacSearch(const KfacOptions& options, KfacObjective& objective,
                       const Sparsity& sparsity, ThreadPool& pool, uint64_t fingerprint)
    : options_(options),
      objective_(objective),
      sparsity_(sparsity),
      pool_(pool),
      fingerprint_(fingerprint),
      mu_(options.mu),
      last_round_(options.rounds) {
  best_.error = std::numeric_limits<double>::max();
  for (const NamedWeight& map : objective_.maps()) {
    point_.push_back(OutIn(map));
    gradients_.emplace_back(map.dense.rows(), map.dense.cols());
    const Matrix& dense = point_.back();
    admm_.emplace_back(dense.rows(), dense.cols(), sparsity_, pool_);
    best_.masks.push_back(Binarize(Magnitudes(dense), /*inputs_are_rows=*/false, sparsity_, pool_));
    best_.weights.push_back(best_.masks.back().Apply(dense));
  }
  ended_ = std::all_of(admm_.begin(), admm_.end(),
                       [](const TwoSidedAdmm& admm) { return admm.settled(); });
}

void KfacSearch::StartFrom(const std::vector<PrunedMatrix>& start,
                           const std::vector<PrunedMatrix>& rival) {
  best_ = SolutionOf(start);
  has_other_ = !rival.empty();
  if (has_other_) other_ = SolutionOf(rival);
  ended_ = ended_ || options_.rounds < 1;
  if (!ended_) ended_ = !Begin(Phase::kLearn, options_.rounds);
}

KfacSearch::Solution KfacSearch::SolutionOf(const std::vector<PrunedMatrix>& start) const {
  Solution solution;
  solution.error = std::numeric_limits<double>::max();
  solution.mu = options_.mu;
  for (size_t m = 0; m < start.size(); ++m) {
    const NamedWeight& map = objective_.maps()[m];
    solution.masks.push_back(AsStored(map, start[m].mask));  // a transposition is its own inverse
    solution.weights.push_back(OutIn({map.name, start[m].weights, map.inputs_are_rows}));
  }
  return solution;
}

bool KfacSearch::Begin(Phase phase, int rounds) {
  phase_ = phase;
  round_ = 1;
  last_round_ = rounds;
  mu_ = best_.mu;
  refusals_ = unhelpful_ = 0;
  point_ = CopiesOf(best_.weights);
  metrics_.clear();
  descent_ = mask_is_held_ ? HeldDescent(point_) : HeldDescent();
  const std::vector<Matrix> stored = AsStoredEach(point_);
  loss_ = objective_.LossAndGradient(From(), Views(stored), absl::MakeSpan(gradients_));
  if (phase_ == Phase::kAll) return true;
  const double error = objective_.ValidationError(Views(stored));
  const bool finite = std::isfinite(loss_) && std::isfinite(error);
  if (finite) best_.error = error;
  return finite;
}

KfacObjective::From KfacSearch::From() const {
  return phase_ == Phase::kAll ? KfacObjective::From::kAll : KfacObjective::From::kFit;
}

std::vector<Matrix> KfacSearch::AsStoredEach(const std::vector<Matrix>& out_in) const {
  std::vector<Matrix> stored;
  for (size_t m = 0; m < out_in.size(); ++m) {
    stored.push_back(AsStored(objective_.maps()[m], out_in[m]));
  }
  return stored;
}

double KfacSearch::gradient_norm() const {
  double sum = 0;
  for (const Matrix& gradient : gradients_) {
    for (const float value : gradient.flat()) {
      sum += static_cast<double>(value) * static_cast<double>(value);
    }
  }
  return std::sqrt(sum);
}

// All that it makes is a function of the state that is saved. At the dense weights no batch's
// gradient tells anything, so that their curvature is that of all.
absl::Status KfacSearch::Prepare() {
  if (metrics_.empty()) {
    const std::vector<Matrix> stored = AsStoredEach(mask_is_held_ ? descent_.start : point_);
    const auto from = round_ == 0 ? KfacObjective::From::kAll : From();
    for (const auto& curvatures : objective_.Curvature(from, Views(stored))) {
      ATTNPRUNE_ASSIGN_OR_RETURN(metrics_.emplace_back(),
                                 PrepareMetrics(curvatures, options_.damping, pool_));
    }
  }
  const std::vector<Matrix> gradients = Gradients();
  const double mu = round_ == 0 || mask_is_held_ ? 0 : mu_;
  for (size_t m = 0; m < admm_.size(); ++m) {
    admm_[m].Aim(metrics_[m], point_[m], gradients[m], mu);
    if (mask_is_held_) {
      admm_[m].Hold(point_[m]);
    } else if (steps_in_round_ == 0) {
      admm_[m].Begin();
    }
  }
  prepared_ = true;
  return absl::OkStatus();
}

absl::Status KfacSearch::Step() {
  if (!prepared_) ATTNPRUNE_RETURN_IF_ERROR(Prepare());
  ++steps_in_round_;
  ++steps_taken_;
  if (mask_is_held_ || StepsSettle() || steps_in_round_ == options_.steps) FinishRound();
  return absl::OkStatus();
}

bool KfacSearch::StepsSettle() {
  bool settled = true;
  for (TwoSidedAdmm& admm : admm_) {
    if (!admm.settled()) admm.Step(steps_in_round_);
    settled = settled && admm.settled();
  }
  return settled;
}

std::vector<Matrix> KfacSearch::Gradients() const {
  std::vector<Matrix> gradients;
  for (size_t m = 0; m < gradients_.size(); ++m) {
    const NamedWeight& map = objective_.maps()[m];
    gradients.push_back(OutIn({map.name, gradients_[m], map.inputs_are_rows}));
  }
  return gradients;
}

KfacSearch::Solution KfacSearch::Candidate() const {
  Solution candidate;
  for (size_t m = 0; m < admm_.size(); ++m) {
    candidate.masks.push_back(mask_is_held_ ? best_.masks[m] : admm_[m].Support());
    candidate.weights.push_back(admm_[m].Refined(candidate.masks.back(), options_.refine_steps));
  }
  return candidate;
}

KfacSearch::Solution KfacSearch::HeldCandidate() {
  Solution candidate = Candidate();
  descent_.Turn(point_, candidate.weights, Gradients());
  const std::vector<Matrix> reached = AsStoredEach(descent_.Reached(point_));
  descent_.SetLength(loss_, objective_.Loss(From(), Views(reached)));
  candidate.weights = descent_.Reached(point_);
  return candidate;
}

void KfacSearch::FinishRound() {
  Solution candidate = mask_is_held_ ? HeldCandidate() : Candidate();
  bool finite = std::all_of(candidate.weights.begin(), candidate.weights.end(),
                            [](const Matrix& weights) { return AllFinite(weights.flat()); });
  if (finite) {
    const std::vector<Matrix> stored = AsStoredEach(candidate.weights);
    std::vector<Matrix> gradients(admm_.size());
    const double loss =
        objective_.LossAndGradient(From(), Views(stored), absl::MakeSpan(gradients));
    finite = std::isfinite(loss) && (round_ == 0 || loss < loss_);
    if (finite) Accept(std::move(candidate), loss, std::move(gradients));
  }
  if (!finite) {
    mu_ *= kBackward;
    descent_.Refuse();
    ++refusals_;
  }
  EndRound();
}

void KfacSearch::Accept(Solution candidate, double loss, std::vector<Matrix> gradients) {
  if (round_ > 0) mu_ *= kOnward;
  refusals_ = 0;
  point_ = CopiesOf(candidate.weights);
  gradients_ = std::move(gradients);
  if (!mask_is_held_) metrics_.clear();
  loss_ = loss;
  candidate.mu = mu_;
  candidate.round = round_;
  if (Decides(candidate)) {
    best_ = std::move(candidate);
    unhelpful_ = 0;
  } else {
    ++unhelpful_;
  }
}

// Where all are learned from, a loss that falls is enough.
bool KfacSearch::Decides(Solution& candidate) {
  if (phase_ == Phase::kAll) return true;
  candidate.error = objective_.ValidationError(Views(AsStoredEach(candidate.weights)));
  return candidate.error < best_.error;
}

void KfacSearch::EndRound() {
  prepared_ = false;
  steps_in_round_ = 0;
  const bool over = round_ >= last_round_ || refusals_ == kRefusals || unhelpful_ == kUnhelpful;
  ++round_;
  if (over) EndPhase();
}

void KfacSearch::EndPhase() {
  if (phase_ == Phase::kLearn && has_other_) {
    std::swap(best_, other_);
    mask_is_held_ = true;
    if (Begin(Phase::kRival, options_.rival_rounds)) return;
  }
  if (phase_ == Phase::kRival) ChooseBest();
  ended_ = phase_ == Phase::kAll || !objective_.validates() || best_.round == 0;
  if (!ended_) Begin(Phase::kAll, (mask_is_held_ ? kHeldRounds : 1) * best_.round);
}

const KfacSearch::Solution& KfacSearch::Incumbent() const {
  const bool compared = phase_ == Phase::kRival && has_other_;
  return compared && !(best_.error < other_.error) ? other_ : best_;
}

void KfacSearch::ChooseBest() {
  if (&Incumbent() == &other_) {
    std::swap(best_, other_);
    mask_is_held_ = false;
  }
  other_ = Solution();
  has_other_ = false;
}

std::vector<Matrix> KfacSearch::Weights() const {
  std::vector<Matrix> weights;
  for (size_t m = 0; m < admm_.size(); ++m) {
    weights.push_back(prepared_ ? admm_[m].Weights() : best_.weights[m].Clone());
  }
  return AsStoredEach(weights);
}

std::vector<PrunedMatrix> KfacSearch::Best() const {
  const bool in_first_round = round_ == 0 && prepared_;
  const Solution& best = Incumbent();
  std::vector<PrunedMatrix> result;
  for (size_t m = 0; m < admm_.size(); ++m) {
    const NamedWeight& map = objective_.maps()[m];
    const BitMask mask = in_first_round ? admm_[m].Support() : best.masks[m];
    result.push_back({.name = map.name,
                      .mask = AsStored(map, mask),
                      .weights = AsStored(map, in_first_round ? admm_[m].Refined(mask, 0)
                                                              : best.weights[m].Clone()),
                      .soft_mask = Matrix()});
  }
  return result;
}

std::vector<Matrix> KfacSearch::LogScores() const {
  std::vector<Matrix> scores;
  scores.reserve(admm_.size());
  for (size_t m = 0; m < admm_.size(); ++m) {
    scores.push_back(AsStored(objective_.maps()[m], admm_[m].LogScores()));
  }
  return scores;
}

template <typename Self, typename Visit>
void KfacSearch::ForEachStateMatrix(Self& self, Visit visit) {
  for (size_t m = 0; m < self.admm_.size(); ++m) {
    const char* const name = self.objective_.maps()[m].name;
    visit(StateKey(name, "point"), self.point_[m]);
    visit(StateKey(name, "gradient"), self.gradients_[m]);
    visit(StateKey(name, "best_weight"), self.best_.weights[m]);
    if (self.has_other_) visit(StateKey(name, "other_weight"), self.other_.weights[m]);
    if (self.mask_is_held_) {
      visit(StateKey(name, "held_start"), self.descent_.start[m]);
      visit(StateKey(name, "held_direction"), self.descent_.direction[m]);
    }
    visit(StateKey(name, "u"), self.admm_[m].state.u);
    visit(StateKey(name, "v"), self.admm_[m].state.v);
    visit(StateKey(name, "d"), self.admm_[m].state.d);
  }
}

template <typename Self, typename Visit>
void KfacSearch::ForEachStateNumber(Self& self, Visit visit) {
  visit(self.loss_);
  visit(self.mu_);
  visit(self.phase_);
  visit(self.round_);
  visit(self.last_round_);
  visit(self.steps_in_round_);
  visit(self.refusals_);
  visit(self.unhelpful_);
  visit(self.ended_);
  visit(self.best_.error);
  visit(self.best_.mu);
  visit(self.best_.round);
  visit(self.has_other_);
  visit(self.other_.error);
  visit(self.other_.mu);
  visit(self.other_.round);
  visit(self.mask_is_held_);
  visit(self.descent_.length);
  visit(self.descent_.fall);
  for (auto& admm : self.admm_) {
    visit(admm.state.r);
    visit(admm.state.moving);
    visit(admm.state.settled);
  }
}

void KfacSearch::AppendState(std::string* out) const {
  SolverStateView state;
  state.fingerprint = fingerprint_;
  state.step = steps_taken_;
  ForEachStateNumber(
      *this, [&](const auto& number) { state.numbers.push_back(static_cast<double>(number)); });
  ForEachStateMatrix(
      *this, [&](const std::string& key, const Matrix& matrix) { state.matrices[key] = &matrix; });
  for (size_t m = 0; m < admm_.size(); ++m) {
    const char* const name = objective_.maps()[m].name;
    state.masks[StateKey(name, "best_mask")] = &best_.masks[m];
    if (has_other_) state.masks[StateKey(name, "other_mask")] = &other_.masks[m];
    if (steps_in_round_ > 0) state.masks[StateKey(name, "last_look")] = &admm_[m].state.last_look;
  }
  AppendSolverState(state, out);
}

absl::Status KfacSearch::Restore(const std::string& bytes, int max_steps) {
  ATTNPRUNE_ASSIGN_OR_RETURN(SolverState state, ParseState(bytes, fingerprint_, max_steps));
  size_t count = 0;
  ForEachStateNumber(*this, [&count](const auto&) { ++count; });
  bool complete = state.numbers.size() == count;
  if (!complete) return Unfinished();
  size_t next = 0;
  ForEachStateNumber(*this, [&](auto& number) {
    number = static_cast<std::remove_reference_t<decltype(number)>>(state.numbers[next++]);
  });
  if (has_other_) {  // of the same shapes
    other_.masks = best_.masks;
    other_.weights = CopiesOf(best_.weights);
  }
  if (mask_is_held_) {
    descent_.start = CopiesOf(point_);
    descent_.direction = CopiesOf(point_);
  }
  ForEachStateMatrix(*this, [&](const std::string& key, Matrix& into) {
    complete = complete && state.Take(key, into);
  });
  for (size_t m = 0; complete && m < admm_.size(); ++m) {
    const char* const name = objective_.maps()[m].name;
    const Index rows = point_[m].rows(), cols = point_[m].cols();
    const auto mask = [&](const char* what) {
      return BitMask::FromBytes(rows, cols, state.masks[StateKey(name, what)]);
    };
    const auto take = [&](const char* what, Solution& into) {
      const auto taken = mask(what);
      complete = complete && taken.ok() && taken->CountPruned() == into.masks[m].CountPruned();
      if (!complete) return;
      into.masks[m] = *taken;
      into.weights[m] = taken->Apply(into.weights[m]);
    };
    take("best_mask", best_);
    if (has_other_) take("other_mask", other_);
    if (!complete || steps_in_round_ == 0) continue;
    const auto last_look = mask("last_look");
    complete = last_look.ok();
    if (complete) admm_[m].state.last_look = *last_look;
  }
  if (!complete) return Unfinished();
  steps_taken_ = state.step;
  return absl::OkStatus();
}

}  // namespace attnprune
