#include "core/judge/score.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
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

absl::Status RefuseMatrix(const PrunedMatrix& matrix, absl::string_view rule) {
  return absl::InvalidArgumentError(absl::StrCat("result ", matrix.name, " must ", rule));
}

absl::Status CheckMatrix(const PrunedMatrix& matrix) {
  const Matrix& weights = matrix.weights;
  if (matrix.mask.rows() != weights.rows() || matrix.mask.cols() != weights.cols()) {
    return RefuseMatrix(
        matrix, absl::StrCat("have a mask of ", weights.rows(), " x ", weights.cols(), ", got ",
                             matrix.mask.rows(), " x ", matrix.mask.cols()));
  }
  if (!matrix.soft_mask.empty() && !SameShape(matrix.soft_mask, weights)) {
    return RefuseMatrix(matrix, "have a soft mask of the weights' shape or none");
  }
  if (matrix.mask.Masks(weights)) return absl::OkStatus();
  for (Index i = 0; i < weights.size(); ++i) {  // which one
    const float value = weights.flat()[static_cast<size_t>(i)];
    if (!std::isfinite(value)) {
      return RefuseMatrix(matrix, absl::StrCat("be finite, got ", value, " at flat index ", i));
    }
    if (value != 0.0f && !matrix.mask.kept(i)) {
      return RefuseMatrix(
          matrix, absl::StrCat("be 0 where its mask prunes, got ", value, " at flat index ", i));
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
  const MatrixView weights = matrix.weights;
  std::vector<uint8_t> kept(static_cast<size_t>(dense.cols()));
  for (Index i = 0; i < dense.rows(); ++i) {
    matrix.mask.UnpackRow(i, absl::MakeSpan(kept));
    int moved = 0;
    for (Index j = 0; j < dense.cols(); ++j) moved |= kept[j] & (weights(i, j) != dense(i, j));
    if (moved != 0) return true;
  }
  return false;
}

// The dense matrices that `result` pruned, in its order: the attention weights, or a fused
// problem's factors. INVALID_ARGUMENT naming `result` unless names and shapes agree, the weights
// are finite and 0 where the mask prunes, and real-valued masks, if any, are of the attention
// weights. What follows is for results that have passed this.
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
      return RefuseMatrix(matrix, "have no soft mask, being a factor");
    }
  }
  return dense;
}

// The fused weight of a result that pruned its factors; empty for others.
Matrix ProductOfFactors(const Problem& problem, const PruneResult& result) {
  if (!PrunesFactors(problem, result)) return Matrix();
  return FusedWeight(result.matrices[0].weights, result.matrices[1].weights);
}

// The pruned matrices in the order of AttentionWeights(); `product` of pruned factors takes the
// place of a fused W. Views of both arguments.
std::vector<MatrixView> PrunedAttentionWeights(const PruneResult& result, const Matrix& product) {
  if (!product.empty()) return {product};
  std::vector<MatrixView> weights;
  for (const PrunedMatrix& matrix : result.matrices) weights.emplace_back(matrix.weights);
  return weights;
}

// As PrunedAttentionWeights, but of the dense weights under the result's masks; empty if those are
// what the result holds, no kept weight having moved.
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

// W o M with the real-valued masks; empty if the result has none.
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

absl::StatusOr<double> FiniteError(const AttentionError& error) {
  const double relative = error.relative();
  if (std::isfinite(relative)) return relative;
  return absl::InvalidArgumentError("result must give logits that are finite in float32");
}

}  // namespace

// A result in the matrices that are scored.
struct ResultJudge::Judged {
  const PruneResult& result;
  std::vector<NamedWeight> dense;    // what the result pruned
  std::vector<MatrixView> pruned;    // attention weights, in the order of AttentionWeights()
  std::vector<Matrix> soft, masked;  // likewise; empty if the result has none
};

// How far the passes over the attention have come.
class ResultJudge::Passes {
 public:
  Passes(Index tokens_in_all, const ShareDone& share_done)
      : all_(static_cast<double>(tokens_in_all)), share_done_(share_done) {}

  AttentionError Error(AttentionObjective& objective, absl::Span<const MatrixView> weights,
                       Index tokens, bool smallest = false) {
    return objective.Error(weights, {.smallest = smallest, .share_done = Next(tokens)});
  }

  // What the next pass, over so many tokens, is to tell; valid as long as this.
  ShareDone Next(Index tokens) {
    const auto before = static_cast<double>(std::exchange(done_, done_ + tokens));
    return [this, before, count = static_cast<double>(tokens)](double share) {
      share_done_((before + share * count) / all_);
    };
  }

 private:
  const double all_;
  const ShareDone& share_done_;
  Index done_ = 0;  // tokens of the passes that have begun
};

ResultJudge::Passes ResultJudge::PassesOver(const Judged& judged,
                                            const ShareDone& share_done) const {
  const Index losses = 1 + (judged.soft.empty() ? 0 : 1) + (judged.masked.empty() ? 0 : 1);
  const Index calibration = losses + (problem_.calibration_is_made() ? 0 : 1);
  const Index held_out = losses + (problem_.held_out_is_made() ? 0 : 1);
  return {calibration * calibration_.batches.total_tokens() +
              held_out * held_out_.batches.total_tokens(),
          share_done};
}

LinearError ResultJudge::LinearErrorOf(Side& side, const GramMatrix& gram,
                                       const NamedWeight& weight, MatrixView pruned) {
  const auto norm_of = [&](absl::optional<MatrixView> less) {
    return SquaredNormOfOutputs(side.batches.all(), gram, weight, less, problem_.pool());
  };
  auto [norm, is_new] = side.output_norms.try_emplace(weight.name);
  if (is_new) norm->second = norm_of(absl::nullopt);
  return {.difference = norm_of(pruned), .dense = norm->second};
}

