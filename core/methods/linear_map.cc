#include "core/methods/linear_map.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/kernels/select.h"
#include "core/methods/solver_state.h"
#include "core/tensor/eigen.h"

namespace attnprune {
namespace {

Matrix Transposed(MatrixView matrix) {
  Matrix result(matrix.cols(), matrix.rows());
  ArrayOf(result) = ArrayOf(matrix).transpose();
  return result;
}

BitMask Transposed(const BitMask& mask) {
  BitMask result(mask.cols(), mask.rows(), /*kept=*/true);
  for (Index i = 0; i < mask.rows(); ++i) {
    for (Index j = 0; j < mask.cols(); ++j) {
      if (!mask.kept(i, j)) result.Prune(j * mask.rows() + i);
    }
  }
  return result;
}

}  // namespace

std::vector<NamedWeight> LinearMaps(const Problem& problem, bool by_factors) {
  if (!by_factors || !problem.fused() || !problem.fused_weights().has_factors()) {
    return AttentionWeights(problem);
  }
  const FusedWeights& weights = problem.fused_weights();
  return {{"w_q", weights.w_q, /*inputs_are_rows=*/true},
          {"w_k", weights.w_k, /*inputs_are_rows=*/true}};
}

std::vector<NamedWeight> PrunedMaps(const Problem& problem, const PruneResult& result) {
  return LinearMaps(problem, /*by_factors=*/result.matrices.size() == 2);
}

Matrix OutIn(const NamedWeight& weight) {
  return weight.inputs_are_rows ? Transposed(weight.dense) : Matrix::CopyFrom(weight.dense);
}

Matrix Magnitudes(MatrixView m) {
  Matrix result(m.rows(), m.cols());
  ArrayOf(result) = ArrayOf(m).abs();
  return result;
}

double InnerProduct(MatrixView a, MatrixView b) {
  double sum = 0;
  for (Index i = 0; i < a.rows(); ++i) {
    for (Index j = 0; j < a.cols(); ++j) {
      sum += static_cast<double>(a(i, j)) * static_cast<double>(b(i, j));
    }
  }
  return sum;
}

BitMask AsStored(const NamedWeight& weight, const BitMask& out_in) {
  return weight.inputs_are_rows ? Transposed(out_in) : out_in;
}

Matrix AsStored(const NamedWeight& weight, const Matrix& out_in) {
  return weight.inputs_are_rows ? Transposed(out_in) : out_in.Clone();
}

Index Outputs(const NamedWeight& weight) {
  return weight.inputs_are_rows ? weight.dense.cols() : weight.dense.rows();
}

Index Inputs(const NamedWeight& weight) {
  return weight.inputs_are_rows ? weight.dense.rows() : weight.dense.cols();
}

BitMask Binarize(const Matrix& scores, bool inputs_are_rows, const Sparsity& sparsity,
                 ThreadPool& pool) {
  if (!sparsity.structured()) return PruneSmallest(scores, sparsity.PrunedOf(scores.size()), pool);
  if (!inputs_are_rows) {
    return PruneSmallestPerGroup(scores, sparsity.pruned, sparsity.group, pool);
  }
  const NamedWeight as_weight{"scores", scores, inputs_are_rows};
  return AsStored(as_weight,
                  PruneSmallestPerGroup(OutIn(as_weight), sparsity.pruned, sparsity.group, pool));
}

absl::Status CheckNothingToResume(absl::string_view method, const RunOptions& options) {
  if (options.resume_from.empty()) return absl::OkStatus();
  return ResumeRefused(absl::StrCat("must be empty, since ", method,
                                    " has no steps to resume, got ", options.resume_from.size(),
                                    " bytes"));
}

double LinearBytes(const ProblemShape& shape, const ParameterValues&, DenseAttention, int) {
  const double d = static_cast<double>(shape.features());
  return 10 * sizeof(float) * Entries(shape) + sizeof(double) * d * d;
}

double LinearOperations(const ProblemShape& shape, const ParameterValues&, DenseAttention) {
  const double d = static_cast<double>(shape.features());
  return 2 * CalibrationSize(shape).tokens * d * d + 2 * d * d * d + 2 * Entries(shape) * d;
}

PrunedMatrix MaskedMatrix(const NamedWeight& weight, BitMask mask) {
  Matrix weights = mask.Apply(weight.dense);
  return {.name = weight.name,
          .mask = std::move(mask),
          .weights = std::move(weights),
          .soft_mask = Matrix()};
}

}  // namespace attnprune
