// The state of one run of Algorithm 1 and its step; gd.cc owns the loop around it.
#ifndef ATTNPRUNE_CORE_METHODS_MASK_DESCENT_H_
#define ATTNPRUNE_CORE_METHODS_MASK_DESCENT_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/kernels/descent.h"
#include "core/methods/method.h"
#include "core/methods/shards.h"
#include "core/methods/solver_state.h"
#include "core/objective/attention_objective.h"

namespace attnprune {

// One real-valued mask a weight matrix, its velocity, and the mask before, which is the result if
// the last step led to a loss that is not finite. One caller at a time.
class MaskDescent final : public Resumable {
 public:
  // Everything borrowed must outlive the run. lambda: of the loss.
  MaskDescent(std::vector<NamedWeight> weights, LossFunction& objective, ThreadPool& pool,
              const HeavyBall& step, double lambda, uint64_t fingerprint);

  struct Losses {
    double attention = 0, regularization = 0, gradient_norm = 0;
    bool finite = false;
    double total() const { return attention + regularization; }
  };

  // Loss and gradient at the current masks. gradient_norm is of grad L / k.
  Losses Evaluate();
  // Moves the masks by the gradient of the last Evaluate, whose total loss was `loss`.
  void Step(double loss);
  // Takes the masks before the last Step back, if there was one.
  void StepBack();

  int steps_taken() const { return steps_taken_; }
  double previous_loss() const { return previous_loss_; }  // NaN before the first step
  const std::vector<NamedWeight>& weights() const { return weights_; }
  const std::vector<Matrix>& masks() const { return masks_; }
  bool MasksAreFinite() const;

  void AppendState(std::string* out) const override;
  // Takes over what AppendState wrote after at most `max_steps` steps. INVALID_ARGUMENT naming
  // `resume_from`.
  absl::Status Restore(const std::string& bytes, int max_steps);

 private:
  void Prune();  // pruned_ = M o W

  const std::vector<NamedWeight> weights_;
  LossFunction& objective_;
  ThreadPool& pool_;
  const HeavyBall step_;
  const double lambda_;
  const uint64_t fingerprint_;

  const Shards shards_;
  std::vector<Matrix> dense_;  // the weights, contiguous
  std::vector<Matrix> masks_, previous_masks_, velocities_;
  std::vector<Matrix> pruned_, gradients_;  // M o W, and the gradient of the last Evaluate
  bool pruned_is_current_ = false;          // of masks_
  int steps_taken_ = 0;
  double previous_loss_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_METHODS_MASK_DESCENT_H_
