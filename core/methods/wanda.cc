#include "core/methods/wanda.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "core/base/status_macros.h"
#include "core/kernels/gram.h"
#include "core/kernels/select.h"
#include "core/methods/linear_map.h"
#include "core/methods/methods.h"

namespace attnprune {
namespace {

std::vector<double> RelativeToLargest(absl::Span<const double> norms) {
  std::vector<double> result(norms.begin(), norms.end());
  const double largest = norms.empty() ? 0 : *std::max_element(norms.begin(), norms.end());
  if (largest == 0) return result;
  for (double& norm : result) norm /= largest;
  return result;
}

// |W_ij| scale col_scales[j] of one row, rounded to float32 once.
void ScoreRow(const float* w, double scale, absl::Span<const double> col_scales,
              absl::Span<float> scores) {
  for (size_t j = 0; j < scores.size(); ++j) {
    const double magnitude = std::abs(static_cast<double>(w[j]));
    scores[j] = static_cast<float>(magnitude * scale * col_scales[j]);
  }
}

BitMask OneSidedAsStored(const NamedWeight& weight, absl::Span<const double> norms,
                         const Sparsity& sparsity, ThreadPool& pool) {
  if (!weight.inputs_are_rows) return WandaMask(weight.dense, norms, sparsity, pool);
  const Matrix w = OutIn(weight);
  return AsStored(weight, WandaMask(w, norms, sparsity, pool));
}

// The fused weight alone meets the tokens on both sides.
bool IsFused(const NamedWeight& weight) { return absl::string_view(weight.name) == "w"; }

class WandaMethod : public Method {
 public:
  explicit WandaMethod(const ParameterValues& values) : by_factors_(values.GetSwitch("factors")) {}

  absl::string_view name() const override { return "wanda"; }

  Index PrunedCount(const NamedWeight& weight, const Sparsity& sparsity) const override {
    if (IsFused(weight)) return sparsity.PrunedOf(weight.dense.size());
    return Outputs(weight) * sparsity.PrunedOf(Inputs(weight));
  }

 private:
  absl::StatusOr<PruneResult> DoPrune(PreparedProblem& prepared, RunOptions& options,
                                      ProgressObserver&) const override {
    ATTNPRUNE_RETURN_IF_ERROR(CheckNothingToResume(name(), options));
    const Problem& problem = prepared.problem();
    ThreadPool& pool = prepared.pool();
    const std::vector<double> norms = ColumnNorms(problem.calibration.all(), pool);
    PruneResult result;
    for (const NamedWeight& weight : LinearMaps(problem, by_factors_)) {
      BitMask mask = IsFused(weight)
                         ? TwoSidedWandaMask(weight.dense, norms, problem.sparsity, pool)
                         : OneSidedAsStored(weight, norms, problem.sparsity, pool);
      result.matrices.push_back(MaskedMatrix(weight, std::move(mask)));
    }
    return result;
  }

  absl::StatusOr<PruneResult> DoPruneLinear(const LinearProblem& problem, ThreadPool& pool,
                                            RunOptions& options, ProgressObserver&) const override {
    ATTNPRUNE_RETURN_IF_ERROR(CheckNothingToResume(name(), options));
    std::vector<double> norms;
    const GramMatrix& moments = problem.inputs.moments();
    for (Index j = 0; j < moments.size(); ++j) {
      norms.push_back(std::sqrt(moments(j, j)));
    }
    PruneResult result;
    for (const NamedWeight& weight : problem.maps) {
      result.matrices.push_back(
          MaskedMatrix(weight, OneSidedAsStored(weight, norms, problem.sparsity, pool)));
    }
    return result;
  }

  const bool by_factors_;
};

}  // namespace

BitMask WandaMask(MatrixView w, absl::Span<const double> norms, const Sparsity& sparsity,
                  ThreadPool& pool) {
  const std::vector<double> scales = RelativeToLargest(norms);
  const auto score_row = [&](Index row, absl::Span<float> scores) {
    ScoreRow(w.row(row), 1.0, scales, scores);
  };
  const Index group = sparsity.structured() ? sparsity.group : w.cols();
  return PruneSmallestPerGroup(w.rows(), w.cols(), score_row, sparsity.PrunedOf(group), group,
                               pool);
}

BitMask TwoSidedWandaMask(MatrixView w, absl::Span<const double> norms, const Sparsity& sparsity,
                          ThreadPool& pool) {
  const std::vector<double> scales = RelativeToLargest(norms);
  Matrix scores(w.rows(), w.cols());
  for (Index i = 0; i < w.rows(); ++i) {
    ScoreRow(
        w.row(i), scales[static_cast<size_t>(i)], scales,
        scores.flat().subspan(static_cast<size_t>(i * w.cols()), static_cast<size_t>(w.cols())));
  }
  return Binarize(scores, /*inputs_are_rows=*/true, sparsity, pool);
}

const MethodInfo& WandaInfo() {
  static const MethodInfo info = {
      .name = "wanda",
      .summary = "Removes the weights of smallest magnitude times input norm",
      .parameters = {{.name = "factors",
                      .kind = Parameter::Kind::kSwitch,
                      .default_value = 1,
                      .min = 0,
                      .max = 1,
                      .help = "1: prune W_Q and W_K apart where a fused problem has them, as the "
                              "paper does; 0: prune the fused W itself, by norms on both sides. No "
                              "effect on projections."}},
      .linear = true,
      .create = [](const ParameterValues& values) -> std::unique_ptr<Method> {
        return std::make_unique<WandaMethod>(values);
      },
      .bytes = LinearBytes,
      .operations = LinearOperations};
  return info;
}

}  // namespace attnprune
