#include <algorithm>
#include <chrono>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "core/base/status_macros.h"
#include "core/kernels/blas.h"
#include "core/methods/alps_inputs.h"
#include "core/methods/alps_search.h"
#include "core/methods/linear_map.h"
#include "core/methods/methods.h"
#include "core/methods/output_metric.h"

namespace attnprune {
namespace {

struct AlpsOptions {
  double damping;
  int steps, refine_steps, coupled_refine_steps;
  double metric_share;
  bool by_factors;
};

// Coupled through the outputs' metric, they come near more slowly.
int RefineSteps(const ParameterValues& values, bool coupled) {
  if (!std::isnan(values.Get("refine_steps"))) return values.GetInt("refine_steps");
  return coupled ? 20 : 10;
}

// The weights of the attention: the product of the factors, where those were pruned.
std::vector<Matrix> AttentionWeightsOf(const Problem& problem, std::vector<Matrix> pruned) {
  if (!problem.fused() || pruned.size() == 1) return pruned;
  Matrix product(pruned[0].rows(), pruned[1].rows());
  Gemm(Trans::kNo, Trans::kYes, 1.0f, pruned[0], pruned[1], 0.0f, product);
  std::vector<Matrix> weights;
  weights.push_back(std::move(product));
  return weights;
}

// What a step reports and when the run ends.
class AlpsLoop {
 public:
  // prepared: whose attention is evaluated; null where there is none.
  AlpsLoop(PreparedProblem* prepared, const AlpsOptions& options, int evaluate_every,
           AlpsSearch& search, ProgressObserver& observer)
      : prepared_(prepared),
        options_(options),
        evaluate_every_(prepared == nullptr ? 0 : evaluate_every),
        search_(search),
        observer_(observer) {}

  absl::StatusOr<TerminationReason> Run() {
    while (!Ended()) {
      const double loss = search_.Step();
      if (!search_.finite()) {
        return absl::FailedPreconditionError(
            "weights must stay finite in float32 while ALPS moves them; they are too large");
      }
      ATTNPRUNE_ASSIGN_OR_RETURN(const StepStats stats, Stats(loss));
      if (observer_.OnStep(stats, search_) == Verdict::kStop && !Ended()) {
        return TerminationReason::kStopped;
      }
    }
    return TerminationReason::kCompleted;
  }

 private:
  bool Ended() const { return search_.settled() || search_.steps_taken() >= options_.steps; }

  absl::StatusOr<StepStats> Stats(double loss) {
    StepStats stats;
    stats.step = search_.steps_taken();
    stats.steps = options_.steps;
    stats.attention_loss = loss;
    if (evaluate_every_ > 0 && (Ended() || stats.step % evaluate_every_ == 0)) {
      ATTNPRUNE_RETURN_IF_ERROR(Evaluate(stats));
    }
    stats.seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
    return stats;
  }

  // For reports only: nothing that it computes reaches the run.
  absl::Status Evaluate(StepStats& stats) {
    const std::vector<Matrix> weights = AttentionWeightsOf(prepared_->problem(), search_.Weights());
    ATTNPRUNE_ASSIGN_OR_RETURN(AttentionObjective* const calibration, prepared_->Calibration());
    stats.calibration_error = calibration->Error(Views(weights)).relative();
    if (prepared_->problem().held_out.count() == 0) return absl::OkStatus();
    ATTNPRUNE_ASSIGN_OR_RETURN(AttentionObjective* const held_out, prepared_->HeldOut());
    stats.held_out_error = held_out->Error(Views(weights)).relative();
    return absl::OkStatus();
  }

  PreparedProblem* const prepared_;
  const AlpsOptions& options_;
  const int evaluate_every_;
  AlpsSearch& search_;
  ProgressObserver& observer_;
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

class AlpsMethod final : public Method {
 public:
  explicit AlpsMethod(const ParameterValues& values)
      : options_{.damping = values.Get("damping"),
                 .steps = values.GetInt("steps"),
                 .refine_steps = RefineSteps(values, /*coupled=*/false),
                 .coupled_refine_steps = RefineSteps(values, /*coupled=*/true),
                 .metric_share = values.Get("metric_share"),
                 .by_factors = values.GetSwitch("factors")} {}

