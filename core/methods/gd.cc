#include <chrono>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"
#include "core/base/format.h"
#include "core/base/status_macros.h"
#include "core/methods/linear_map.h"
#include "core/methods/mask_descent.h"
#include "core/methods/methods.h"
#include "core/objective/attention_objective.h"

namespace attnprune {
namespace {

constexpr double kMinEta = 1e-12, kMaxEta = 1e12;
// Matrices of the weights' size at the peak, which is a checkpoint: measured with W of 2048 x 2048.
constexpr double kGdMatrices = 13;

// The method's parameters with every default filled in for one problem.
struct GdOptions {
  double lambda, eta, momentum, gradient_tolerance, loss_tolerance;
  int steps;
  bool project;
};

class GdMethod final : public Method {
 public:
  explicit GdMethod(const ParameterValues& values)
      : options_{.lambda = values.Get("lambda"),
                 .eta = values.Get("eta"),
                 .momentum = values.Get("momentum"),
                 .gradient_tolerance = values.Get("gradient_tolerance"),
                 .loss_tolerance = values.Get("loss_tolerance"),
                 .steps = values.GetInt("steps"),
                 .project = values.GetSwitch("project")} {}

  absl::string_view name() const override { return "gd"; }

 private:
  absl::StatusOr<PruneResult> DoPrune(PreparedProblem& prepared, RunOptions& run,
                                      ProgressObserver& observer) const override;

  const GdOptions options_;
};

// Section 6.1 for the fused problem (lambda = 0.04 n, eta = 0.1 / lambda), Section 7 for
// projections (0.05 and 0.005).
absl::StatusOr<GdOptions> FillDefaults(GdOptions options, const Problem& problem) {
  if (std::isnan(options.lambda)) {
    options.lambda =
        problem.fused() ? 0.04 * static_cast<double>(problem.calibration.longest()) : 0.05;
  }
  if (!std::isnan(options.eta)) return options;
  if (problem.fused() && options.lambda == 0) {
    return FieldError("gd.eta", "must be given when gd.lambda is 0: its default is 0.1 / lambda");
  }
  options.eta = problem.fused() ? 0.1 / options.lambda : 0.005;
  if (options.eta > kMaxEta) {
    return FieldError("gd.lambda",
                      absl::StrCat("must be at least ", FormatNumber(0.1 / kMaxEta),
                                   " when gd.eta is left out, got ", FormatNumber(options.lambda)));
  }
  return options;
}

uint64_t RunFingerprint(PreparedProblem& prepared, const GdOptions& options) {
  const double parameters[] = {options.lambda,
                               options.eta,
                               options.momentum,
                               options.gradient_tolerance,
                               options.loss_tolerance,
                               static_cast<double>(options.steps),
                               options.project ? 1.0 : 0.0};
  return prepared.Fingerprint("gd", parameters);
}

HeavyBall StepOf(const GdOptions& options, const Problem& problem) {
  return {.inverse_batches = 1.0f / static_cast<float>(problem.calibration.count()),
          .momentum = static_cast<float>(options.momentum),
          .eta = static_cast<float>(options.eta),
          .project = options.project};
}

// Whether the run has converged at `losses`; the mask that they belong to is then the result.
absl::optional<TerminationReason> Converged(const GdOptions& options, double previous_loss,
                                            const MaskDescent::Losses& losses) {
  if (options.gradient_tolerance > 0 && losses.gradient_norm <= options.gradient_tolerance) {
    return TerminationReason::kGradientTolerance;
  }
  const double change = std::abs(losses.total() - previous_loss);  // NaN at the first step
  if (options.loss_tolerance > 0 && change <= options.loss_tolerance * std::abs(previous_loss)) {
    return TerminationReason::kLossTolerance;
  }
  return absl::nullopt;
}

std::vector<BitMask> BinaryMasks(const MaskDescent& descent, const Sparsity& sparsity,
                                 ThreadPool& pool) {
  std::vector<BitMask> masks;
  for (size_t i = 0; i < descent.masks().size(); ++i) {
    masks.push_back(
        Binarize(descent.masks()[i], descent.weights()[i].inputs_are_rows, sparsity, pool));
  }
  return masks;
}

PruneResult MakeResult(const MaskDescent& descent, const Sparsity& sparsity,
                       TerminationReason reason, double lambda, ThreadPool& pool) {
  PruneResult result;
  result.reason = reason;
  result.steps = descent.steps_taken();
  result.lambda = lambda;
  std::vector<BitMask> masks = BinaryMasks(descent, sparsity, pool);
  for (size_t i = 0; i < masks.size(); ++i) {
    PrunedMatrix matrix = MaskedMatrix(descent.weights()[i], std::move(masks[i]));
    matrix.soft_mask = descent.masks()[i].Clone();
    result.matrices.push_back(std::move(matrix));
  }
  return result;
}

// Algorithm 1's loop: what a step reports and when it ends.
class GdLoop {
 public:
  GdLoop(PreparedProblem& prepared, const GdOptions& options, int evaluate_every,
         const AttentionObjective& objective, MaskDescent& descent, ProgressObserver& observer)
      : prepared_(prepared),
        options_(options),
        evaluate_every_(evaluate_every),
        objective_(objective),
        descent_(descent),
        observer_(observer) {}

