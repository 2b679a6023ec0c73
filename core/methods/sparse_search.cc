#include "core/methods/sparse_search.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>
#include <utility>

#include "core/base/status_macros.h"
#include "core/base/sum.h"
#include "core/kernels/attention.h"
#include "core/kernels/descent.h"
#include "core/kernels/finite.h"
#include "core/kernels/select.h"
#include "core/methods/linear_map.h"
#include "core/methods/solver_state.h"

namespace attnprune {
namespace {

constexpr double kBeta1 = 0.9, kBeta2 = 0.999;
constexpr int kIncumbentUpdates = 40;  // in a whole run, about

std::vector<Matrix> Copies(const std::vector<Matrix>& matrices) {
  std::vector<Matrix> out;
  out.reserve(matrices.size());
  for (const Matrix& matrix : matrices) out.push_back(matrix.Clone());
  return out;
}

std::vector<Matrix> Apply(const std::vector<BitMask>& masks, const std::vector<Matrix>& values) {
  std::vector<Matrix> out;
  for (size_t m = 0; m < masks.size(); ++m) out.push_back(masks[m].Apply(values[m]));
  return out;
}

float TwiceMeanMagnitude(MatrixView w) {
  double sum = 0;
  for (Index i = 0; i < w.rows(); ++i) {
    for (Index j = 0; j < w.cols(); ++j) sum += std::abs(static_cast<double>(w(i, j)));
  }
  return static_cast<float>(2 * sum / static_cast<double>(w.size()));
}

// Prunes `count` of the entries that Binarize prunes in groups, the smallest scores among them.
BitMask SelectSomeInGroups(const Matrix& scores, bool inputs_are_rows, const Sparsity& sparsity,
                           Index count, ThreadPool& pool) {
  const BitMask all = Binarize(scores, inputs_are_rows, sparsity, pool);
  std::vector<float> candidates;
  std::vector<Index> places;
  for (Index i = 0; i < scores.size(); ++i) {
    if (all.kept(i)) continue;
    candidates.push_back(scores.flat()[static_cast<size_t>(i)]);
    places.push_back(i);
  }
  BitMask mask(scores.rows(), scores.cols(), /*kept=*/true);
  for (const Index i : SmallestIndices(candidates, count)) {
    mask.Prune(places[static_cast<size_t>(i)]);
  }
  return mask;
}

absl::Status Incomplete() {
  return ResumeRefused("must hold every matrix of the run, finite and of its sparsity");
}

}  // namespace

double RisingFraction(const SearchPlan& plan, int t) {
  if (t >= plan.rise || plan.full_from_start) return 1;
  const double left = 1 - static_cast<double>(t) / plan.rise;
  return 1 - left * left * left;
}

double RateFactor(const SearchPlan& plan, int t) {
  if (t < plan.rise) return 1;
  const double done = static_cast<double>(t - plan.rise) / (plan.steps - plan.rise);
  return 0.5 * (1 + std::cos(std::numbers::pi * done));
}

SparseSearch::SparseSearch(std::vector<NamedWeight> weights, const Sparsity& sparsity,
                           SearchStart start, SearchObjectives& objectives, ThreadPool& pool,
                           const SearchPlan& plan, uint64_t fingerprint)
    : weights_(std::move(weights)),
      sparsity_(sparsity),
      objectives_(objectives),
      pool_(pool),
      plan_(plan),
      fingerprint_(fingerprint),
      shards_(weights_),
      start_{start.masks, Apply(start.masks, start.values)},
      scores_(std::move(start.scores)),
      values_(std::move(start.values)),
      best_{start_.masks, Copies(start_.weights)},
      pruned_(LikeEach(weights_, 0.0f)),
      gradients_(LikeEach(weights_, 0.0f)),
      mask_gradients_(LikeEach(weights_, 0.0f)),
      mean_squares_(weights_.size(), 0.0) {
  for (const NamedWeight& weight : weights_) units_.push_back(TwiceMeanMagnitude(weight.dense));
  for (const BitMask& mask : start_.masks) masks_.push_back(mask.ToMatrix());
  if (plan_.freeze > 0) {
    score_m_ = LikeEach(weights_, 0.0f);
    score_v_.assign(weights_.size(), 0.0);
  }
  if (plan_.weight_rate > 0) {
    value_m_ = LikeEach(weights_, 0.0f);
    value_v_ = LikeEach(weights_, 0.0f);
  }
  best_error_ = objectives_.ValidationError(Views(best_.weights));
  if (!std::isfinite(best_error_)) best_error_ = std::numeric_limits<double>::infinity();
}

void SparseSearch::PrepareMasks() {
  const int selection = std::min(steps_taken_, plan_.freeze);  // the last one stands
  if (plan_.freeze == 0 || selection == selection_) return;
  const double fraction = RisingFraction(plan_, selection);
  for (size_t m = 0; m < weights_.size(); ++m) {
    const auto target = static_cast<double>(sparsity_.PrunedOf(scores_[m].size()));
    const auto count = static_cast<Index>(fraction * target);
    if (sparsity_.structured()) {
      masks_[m] =
          SelectSomeInGroups(scores_[m], weights_[m].inputs_are_rows, sparsity_, count, pool_)
              .ToMatrix();
    } else {
      PruneSmallestInto(scores_[m], count, pool_, masks_[m]);
    }
  }
  selection_ = selection;
}

SparseSearch::Figures SparseSearch::Evaluate() {
  PrepareMasks();
  shards_.ForEach(pool_, [this](const Shard& shard, size_t) {
    Hadamard(shard.Of(std::as_const(values_)), shard.Of(std::as_const(masks_)), shard.Of(pruned_));
  });
  LossFunction& part = objectives_.PartOf(steps_taken_);
  const double loss = part.LossAndGradient(Views(pruned_), absl::MakeSpan(gradients_));

  std::vector<double> squares(shards_.count());
  std::vector<size_t> matrix_of(shards_.count());
  shards_.ForEach(pool_, [this, &squares, &matrix_of](const Shard& shard, size_t i) {
    matrix_of[i] = shard.matrix;
    std::ranges::copy(shard.Of(std::as_const(gradients_)), shard.Of(mask_gradients_).begin());
    squares[i] = GradientInMask(shard.Of(std::as_const(values_)), shard.Of(std::as_const(masks_)),
                                /*lambda=*/0, shard.Of(mask_gradients_))
                     .gradient_squared;
  });
  std::ranges::fill(mean_squares_, 0.0);
  for (size_t i = 0; i < squares.size(); ++i) {
    mean_squares_[matrix_of[i]] +=
        squares[i] / static_cast<double>(weights_[matrix_of[i]].dense.size());
  }
  Figures figures;
  figures.relative_error = 2 * loss / part.dense_norm_squared();
  figures.loss = 0.5 * figures.relative_error * objectives_.dense_norm_squared();
  figures.gradient_norm =
      std::sqrt(Sum(squares)) / static_cast<double>(objectives_.BatchesOf(steps_taken_));
  figures.finite = std::isfinite(figures.loss) && std::isfinite(figures.gradient_norm);
  return figures;
}

void SparseSearch::Step() {
  const double factor = RateFactor(plan_, steps_taken_);
  const AdamStep step = MakeAdamStep(factor, kBeta1, kBeta2, steps_taken_ + 1);
  if (ScoresMove()) {
    for (size_t m = 0; m < score_v_.size(); ++m) {
      score_v_[m] = kBeta2 * score_v_[m] + (1 - kBeta2) * mean_squares_[m];
    }
  }
  shards_.ForEach(pool_, [this, &step](const Shard& shard, size_t) {
    ScopedFlushDenormals flush;
    if (ScoresMove()) {
      AdamStep of_scores = step;
      of_scores.rate *= static_cast<float>(plan_.score_rate);
      SharedAdam(of_scores, score_v_[shard.matrix], shard.Of(std::as_const(mask_gradients_)),
                 shard.Of(score_m_), shard.Of(scores_));
    }
    if (plan_.weight_rate > 0) {
      AdamStep of_values = step;
      of_values.rate *= static_cast<float>(plan_.weight_rate) * units_[shard.matrix];
      // pruned_ has done its work: it holds the gradient of what is kept.
      Hadamard(shard.Of(std::as_const(gradients_)), shard.Of(std::as_const(masks_)),
               shard.Of(pruned_));
      Adam(of_values, shard.Of(std::as_const(pruned_)), shard.Of(value_m_), shard.Of(value_v_),
           shard.Of(values_));
    }
  });
  ++steps_taken_;
  const int every = std::max(1, plan_.steps / kIncumbentUpdates);
  const bool at_full_sparsity = steps_taken_ > plan_.rise;
  if ((at_full_sparsity && steps_taken_ % every == 0) || steps_taken_ == plan_.steps) {
    UpdateIncumbent();
  }
}

std::vector<BitMask> SparseSearch::FullMasks() const {
  if (plan_.freeze == 0) return start_.masks;
  std::vector<BitMask> masks;
  for (size_t m = 0; m < weights_.size(); ++m) {
    masks.push_back(Binarize(scores_[m], weights_[m].inputs_are_rows, sparsity_, pool_));
  }
  return masks;
}

bool SparseSearch::PrunesAnything() const {
  return std::any_of(start_.masks.begin(), start_.masks.end(),
                     [](const BitMask& mask) { return mask.CountPruned() > 0; });
}

std::vector<Matrix> SparseSearch::Candidate() const { return Apply(FullMasks(), values_); }

void SparseSearch::UpdateIncumbent() {
  std::vector<BitMask> masks = FullMasks();
  std::vector<Matrix> weights = Apply(masks, values_);
  const auto finite = [](const Matrix& matrix) { return AllFinite(matrix.flat()); };
  if (!std::all_of(weights.begin(), weights.end(), finite)) return;
  const double error = objectives_.ValidationError(Views(weights));
  if (!(error < best_error_)) return;  // not a number is no better
  best_ = {std::move(masks), std::move(weights)};
  best_error_ = error;
}

std::vector<PrunedMatrix> SparseSearch::Best() {
  const double best = objectives_.CalibrationError(Views(best_.weights));
  const double start = objectives_.CalibrationError(Views(start_.weights));
  const bool best_is_worse = start < best || !std::isfinite(best);
  const Solution& chosen = best_is_worse ? start_ : best_;
  std::vector<PrunedMatrix> matrices;
  for (size_t m = 0; m < weights_.size(); ++m) {
    matrices.push_back({.name = weights_[m].name,
                        .mask = chosen.masks[m],
                        .weights = chosen.weights[m].Clone(),
                        .soft_mask = Matrix()});
  }
  return matrices;
}

// Calls visit(key, matrix) for all that a state holds but the best masks.
template <typename Self, typename Visit>
void SparseSearch::ForEachStateMatrix(Self& self, Visit visit) {
  for (size_t m = 0; m < self.weights_.size(); ++m) {
    const NamedWeight& weight = self.weights_[m];
    if (self.plan_.freeze > 0) {
      visit(StateKey(weight.name, "score"), self.scores_[m]);
      visit(StateKey(weight.name, "score_m"), self.score_m_[m]);
    }
    if (self.plan_.weight_rate > 0) {
      visit(StateKey(weight.name, "value"), self.values_[m]);
      visit(StateKey(weight.name, "value_m"), self.value_m_[m]);
      visit(StateKey(weight.name, "value_v"), self.value_v_[m]);
    }
    visit(StateKey(weight.name, "best_weight"), self.best_.weights[m]);
  }
}

void SparseSearch::AppendState(std::string* out) const {
  SolverStateView state;
  state.fingerprint = fingerprint_;
  state.step = steps_taken_;
  state.numbers = {best_error_};
  state.numbers.insert(state.numbers.end(), score_v_.begin(), score_v_.end());
  ForEachStateMatrix(*this, [&state](const std::string& key, const Matrix& matrix) {
    state.matrices[key] = &matrix;
  });
  for (size_t m = 0; m < weights_.size(); ++m) {
    state.masks[StateKey(weights_[m].name, "best_mask")] = &best_.masks[m];
  }
  AppendSolverState(state, out);
}

absl::Status SparseSearch::Restore(const std::string& bytes) {
  ATTNPRUNE_ASSIGN_OR_RETURN(SolverState state, ParseState(bytes, fingerprint_, plan_.steps));
  bool complete = state.numbers.size() == 1 + score_v_.size();
  const auto take = [&state, &complete](const std::string& key, Matrix& into) {
    complete = complete && state.Take(key, into);
  };
  ForEachStateMatrix(*this, take);
  for (size_t m = 0; m < weights_.size(); ++m) {
    const BitMask& start = start_.masks[m];
    absl::StatusOr<BitMask> best = BitMask::FromBytes(
        start.rows(), start.cols(), state.masks[StateKey(weights_[m].name, "best_mask")]);
    complete = complete && best.ok() && best->CountPruned() == start.CountPruned();
    if (!complete) return Incomplete();
    best_.weights[m] = best->Apply(best_.weights[m]);
    best_.masks[m] = *std::move(best);
  }
  complete = complete && std::all_of(state.numbers.begin() + 1, state.numbers.end(),
                                     [](double v) { return std::isfinite(v) && v >= 0; });
  if (!complete) return Incomplete();
  steps_taken_ = state.step;
  best_error_ = state.numbers[0];
  std::copy(state.numbers.begin() + 1, state.numbers.end(), score_v_.begin());
  selection_ = kNoSelection;
  return absl::OkStatus();
}

}  // namespace attnprune
