// The one place where results are scored: every method's figures come from here.
#ifndef ATTNPRUNE_CORE_JUDGE_SCORE_H_
#define ATTNPRUNE_CORE_JUDGE_SCORE_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "core/judge/linear_error.h"
#include "core/judge/theory.h"
#include "core/methods/method.h"
#include "core/objective/prepared_problem.h"
#include "core/problem/problem.h"

namespace attnprune {

// Errors on one set of batches.
struct BatchScore {
  // Equation (1) for the binary mask and the weights as they are after pruning:
  // sum ||f~ - f||^2 / sum ||f||^2 over batches and heads; then per query head.
  double relative_error = 0;
  std::vector<double> per_head;
  // The same with W o M for the real-valued mask before binarisation, where the method has one.
  absl::optional<double> soft_relative_error;
  // The same with the binary mask on the dense weights: what the mask alone costs. Only where the
  // method has moved kept weights; elsewhere it is relative_error. Infinite if logits overflow.
  absl::optional<double> mask_only_relative_error;
  // ||X (W - W~)||_F^2 / ||X W||_F^2 over all tokens and attention weights (the fused W, W~ being
  // the product where its factors were pruned; or W_Q and W_K), so that methods can be compared.
  double linear_error = 0;
  // The same of each matrix of the result, in its order: of the factors where those were pruned.
  std::vector<double> linear_error_per_matrix;
};

// Exact counts of one matrix's mask.
struct MatrixSparsity {
  std::string name;
  Index pruned = 0, size = 0;

  double achieved() const { return static_cast<double>(pruned) / static_cast<double>(size); }
};

struct Score {
  BatchScore calibration;
  absl::optional<BatchScore> held_out;  // none without held-out batches
  std::vector<MatrixSparsity> sparsity;
  TheoryFigures theory;
};

// Equation (1) alone, over all heads.
struct RelativeErrors {
  double calibration = 0;
  absl::optional<double> held_out;  // none without held-out batches
};
// Of weights in the order of AttentionWeights. INVALID_ARGUMENT where their logits overflow; else
// PreparedProblem::Calibration's errors.
absl::StatusOr<RelativeErrors> ErrorsOf(PreparedProblem& problem,
                                        absl::Span<const MatrixView> weights);

// Scores the results of methods on one problem. What depends on the problem alone is computed once,
// at the first result. One user at a time.
class ResultJudge {
 public:
  explicit ResultJudge(PreparedProblem& problem) : problem_(problem) {}

  // By one pass over the attention of the calibration batches and one over that of the held-out
  // batches; each once more for a real-valued mask, once more where kept weights have moved, and
  // once more where the problem has yet to make its dense attention. share_done: over all passes.
  // INVALID_ARGUMENT when the result is not one of the problem, or logits overflow;
  // RESOURCE_EXHAUSTED when memory runs out.
  absl::StatusOr<Score> Judge(const PruneResult& result,
                              const ShareDone& share_done = NobodyListens);

 private:
  // One of the problem's sets of batches.
  struct Side {
    const Batches& batches;
    std::map<std::string, double> output_norms;  // ||X W||_F^2 by the weight's name
  };
  struct Judged;
  class Passes;

  Passes PassesOver(const Judged& judged, const ShareDone& share_done) const;
  absl::StatusOr<BatchScore> ScoreSide(const Judged& judged, AttentionObjective& objective,
                                       const Side& side, Passes& passes, double* log_delta);
  LinearError LinearErrorOf(Side& side, const GramMatrix& gram, const NamedWeight& weight,
                            MatrixView pruned);
  void ScoreLinear(const Judged& judged, const GramMatrix& gram, Side& side, BatchScore& score);

  PreparedProblem& problem_;
  Side calibration_{problem_.problem().calibration, {}};
  Side held_out_{problem_.problem().held_out, {}};
  absl::optional<TheoryFigure> beta_;
};

// The score of one result. The errors of ResultJudge::Judge; for a problem that is to be prepared
// for it, PreparedProblem::Create's too.
absl::StatusOr<Score> Judge(PreparedProblem& problem, const PruneResult& result);
absl::StatusOr<Score> Judge(const Problem& problem, const PruneResult& result,
                            const PrepareOptions& prepare = {});

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_JUDGE_SCORE_H_