  absl::string_view name() const override { return "alps"; }

 private:
  absl::StatusOr<PruneResult> DoPrune(PreparedProblem& prepared, RunOptions& run,
                                      ProgressObserver& observer) const override {
    const Problem& problem = prepared.problem();
    ATTNPRUNE_ASSIGN_OR_RETURN(const AlpsInputs inputs,
                               PrepareAlps(*prepared.CalibrationGram(), options_.damping));
    AlpsSearch search(LinearMaps(problem, options_.by_factors), inputs, problem.sparsity,
                      prepared.pool(), prepared.Fingerprint(name(), Parameters()));
    AlpsLoop loop(&prepared, options_, run.evaluate_every, search, observer);
    return Finish(search, loop, options_.refine_steps, run);
  }

  absl::StatusOr<PruneResult> DoPruneLinear(const LinearProblem& problem, ThreadPool& pool,
                                            RunOptions& run,
                                            ProgressObserver& observer) const override {
    if (problem.curvature != nullptr) return PruneCoupled(problem, pool, run, observer);
    ATTNPRUNE_ASSIGN_OR_RETURN(const AlpsInputs* const inputs,
                               problem.inputs.Alps(options_.damping));
    AlpsSearch search(problem.maps, *inputs, problem.sparsity, pool,
                      Fingerprint(problem, name(), Parameters()));
    AlpsLoop loop(nullptr, options_, 0, search, observer);
    return Finish(search, loop, options_.refine_steps, run);
  }

  // The eigenvectors of both sides are found at the same time.
  absl::StatusOr<PruneResult> PruneCoupled(const LinearProblem& problem, ThreadPool& pool,
                                           RunOptions& run, ProgressObserver& observer) const {
    absl::StatusOr<const AlpsInputs*> inputs = nullptr;
    ATTNPRUNE_ASSIGN_OR_RETURN(const OutputMetric outputs,
                               PrepareMetric(*problem.curvature, options_.metric_share, pool, [&] {
                                 inputs = problem.inputs.Alps(options_.damping);
                               }));
    ATTNPRUNE_RETURN_IF_ERROR(inputs.status());
    AlpsSearch search(problem.maps, **inputs, problem.sparsity, pool,
                      Fingerprint(problem, name(), CoupledParameters()), &outputs);
    AlpsLoop loop(nullptr, options_, 0, search, observer);
    return Finish(search, loop, options_.coupled_refine_steps, run);
  }

  std::vector<double> Parameters() const {
    return {options_.damping, static_cast<double>(options_.steps),
            static_cast<double>(options_.refine_steps), options_.by_factors ? 1.0 : 0.0};
  }
  std::vector<double> CoupledParameters() const {
    return {options_.damping, static_cast<double>(options_.steps),
            static_cast<double>(options_.coupled_refine_steps), options_.metric_share};
  }

  absl::StatusOr<PruneResult> Finish(AlpsSearch& search, AlpsLoop& loop, int refine_steps,
                                     RunOptions& run) const {
    if (!run.resume_from.empty()) {
      const std::string state = std::exchange(run.resume_from, {});
      ATTNPRUNE_RETURN_IF_ERROR(search.Restore(state, options_.steps));
    }
    PruneResult result;
    ATTNPRUNE_ASSIGN_OR_RETURN(result.reason, loop.Run());
    result.steps = search.steps_taken();
    const bool stopped = result.reason == TerminationReason::kStopped;
    result.matrices = search.Result(stopped ? 0 : refine_steps);
    return result;
  }

