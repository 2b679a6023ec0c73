#include "core/methods/magnitude.h"

#include <cmath>
#include <memory>
#include <utility>

#include "core/base/status_macros.h"
#include "core/kernels/select.h"
#include "core/methods/linear_map.h"

namespace attnprune {
namespace {

Matrix Magnitudes(MatrixView w) {
  Matrix result(w.rows(), w.cols());
  for (Index i = 0; i < w.rows(); ++i) {
    for (Index j = 0; j < w.cols(); ++j) result(i, j) = std::abs(w(i, j));
  }
  return result;
}

// Ties go by the matrix as stored, hence no transposing where groups do not ask for it.
BitMask MaskAsStored(const NamedWeight& weight, const Sparsity& sparsity) {
  if (!sparsity.structured()) return MagnitudeMask(weight.dense, sparsity);
  const Matrix w = OutIn(weight);
  return AsStored(weight, MagnitudeMask(w, sparsity));
}

class MagnitudeMethod : public Method {
 public:
  explicit MagnitudeMethod(const ParameterValues& values)
      : by_factors_(values.GetSwitch("factors")) {}

  absl::string_view name() const override { return "magnitude"; }

 private:
  absl::StatusOr<PruneResult> DoPrune(const Problem& problem, const RunOptions& options,
                                      ThreadPool&, ProgressObserver&) const override {
    ATTNPRUNE_RETURN_IF_ERROR(CheckNothingToResume(name(), options));
    PruneResult result;
    for (const NamedWeight& weight : LinearMaps(problem, by_factors_)) {
      result.matrices.push_back(MaskedMatrix(weight, MaskAsStored(weight, problem.sparsity)));
    }
    return result;
  }

  const bool by_factors_;
};

}  // namespace

BitMask MagnitudeMask(MatrixView w, const Sparsity& sparsity) {
  const Matrix scores = Magnitudes(w);
  if (sparsity.structured()) return PruneSmallestPerGroup(scores, sparsity.pruned, sparsity.group);
  return PruneSmallest(scores, sparsity.PrunedOf(w.size()));
}

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
      .create = [](const ParameterValues& values) -> std::unique_ptr<Method> {
        return std::make_unique<MagnitudeMethod>(values);
      }};
  return info;
}

}  // namespace attnprune
