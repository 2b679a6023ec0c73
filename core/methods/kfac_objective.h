// What `kfac` knows of the attention loss: its value, gradient and curvature on the batches that it
// learns from, and the error on those that decide.
#ifndef ATTNPRUNE_CORE_METHODS_KFAC_OBJECTIVE_H_
#define ATTNPRUNE_CORE_METHODS_KFAC_OBJECTIVE_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/methods/method.h"
#include "core/objective/attention_curvature.h"
#include "core/objective/attention_objective.h"
#include "core/objective/prepared_problem.h"

namespace attnprune {

// One caller at a time.
class KfacObjective {
 public:
  // The prepared problem must outlive it. by_factors: see LinearMaps. Errors: those of
  // PreparedProblem::Calibration and of Batches::Pick.
  static absl::StatusOr<std::unique_ptr<KfacObjective>> Create(PreparedProblem& prepared,
                                                               bool by_factors,
                                                               double validation_fraction);

  // The matrices that it is a function of, all weights and gradients as these are stored.
  const std::vector<NamedWeight>& maps() const { return maps_; }
  // Whether there are batches that decide and are not learnt from.
  bool validates() const { return parts_.size() > 1; }

  // From which batches to learn.
  enum class From { kFit, kAll };
  double LossAndGradient(From from, absl::Span<const MatrixView> weights,
                         absl::Span<Matrix> gradients);
  // The loss alone, by a pass forward.
  double Loss(From from, absl::Span<const MatrixView> weights);
  // A head's curvatures of each map.
  std::vector<std::vector<HeadCurvature>> Curvature(From from,
                                                    absl::Span<const MatrixView> weights);
  // Equation (1) on the batches that decide; on all calibration batches.
  double ValidationError(absl::Span<const MatrixView> weights);
  double CalibrationError(absl::Span<const MatrixView> weights);
  double dense_norm_squared(From from) const;

  // Fills in the errors of `weights` for a report.
  absl::Status Report(absl::Span<const MatrixView> weights, StepStats& stats);

 private:
  struct Part {
    std::unique_ptr<Batches> batches = nullptr;  // copies; null: all of them
    std::unique_ptr<AttentionObjective> owned = nullptr;
    std::unique_ptr<FactoredObjective> in_factors = nullptr;
    std::unique_ptr<AttentionCurvature> curvature = nullptr;
    LossFunction* loss = nullptr;
  };

  KfacObjective(PreparedProblem& prepared, bool by_factors);
  absl::StatusOr<Part> MakePart(const std::vector<Index>& picked);
  absl::Span<Part> PartsOf(From from) {
    return absl::MakeSpan(parts_).first(from == From::kFit ? 1 : parts_.size());
  }

  PreparedProblem& prepared_;
  const std::vector<NamedWeight> maps_;
  const bool in_factors_;
  ProjectionWeights layer_;  // a fused problem as one head; else empty
  std::vector<Part> parts_;  // what is learnt from; what decides, if there is such
  std::vector<Matrix> room_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_METHODS_KFAC_OBJECTIVE_H_
