#include "core/methods/kfac_run.h"

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>
#include <vector>

#include "core/base/status_macros.h"

namespace attnprune {
namespace {

// Rounds of both phases.
int RoundsAtMost(const KfacOptions& options) {
  return 1 + options.rounds * (options.validation > 0 ? 2 : 1);
}

// What a step reports and when the run ends.
class KfacLoop {
 public:
  KfacLoop(const KfacOptions& options, int evaluate_every, KfacObjective& objective,
           KfacSearch& search, ProgressObserver& observer)
      : steps_(KfacStepsAtMost(options)),
        evaluate_every_(evaluate_every),
        objective_(objective),
        search_(search),
        observer_(observer) {}

  absl::StatusOr<TerminationReason> Run() {
    while (!search_.ended()) {
      StepStats stats;
      stats.attention_loss = search_.loss();
      stats.soft_relative_error = 2 * search_.loss() / search_.dense_norm_squared();
      stats.gradient_norm = search_.gradient_norm();
      ATTNPRUNE_RETURN_IF_ERROR(search_.Step());
      stats.step = search_.steps_taken();
      stats.steps = steps_;
      if (evaluate_every_ > 0 && (search_.ended() || stats.step % evaluate_every_ == 0)) {
        const std::vector<Matrix> weights = search_.Weights();
        ATTNPRUNE_RETURN_IF_ERROR(objective_.Report(Views(weights), stats));
      }
      stats.seconds =
          std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
      if (observer_.OnStep(stats, search_) == Verdict::kStop && !search_.ended()) {
        return TerminationReason::kStopped;
      }
    }
    return TerminationReason::kCompleted;
  }

 private:
  const int steps_, evaluate_every_;
  KfacObjective& objective_;
  KfacSearch& search_;
  ProgressObserver& observer_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// Heads that have a metric of their own: kv heads too.
double MetricHeads(const ProblemShape& shape) {
  if (shape.fused()) return 2;  // its two factors, or inputs and outputs of W itself
  return static_cast<double>(shape.outputs()) / static_cast<double>(shape.head_dim());
}

// Floats of the weights' size at the peak, which is a checkpoint; with rounds, in which results are
// compared; more of them with a rival. For each head the curvature in doubles and a metric of two d
// x d floats; LAPACK's room of d x d doubles for threads that find eigenvectors at once. Of both
// phases' batches: copies, queries and keys, an attention matrix.
constexpr double kOneShotFloats = 6, kStateFloats = 12, kRivalFloats = 7;
constexpr double kMetricFloats = 2, kEigenDoubles = 4;

}  // namespace

int KfacStepsAtMost(const KfacOptions& options) {
  return static_cast<int>(
      std::min<int64_t>(int64_t{RoundsAtMost(options)} * options.steps + options.rival_rounds,
                        std::numeric_limits<int>::max()));
}

absl::StatusOr<TerminationReason> RunKfac(const KfacOptions& options, int evaluate_every,
                                          KfacObjective& objective, KfacSearch& search,
                                          ProgressObserver& observer) {
  return KfacLoop(options, evaluate_every, objective, search, observer).Run();
}

double KfacBytes(const ProblemShape& shape, const KfacOptions& options, DenseAttention dense,
                 int threads) {
  const DataSize data = CalibrationSize(shape);
  const auto d = static_cast<double>(shape.features());
  const double heads = MetricHeads(shape);
  const double attention = data.longest * data.longest * (shape.has_softcap() ? 2 : 1);
  const double rows = data.longest * (2 * static_cast<double>(shape.outputs()) + d);
  const double copies = dense == DenseAttention::kRecompute ? 0 : data.tokens * d;
  const double state = (options.rounds > 0 ? kStateFloats : kOneShotFloats) +
                       (options.rival_rounds > 0 ? kRivalFloats : 0);
  return sizeof(float) * (state * Entries(shape) + kMetricFloats * heads * d * d +
                          2 * (attention + rows) + copies) +
         sizeof(double) * (heads + kEigenDoubles * std::min<double>(heads, threads)) * d * d;
}

double KfacOperations(const ProblemShape& shape, const KfacOptions& options, DenseAttention dense) {
  const DataSize data = CalibrationSize(shape);
  const auto d = static_cast<double>(shape.features());
  const auto width = static_cast<double>(shape.head_dim());
  const double heads = MetricHeads(shape);
  const double moments = 4 * data.allowed * static_cast<double>(shape.heads()) * width * width;
  const double metrics = heads * (2 * data.tokens * d * d + 9 * d * d * d);
  const double products = 2.0 * options.steps + options.refine_steps + 1;
  const double round = GradientOperations(shape, data, dense) + moments + metrics;
  return (RoundsAtMost(options) + options.rival_rounds) * round +
         RoundsAtMost(options) * 2 * products * Entries(shape) * (d + width);
}

}  // namespace attnprune
