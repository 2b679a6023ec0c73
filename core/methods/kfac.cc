#include <memory>
#include <utility>
#include <vector>

#include "core/base/status_macros.h"
#include "core/methods/kfac_objective.h"
#include "core/methods/kfac_run.h"
#include "core/methods/kfac_search.h"
#include "core/methods/methods.h"
#include "core/methods/search_method.h"
#include "core/problem/problem_shape.h"

namespace attnprune {
namespace {

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
      ATTNPRUNE_RETURN_IF_ERROR(search.Restore(state, KfacStepsAtMost(options_)));
    }
    PruneResult result;
    ATTNPRUNE_ASSIGN_OR_RETURN(result.reason,
                               RunKfac(options_, run.evaluate_every, *objective, search, observer));
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
      .steps = [](const ParameterValues& values) { return KfacStepsAtMost(OptionsOf(values)); },
      .bytes = [](const ProblemShape& shape, const ParameterValues& values, DenseAttention dense,
                  int threads) { return KfacBytes(shape, OptionsOf(values), dense, threads); },
      .operations =
          [](const ProblemShape& shape, const ParameterValues& values, DenseAttention dense) {
            return KfacOperations(shape, OptionsOf(values), dense);
          }};
  return info;
}

}  // namespace attnprune