  absl::StatusOr<TerminationReason> Run() {
    while (descent_.steps_taken() < options_.steps) {
      const MaskDescent::Losses losses = descent_.Evaluate();
      if (!losses.finite) return BackToFinite();
      const auto converged = Converged(options_, descent_.previous_loss(), losses);
      if (!converged.has_value()) descent_.Step(losses.total());
      ATTNPRUNE_ASSIGN_OR_RETURN(const StepStats stats, Stats(losses, converged.has_value()));
      const Verdict verdict = observer_.OnStep(stats, descent_);
      if (converged.has_value()) return *converged;
      if (verdict == Verdict::kStop && stats.step < options_.steps) {
        return TerminationReason::kStopped;
      }
    }
    return descent_.MasksAreFinite() ? TerminationReason::kCompleted : BackToFinite();
  }

 private:
  TerminationReason BackToFinite() {
    descent_.StepBack();
    return TerminationReason::kNumericalError;
  }

  absl::StatusOr<StepStats> Stats(const MaskDescent::Losses& losses, bool converged) {
    StepStats stats;
    stats.step = descent_.steps_taken() + (converged ? 1 : 0);
    stats.steps = options_.steps;
    stats.attention_loss = losses.attention;
    stats.regularization = losses.regularization;
    stats.soft_relative_error = 2 * losses.attention / objective_.dense_norm_squared();
    stats.gradient_norm = losses.gradient_norm;
    const bool last = converged || stats.step == options_.steps;
    if (evaluate_every_ > 0 && (last || stats.step % evaluate_every_ == 0) &&
        descent_.MasksAreFinite()) {
      ATTNPRUNE_RETURN_IF_ERROR(EvaluateBinaryMasks(stats));
    }
    stats.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    return stats;
  }

  // Fills in stats.calibration_error and, if there are held-out batches, stats.held_out_error: for
  // reports only, nothing that it computes reaches the run.
  absl::Status EvaluateBinaryMasks(StepStats& stats) {
    const Problem& problem = prepared_.problem();
    const std::vector<NamedWeight>& weights = descent_.weights();
    const auto masks = BinaryMasks(descent_, problem.sparsity, prepared_.pool());
    if (pruned_.empty()) pruned_ = LikeEach(weights, 0.0f);
    for (size_t i = 0; i < weights.size(); ++i) masks[i].ApplyInto(weights[i].dense, pruned_[i]);
    ATTNPRUNE_ASSIGN_OR_RETURN(AttentionObjective* const calibration, prepared_.Calibration());
    stats.calibration_error = calibration->Error(Views(pruned_)).relative();
    if (problem.held_out.count() == 0) return absl::OkStatus();
    ATTNPRUNE_ASSIGN_OR_RETURN(AttentionObjective* const held_out, prepared_.HeldOut());
    stats.held_out_error = held_out->Error(Views(pruned_)).relative();
    return absl::OkStatus();
  }

