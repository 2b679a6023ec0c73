#include "core/judge/pruned_weights.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/kernels/blas.h"
#include "core/methods/linear_map.h"
#include "core/tensor/eigen.h"

namespace attnprune {
namespace {

bool PrunesFactors(const Problem& problem, const PruneResult& result) {
  return problem.fused() && result.matrices.size() == 2;
}

absl::Status Refuse(const PrunedMatrix& matrix, absl::string_view rule) {
  return absl::InvalidArgumentError(absl::StrCat("result ", matrix.name, " must ", rule));
}

absl::Status CheckMatrix(const PrunedMatrix& matrix) {
  const Matrix& weights = matrix.weights;
  if (matrix.mask.rows() != weights.rows() || matrix.mask.cols() != weights.cols()) {
    return Refuse(matrix, absl::StrCat("have a mask of ", weights.rows(), " x ", weights.cols(),
                                       ", got ", matrix.mask.rows(), " x ", matrix.mask.cols()));
  }
  if (!matrix.soft_mask.empty() && !SameShape(matrix.soft_mask, weights)) {
    return Refuse(matrix, "have a soft mask of the weights' shape or none");
  }
  for (Index i = 0; i < weights.size(); ++i) {
    const float value = weights.flat()[static_cast<size_t>(i)];
    if (!std::isfinite(value)) {
      return Refuse(matrix, absl::StrCat("be finite, got ", value, " at flat index ", i));
    }
    if (value != 0.0f && !matrix.mask.kept(i)) {
      return Refuse(matrix,
                    absl::StrCat("be 0 where its mask prunes, got ", value, " at flat index ", i));
    }
  }
  return absl::OkStatus();
}

Matrix FusedWeight(MatrixView w_q, MatrixView w_k) {
  Matrix product(w_q.rows(), w_q.rows());
  Gemm(Trans::kNo, Trans::kYes, 1.0f, w_q, w_k, 0.0f, product);
  return product;
}

bool KeptWeightsMoved(const PrunedMatrix& matrix, MatrixView dense) {
  for (Index i = 0, at = 0; i < dense.rows(); ++i) {
    for (Index j = 0; j < dense.cols(); ++j, ++at) {
      if (matrix.mask.kept(at) && matrix.weights(i, j) != dense(i, j)) return true;
    }
  }
  return false;
}

}  // namespace

absl::StatusOr<std::vector<NamedWeight>> DenseMatrices(const Problem& problem,
                                                       const PruneResult& result) {
  std::vector<NamedWeight> dense = PrunedMaps(problem, result);
  const auto fits = [](const NamedWeight& weight, const PrunedMatrix& pruned) {
    return pruned.name == weight.name && pruned.weights.rows() == weight.dense.rows() &&
           pruned.weights.cols() == weight.dense.cols();
  };
  if (!std::equal(dense.begin(), dense.end(), result.matrices.begin(), result.matrices.end(),
                  fits)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "result must hold the ", dense.size(), " matrices of the problem by name and shape, got ",
        result.matrices.size(), result.matrices.empty() ? "" : ", the first named ",
        result.matrices.empty() ? "" : result.matrices[0].name));
  }
  for (const PrunedMatrix& matrix : result.matrices) {
    ATTNPRUNE_RETURN_IF_ERROR(CheckMatrix(matrix));
    if (!matrix.soft_mask.empty() && PrunesFactors(problem, result)) {
      return Refuse(matrix, "have no soft mask, being a factor");
    }
  }
  return dense;
}

Matrix ProductOfFactors(const Problem& problem, const PruneResult& result) {
  if (!PrunesFactors(problem, result)) return Matrix();
  return FusedWeight(result.matrices[0].weights, result.matrices[1].weights);
}

std::vector<MatrixView> PrunedAttentionWeights(const PruneResult& result, const Matrix& product) {
  if (!product.empty()) return {product};
  std::vector<MatrixView> weights;
  for (const PrunedMatrix& matrix : result.matrices) weights.emplace_back(matrix.weights);
  return weights;
}

std::vector<Matrix> MaskedAttentionWeights(const Problem& problem, const PruneResult& result) {
  const std::vector<NamedWeight> dense = PrunedMaps(problem, result);
  bool moved = false;
  for (size_t i = 0; i < dense.size(); ++i) {
    moved = moved || KeptWeightsMoved(result.matrices[i], dense[i].dense);
  }
  std::vector<Matrix> weights;
  if (!moved) return weights;
  for (size_t i = 0; i < dense.size(); ++i) {
    weights.push_back(result.matrices[i].mask.Apply(dense[i].dense));
  }
  if (!PrunesFactors(problem, result)) return weights;
  Matrix product = FusedWeight(weights[0], weights[1]);
  weights.clear();
  weights.push_back(std::move(product));
  return weights;
}

std::vector<Matrix> SoftAttentionWeights(const Problem& problem, const PruneResult& result) {
  const std::vector<NamedWeight> dense = AttentionWeights(problem);
  std::vector<Matrix> weights;
  for (size_t i = 0; i < result.matrices.size(); ++i) {
    const Matrix& mask = result.matrices[i].soft_mask;
    if (mask.empty()) return {};
    Matrix soft = Matrix::CopyFrom(dense[i].dense);
    ArrayOf(soft) *= ArrayOf(mask);
    weights.push_back(std::move(soft));
  }
  return weights;
}

std::vector<MatrixView> Views(const std::vector<Matrix>& matrices) {
  return {matrices.begin(), matrices.end()};
}

}  // namespace attnprune
