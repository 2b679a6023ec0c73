#include "core/judge/score.h"

#include <cmath>
#include <limits>
#include <memory>
#include <new>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/judge/linear_error.h"
#include "core/judge/pruned_weights.h"
#include "core/kernels/blas.h"
#include "core/objective/attention_objective.h"

namespace attnprune {
namespace {

absl::Status ScoreAttention(const Problem& problem, const PruneResult& result,
                            const std::vector<Matrix>& pruned, AttentionObjective& objective,
                            BatchScore& score) {
  const AttentionError error = objective.Error(Views(pruned));
  score.relative_error = error.relative();
  if (!std::isfinite(score.relative_error)) {
    return absl::InvalidArgumentError("result must give logits that are finite in float32");
  }
  for (size_t h = 0; h < error.dense.size(); ++h) {
    score.per_head.push_back(error.relative(static_cast<Index>(h)));
  }
  const std::vector<Matrix> soft = SoftAttentionWeights(problem, result);
  if (!soft.empty()) score.soft_relative_error = objective.Error(Views(soft)).relative();
  const std::vector<Matrix> masked = MaskedAttentionWeights(problem, result);
  if (!masked.empty()) {
    const double mask_only = objective.Error(Views(masked)).relative();
    score.mask_only_relative_error =
        std::isfinite(mask_only) ? mask_only : std::numeric_limits<double>::infinity();
  }
  return absl::OkStatus();
}

void ScoreLinear(const Problem& problem, const std::vector<NamedWeight>& dense,
                 const PruneResult& result, const std::vector<Matrix>& pruned, MatrixView x,
                 ThreadPool& pool, BatchScore& score) {
  for (size_t i = 0; i < dense.size(); ++i) {
    const Matrix& weights = result.matrices[i].weights;
    score.linear_error_per_matrix.push_back(
        ComputeLinearError(x, dense[i], weights, pool).relative());
  }
  const std::vector<NamedWeight> attention = AttentionWeights(problem);
  LinearError total;
  for (size_t i = 0; i < attention.size(); ++i) {
    const LinearError error = ComputeLinearError(x, attention[i], pruned[i], pool);
    total.difference += error.difference;
    total.dense += error.dense;
  }
  score.linear_error = total.relative();
}

absl::StatusOr<BatchScore> ScoreBatches(const Problem& problem, const PruneResult& result,
                                        const Batches& batches, const char* field, ThreadPool& pool,
                                        DenseAttention attention) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<NamedWeight> dense, DenseMatrices(problem, result));
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const std::unique_ptr<AttentionObjective> objective,
      AttentionObjective::Create(problem, batches, field, pool, {.dense = attention}));
  BatchScore score;
  const std::vector<Matrix> pruned = PrunedAttentionWeights(problem, result);
  ATTNPRUNE_RETURN_IF_ERROR(ScoreAttention(problem, result, pruned, *objective, score));
  ScoreLinear(problem, dense, result, pruned, batches.all(), pool, score);
  return score;
}

}  // namespace

absl::StatusOr<Score> Judge(const Problem& problem, const PruneResult& result, int threads,
                            DenseAttention attention) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckThreads(threads));
  ATTNPRUNE_RETURN_IF_ERROR(InitializeBlas());
  ATTNPRUNE_RETURN_IF_ERROR(Validate(problem));
  ThreadPool pool(threads);
  Score score;
  ATTNPRUNE_ASSIGN_OR_RETURN(score.calibration, ScoreBatches(problem, result, problem.calibration,
                                                             "calibration", pool, attention));
  if (problem.held_out.count() > 0) {
    ATTNPRUNE_ASSIGN_OR_RETURN(score.held_out, ScoreBatches(problem, result, problem.held_out,
                                                            "held_out", pool, attention));
  }
  for (const PrunedMatrix& matrix : result.matrices) {
    score.sparsity.push_back({matrix.name, matrix.mask.CountPruned(), matrix.mask.size()});
  }
  return score;
}

}  // namespace attnprune
