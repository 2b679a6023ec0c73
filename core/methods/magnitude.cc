#include <memory>

#include "core/base/status_macros.h"
#include "core/methods/linear_map.h"
#include "core/methods/methods.h"

namespace attnprune {
namespace {

class MagnitudeMethod : public Method {
 public:
  explicit MagnitudeMethod(const ParameterValues& values)
      : by_factors_(values.GetSwitch("factors")) {}

  absl::string_view name() const override { return "magnitude"; }

 private:
  absl::StatusOr<PruneResult> DoPrune(PreparedProblem& prepared, RunOptions& options,
                                      ProgressObserver&) const override {
    ATTNPRUNE_RETURN_IF_ERROR(CheckNothingToResume(name(), options));
    const Problem& problem = prepared.problem();
    return PruneMaps(LinearMaps(problem, by_factors_), problem.sparsity, prepared.pool());
  }

  absl::StatusOr<PruneResult> DoPruneLinear(const LinearProblem& problem, ThreadPool& pool,
                                            RunOptions& options, ProgressObserver&) const override {
    ATTNPRUNE_RETURN_IF_ERROR(CheckNothingToResume(name(), options));
    return PruneMaps(problem.maps, problem.sparsity, pool);
  }

  static PruneResult PruneMaps(const std::vector<NamedWeight>& maps, const Sparsity& sparsity,
                               ThreadPool& pool) {
    PruneResult result;
    for (const NamedWeight& weight : maps) {
      result.matrices.push_back(MaskedMatrix(
          weight, Binarize(Magnitudes(weight.dense), weight.inputs_are_rows, sparsity, pool)));
    }
    return result;
  }

  const bool by_factors_;
};

}  // namespace

const MethodInfo& MagnitudeInfo() {
  static const MethodInfo info = {
      .name = "magnitude",
      .summary = "Removes the weights of smallest magnitude; looks at no data",
      .parameters = {{.name = "factors",
                      .kind = Parameter::Kind::kSwitch,
                      .default_value = 0,
                      .min = 0,
                      .max = 1,
                      .help = "1: prune W_Q and W_K apart where a fused problem has them; 0: prune "
                              "the fused W itself. No effect on projections."}},
      .linear = true,
      .create = [](const ParameterValues& values) -> std::unique_ptr<Method> {
        return std::make_unique<MagnitudeMethod>(values);
      },
      .bytes = LinearBytes,
      .operations = LinearOperations};
  return info;
}

}  // namespace attnprune