  PreparedProblem& prepared_;
  const GdOptions& options_;
  const int evaluate_every_;
  const AttentionObjective& objective_;
  MaskDescent& descent_;
  ProgressObserver& observer_;
  std::vector<Matrix> pruned_;  // kept between two reports: fresh memory costs page faults
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

absl::StatusOr<PruneResult> GdMethod::DoPrune(PreparedProblem& prepared, RunOptions& run,
                                              ProgressObserver& observer) const {
  const Problem& problem = prepared.problem();
  ATTNPRUNE_ASSIGN_OR_RETURN(const GdOptions options, FillDefaults(options_, problem));
  ATTNPRUNE_ASSIGN_OR_RETURN(AttentionObjective* const objective, prepared.Calibration());
  MaskDescent descent(AttentionWeights(problem), *objective, prepared.pool(),
                      StepOf(options, problem), options.lambda, RunFingerprint(prepared, options));
  if (!run.resume_from.empty()) {
    const std::string state = std::exchange(run.resume_from, {});
    ATTNPRUNE_RETURN_IF_ERROR(descent.Restore(state, options.steps));
  }
  GdLoop loop(prepared, options, run.evaluate_every, *objective, descent, observer);
  ATTNPRUNE_ASSIGN_OR_RETURN(const TerminationReason reason, loop.Run());
  return MakeResult(descent, problem.sparsity, reason, options.lambda, prepared.pool());
}

std::vector<Parameter> GdParameters() {
  using Kind = Parameter::Kind;
  return {
      {"lambda", Kind::kReal, kAutomatic, 0, 1e12,
       "Weight of 1/2 ||M||^2. Default: 0.04 n for the fused problem, n the longest calibration "
       "batch in tokens (Section 6.1); 0.05 for projections (Section 7)."},
      {"eta", Kind::kReal, kAutomatic, kMinEta, kMaxEta,
       "Step length. Default: 0.1 / lambda for the fused problem, 0.005 for projections."},
      {"steps", Kind::kInteger, 100, 1, 1e6, "Steps at most (T)."},
      {"momentum", Kind::kReal, 0.9, 0, 0.9999, "Heavy-ball momentum."},
      {"project", Kind::kSwitch, 0, 0, 1, "1: clamp the mask to [0, 1] after each step."},
      {"gradient_tolerance", Kind::kReal, 0, 0, 1e12,
       "Stop when the Frobenius norm of the gradient over k is at most this; 0: never."},
      {"loss_tolerance", Kind::kReal, 0, 0, 1,
       "Stop when the loss changes by at most this fraction in one step; 0: never."},
  };
}

}  // namespace

const MethodInfo& GdInfo() {
  static const MethodInfo info = {
      .name = "gd",
      .summary = "Gradient descent on a real-valued mask under the attention loss (Algorithm 1)",
      .parameters = GdParameters(),
      .create = [](const ParameterValues& values) -> std::unique_ptr<Method> {
        return std::make_unique<GdMethod>(values);
      },
      .steps = [](const ParameterValues& values) { return values.GetInt("steps"); },
      .bytes = [](const ProblemShape& shape, const ParameterValues&, DenseAttention,
                  int) { return kGdMatrices * sizeof(float) * Entries(shape); },
      .operations =
          [](const ProblemShape& shape, const ParameterValues& values, DenseAttention dense) {
            return values.GetInt("steps") *
                   GradientOperations(shape, CalibrationSize(shape), dense);
          }};
  return info;
}

}  // namespace attnprune
