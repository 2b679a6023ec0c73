#include <algorithm>
#include <chrono>
#include <cstdint>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "core/base/status_macros.h"
#include "core/methods/kfac_objective.h"
#include "core/methods/kfac_search.h"
#include "core/methods/methods.h"
#include "core/methods/search_method.h"
#include "core/objective/attention_objective.h"

namespace attnprune {
namespace {

// Rounds of both phases.
int RoundsAtMost(const KfacOptions& options) {
  return 1 + options.rounds * (options.validation > 0 ? 2 : 1);
}

int StepsAtMost(const KfacOptions& options) {
  return static_cast<int>(std::min<int64_t>(int64_t{RoundsAtMost(options)} * options.steps,
                                            std::numeric_limits<int>::max()));
}

// What a step reports and when the run ends.
class KfacLoop {
 public:
  KfacLoop(const KfacOptions& options, int evaluate_every, KfacObjective& objective,
           KfacSearch& search, ProgressObserver& observer)
      : steps_(StepsAtMost(options)),
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

class KfacMethod final : public Method {
 public:
  explicit KfacMethod(const KfacOptions& options) : options_(options) {}

  absl::string_view name() const override { return "kfac"; }

 private:
  absl::StatusOr<PruneResult> DoPrune(PreparedProblem& prepared, RunOptions& run,
                                      ProgressObserver& observer) const override {
    ATTNPRUNE_ASSIGN_OR_RETURN(
        const std::unique_ptr<KfacObjective> objective,
        KfacObjective::Create(prepared, options_.by_factors, options_.validation));
    const double parameters[] = {options_.damping,
                                 options_.validation,
                                 options_.mu,
                                 static_cast<double>(options_.rounds),
                                 static_cast<double>(options_.steps),
                                 static_cast<double>(options_.refine_steps),
                                 options_.by_factors ? 1.0 : 0.0};
    KfacSearch search(options_, *objective, prepared.problem().sparsity, prepared.pool(),
                      prepared.Fingerprint(name(), parameters));
    if (!run.resume_from.empty()) {
      const std::string state = std::exchange(run.resume_from, {});
      ATTNPRUNE_RETURN_IF_ERROR(search.Restore(state, StepsAtMost(options_)));
    }
    KfacLoop loop(options_, run.evaluate_every, *objective, search, observer);
    PruneResult result;
    ATTNPRUNE_ASSIGN_OR_RETURN(result.reason, loop.Run());
    result.steps = search.steps_taken();
    result.matrices = search.Best();
    return result;
  }

  const KfacOptions options_;
};

KfacOptions OptionsOf(const ParameterValues& values) {
  return {.damping = values.Get("damping"),
          .validation = values.Get("validation"),
          .mu = values.Get("mu"),
          .rounds = values.GetInt("rounds"),
          .steps = values.GetInt("steps"),
          .refine_steps = values.GetInt("refine_steps"),
          .by_factors = values.GetSwitch("factors")};
}

// Heads that have a metric of their own: kv heads too.
double MetricHeads(const ProblemShape& shape) {
  if (shape.fused()) return 2;  // its two factors, or inputs and outputs of W itself
  return static_cast<double>(shape.outputs()) / static_cast<double>(shape.head_dim());
}

// Floats of the weights' size at the peak, which is a checkpoint. For each head the curvature in
// doubles and a metric of two d x d floats; LAPACK's room of d x d doubles for threads that find
// eigenvectors at once. Of both phases' batches: copies, queries and keys, an attention matrix.
constexpr double kStateFloats = 18, kMetricFloats = 2, kEigenDoubles = 4, kEigenThreads = 4;

double KfacBytes(const ProblemShape& shape, const ParameterValues&, DenseAttention dense) {
  const DataSize data = CalibrationSize(shape);
  const auto d = static_cast<double>(shape.features());
  const double heads = MetricHeads(shape);
  const double attention = data.longest * data.longest * (shape.has_softcap() ? 2 : 1);
  const double rows = data.longest * (2 * static_cast<double>(shape.outputs()) + d);
  const double copies = dense == DenseAttention::kRecompute ? 0 : data.tokens * d;
  return sizeof(float) * (kStateFloats * Entries(shape) + kMetricFloats * heads * d * d +
                          2 * (attention + rows) + copies) +
         sizeof(double) * (heads + kEigenDoubles * std::min(heads, kEigenThreads)) * d * d;
}

double KfacOperations(const ProblemShape& shape, const ParameterValues& values,
                      DenseAttention dense) {
  const DataSize data = CalibrationSize(shape);
  const auto d = static_cast<double>(shape.features());
  const auto width = static_cast<double>(shape.head_dim());
  const double heads = MetricHeads(shape);
  const double moments = 4 * data.allowed * static_cast<double>(shape.heads()) * width * width;
  const double metrics = heads * (2 * data.tokens * d * d + 9 * d * d * d);
  const double products = 2.0 * values.GetInt("steps") + values.GetInt("refine_steps") + 1;
  return RoundsAtMost(OptionsOf(values)) * (GradientOperations(shape, data, dense) + moments +
                                            metrics + 2 * products * Entries(shape) * (d + width));
}

std::vector<Parameter> KfacParameters() {
  using Kind = Parameter::Kind;
  return {
      {"rounds", Kind::kInteger, 40, 0, 1e4,
       "Rounds after the first that learn from the batches which do not decide, at most; as many "
       "as "
       "were of use are then done on all batches. 0: the one-shot answer."},
      {"damping", Kind::kReal, 0.01, 0, 10,
       "Added to the diagonal of each factor of the curvature, as a fraction of its mean."},
      {"mu", Kind::kReal, 3, 1e-9, 1e9,
       "Added to each factor, in the scale where its diagonal is 1, in the first round after the "
       "one-shot answer; times 0.4 after a round that helps, times 4 after one that does not."},
      ValidationParameter("validation"),
      {"steps", Kind::kInteger, 100, 1, 1e6,
       "Steps of ADMM in a round, at most; it ends when the support stands still."},
      {"refine_steps", Kind::kInteger, 20, 0, 1e6,
       "Steps of conjugate gradients on the weights that a round keeps."},
      FactorsParameter()};
}

}  // namespace

const MethodInfo& KfacInfo() {
  static const MethodInfo info = {
      .name = "kfac",
      .summary =
          "Mask and weights by ADMM in the attention loss's own metric (K-FAC), in rounds that "
          "linearise it again",
      .parameters = KfacParameters(),
      .create = [](const ParameterValues& values) -> std::unique_ptr<Method> {
        return std::make_unique<KfacMethod>(OptionsOf(values));
      },
      .steps = [](const ParameterValues& values) { return StepsAtMost(OptionsOf(values)); },
      .bytes = KfacBytes,
      .operations = KfacOperations};
  return info;
}

}  // namespace attnprune