  const AlpsOptions options_;
};

// Floats of the weights' size at the peak, which is a checkpoint; and of d x d. Doubles of d x d
// while the eigenvectors are found: the copy of X'X and LAPACK's room for two.
constexpr double kWeightFloats = 11, kSquareFloats = 2, kSquareDoubles = 3;
// With the outputs' metric a product's half too, and the block that B is mixed into.
constexpr double kCoupledFloats = kWeightFloats + 1, kBlockDoubles = kSquareDoubles + 1;

double AlpsBytes(const ProblemShape& shape, const ParameterValues&, DenseAttention, int) {
  const double d = static_cast<double>(shape.features());
  const double search = sizeof(float) * (kWeightFloats * Entries(shape) + kSquareFloats * d * d);
  return std::max(search,
                  (kSquareFloats * sizeof(float) + kSquareDoubles * sizeof(double)) * d * d);
}

double AlpsOperations(const ProblemShape& shape, const ParameterValues& values, DenseAttention) {
  const double d = static_cast<double>(shape.features());
  const double products = 2.0 * values.GetInt("steps") + RefineSteps(values, /*coupled=*/false) + 1;
  return 2 * CalibrationSize(shape).tokens * d * d + 9 * d * d * d +
         2 * products * Entries(shape) * d;
}

double CoupledBytes(absl::Span<const Index> blocks, Index inputs, const ParameterValues&,
                    int threads) {
  const double d = static_cast<double>(inputs);
  double outputs = 0, kept = kSquareFloats * sizeof(float) * d * d, most = 0;
  for (const Index block : blocks) {
    const double n = static_cast<double>(block);
    outputs += n;
    kept += kSquareFloats * sizeof(float) * n * n;
    most = std::max(most, n * n);
  }
  const double many = static_cast<double>(blocks.size()), workers = threads;
  const double beside = std::min(workers - 1, many), alone = std::min(workers, many);
  const double prepare = std::max(kSquareDoubles * d * d + beside * kBlockDoubles * most,
                                  alone * kBlockDoubles * most);
  return kept + std::max(kCoupledFloats * sizeof(float) * outputs * d, sizeof(double) * prepare);
}

// A step costs, of P weights in blocks of n outputs and d inputs, 4 P (d + n) in place of 4 P d.
double CoupledOperations(absl::Span<const Index> blocks, Index inputs,
                         const ParameterValues& values) {
  const double d = static_cast<double>(inputs);
  const double products = 2.0 * values.GetInt("steps") + RefineSteps(values, /*coupled=*/true) + 2;
  double operations = 9 * d * d * d;
  for (const Index block : blocks) {
    const double n = static_cast<double>(block);
    operations += 9 * n * n * n + 2 * products * n * d * (n + d);
  }
  return operations;
}

std::vector<Parameter> AlpsParameters() {
  using Kind = Parameter::Kind;
  return {
      {"damping", Kind::kReal, 0.01, 0, 10,
       "What keeps weights near the dense ones, as a fraction of the mean of X'X's diagonal"},
      {"steps", Kind::kInteger, 300, 1, 1e6,
       "Steps of ADMM at most; it ends when the support stands still"},
      {"refine_steps", Kind::kInteger, kAutomatic, 0, 1e6,
       "Steps of conjugate gradients on the weights that are kept. Default: 10, or 20 where the "
       "curvature of the outputs is known"},
      {"metric_share", Kind::kReal, 0.9, 0, 1,
       "Where the curvature of the outputs is known: its share of the metric in which their "
       "errors count; the rest counts all alike"},
      {"factors", Kind::kSwitch, 1, 0, 1,
       "1: prune W_Q and W_K apart where a fused problem has them; 0: prune the fused W itself "
       "as the map x -> x W. No effect on projections."}};
}

}  // namespace

const MethodInfo& AlpsInfo() {
  static const MethodInfo info = {
      .name = "alps",
      .summary =
          "Mask and weights of each linear map by ADMM, the kept weights by conjugate "
          "gradients (ALPS)",
      .parameters = AlpsParameters(),
      .uses_moments = true,
      .linear = true,
      .reads_curvature = true,
      .create = [](const ParameterValues& values) -> std::unique_ptr<Method> {
        return std::make_unique<AlpsMethod>(values);
      },
      .steps = [](const ParameterValues& values) { return values.GetInt("steps"); },
      .bytes = AlpsBytes,
      .operations = AlpsOperations,
      .coupled = CoupledCosts{.bytes = CoupledBytes, .operations = CoupledOperations}};
  return info;
}

}  // namespace attnprune