void ResultJudge::ScoreLinear(const Judged& judged, const GramMatrix& gram, Side& side,
                              BatchScore& score) {
  LinearError total;
  const auto add = [&total](const LinearError& error) {
    total.difference += error.difference;
    total.dense += error.dense;
  };
  const std::vector<NamedWeight> attention = AttentionWeights(problem_.problem());
  const bool by_factors = judged.dense.size() != attention.size();
  for (size_t i = 0; i < judged.dense.size(); ++i) {
    const LinearError error =
        LinearErrorOf(side, gram, judged.dense[i], judged.result.matrices[i].weights);
    score.linear_error_per_matrix.push_back(error.relative());
    if (!by_factors) add(error);
  }
  if (by_factors) add(LinearErrorOf(side, gram, attention[0], judged.pruned[0]));
  score.linear_error = total.relative();
}

absl::StatusOr<BatchScore> ResultJudge::ScoreSide(const Judged& judged,
                                                  AttentionObjective& objective, const Side& side,
                                                  Passes& passes, double* log_delta) {
  const Index tokens = side.batches.total_tokens();
  BatchScore score;
  const AttentionError error =
      passes.Error(objective, judged.pruned, tokens, /*smallest=*/log_delta != nullptr);
  if (log_delta != nullptr) *log_delta = error.smallest_log_attention;
  ATTNPRUNE_ASSIGN_OR_RETURN(score.relative_error, FiniteError(error));
  for (size_t h = 0; h < error.dense.size(); ++h) {
    score.per_head.push_back(error.relative(static_cast<Index>(h)));
  }
  if (!judged.soft.empty()) {
    score.soft_relative_error = passes.Error(objective, Views(judged.soft), tokens).relative();
  }
  if (!judged.masked.empty()) {
    const double mask_only = passes.Error(objective, Views(judged.masked), tokens).relative();
    score.mask_only_relative_error =
        std::isfinite(mask_only) ? mask_only : std::numeric_limits<double>::infinity();
  }
  return score;
}

absl::StatusOr<Score> ResultJudge::Judge(const PruneResult& result, const ShareDone& share_done) {
  const Problem& problem = problem_.problem();
  ATTNPRUNE_ASSIGN_OR_RETURN(std::vector<NamedWeight> dense, DenseMatrices(problem, result));
  const Matrix product = ProductOfFactors(problem, result);
  const Judged judged{result, std::move(dense), PrunedAttentionWeights(result, product),
                      SoftAttentionWeights(problem, result),
                      MaskedAttentionWeights(problem, result)};
  Passes passes = PassesOver(judged, share_done);
  const auto dense_pass = [&passes](bool is_made, const Side& side) {
    return is_made ? ShareDone(NobodyListens) : passes.Next(side.batches.total_tokens());
  };
  ATTNPRUNE_ASSIGN_OR_RETURN(
      AttentionObjective* const calibration,
      problem_.Calibration(dense_pass(problem_.calibration_is_made(), calibration_)));
  Score score;
  double log_delta = 0;
  ATTNPRUNE_ASSIGN_OR_RETURN(score.calibration,
                             ScoreSide(judged, *calibration, calibration_, passes, &log_delta));
  ScoreLinear(judged, *problem_.CalibrationGram(), calibration_, score.calibration);
  if (problem.held_out.count() > 0) {
    ATTNPRUNE_ASSIGN_OR_RETURN(
        AttentionObjective* const held_out,
        problem_.HeldOut(dense_pass(problem_.held_out_is_made(), held_out_)));
    ATTNPRUNE_ASSIGN_OR_RETURN(score.held_out,
                               ScoreSide(judged, *held_out, held_out_, passes, nullptr));
    ScoreLinear(judged, *problem_.HeldOutGram(), held_out_, *score.held_out);
  }
  for (const PrunedMatrix& matrix : result.matrices) {
    score.sparsity.push_back({matrix.name, matrix.mask.CountPruned(), matrix.mask.size()});
  }
  if (!beta_.has_value()) beta_ = Beta(problem_);
  score.theory = Theory(problem, *beta_, log_delta, result.lambda);
  return score;
}

absl::StatusOr<RelativeErrors> ErrorsOf(PreparedProblem& problem,
                                        absl::Span<const MatrixView> weights) {
  RelativeErrors errors;
  ATTNPRUNE_ASSIGN_OR_RETURN(AttentionObjective* const calibration, problem.Calibration());
  ATTNPRUNE_ASSIGN_OR_RETURN(errors.calibration, FiniteError(calibration->Error(weights)));
  if (problem.problem().held_out.count() == 0) return errors;
  ATTNPRUNE_ASSIGN_OR_RETURN(AttentionObjective* const held_out, problem.HeldOut());
  ATTNPRUNE_ASSIGN_OR_RETURN(errors.held_out, FiniteError(held_out->Error(weights)));
  return errors;
}

absl::StatusOr<Score> Judge(PreparedProblem& problem, const PruneResult& result) {
  return ResultJudge(problem).Judge(result);
}

absl::StatusOr<Score> Judge(const Problem& problem, const PruneResult& result,
                            const PrepareOptions& prepare) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::unique_ptr<PreparedProblem> prepared,
                             PreparedProblem::Create(problem, prepare));
  return Judge(*prepared, result);
}

}  // namespace attnprune
