#include "core/judge/score.h"

#include <cmath>
#include <limits>
#include <memory>
#include <new>
#include <utility>

#include "core/base/status_macros.h"
#include "core/judge/pruned_weights.h"

namespace attnprune {

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
    const auto count = static_cast<double>(tokens);
    AttentionError error =
        objective.Error(weights, {.smallest = smallest, .share_done = [&](double share) {
                                    share_done_((done_ + share * count) / all_);
                                  }});
    done_ += count;
    return error;
  }

 private:
  const double all_;
  const ShareDone& share_done_;
  double done_ = 0;  // tokens
};

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
  score.relative_error = error.relative();
  if (!std::isfinite(score.relative_error)) {
    return absl::InvalidArgumentError("result must give logits that are finite in float32");
  }
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
  ATTNPRUNE_ASSIGN_OR_RETURN(AttentionObjective* const calibration, problem_.Calibration());
  const Matrix product = ProductOfFactors(problem, result);
  const Judged judged{result, std::move(dense), PrunedAttentionWeights(result, product),
                      SoftAttentionWeights(problem, result),
                      MaskedAttentionWeights(problem, result)};
  const Index passes_a_side = 1 + (judged.soft.empty() ? 0 : 1) + (judged.masked.empty() ? 0 : 1);
  Index tokens = problem.calibration.total_tokens();
  if (problem.held_out.count() > 0) tokens += problem.held_out.total_tokens();
  Passes passes(passes_a_side * tokens, share_done);
  Score score;
  double log_delta = 0;
  ATTNPRUNE_ASSIGN_OR_RETURN(score.calibration,
                             ScoreSide(judged, *calibration, calibration_, passes, &log_delta));
  ScoreLinear(judged, *problem_.CalibrationGram(), calibration_, score.calibration);
  if (problem.held_out.count() > 0) {
    ATTNPRUNE_ASSIGN_OR_RETURN(AttentionObjective* const held_out, problem_.HeldOut());
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
