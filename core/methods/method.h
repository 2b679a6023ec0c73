// The interface behind which every pruning method stands.
#ifndef ATTNPRUNE_CORE_METHODS_METHOD_H_
#define ATTNPRUNE_CORE_METHODS_METHOD_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "core/methods/linear_problem.h"
#include "core/objective/prepared_problem.h"
#include "core/problem/problem.h"
#include "core/tensor/bit_mask.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// How a run ended. Every reason but kNumericalError comes with the mask of the last step taken.
enum class TerminationReason {
  kCompleted,          // all steps done, or the method has no steps
  kGradientTolerance,  // the gradient norm fell below gradient_tolerance
  kLossTolerance,      // the loss changed by less than loss_tolerance in one step
  kStopped,            // the observer said stop; the result is usable but unfinished
  // Loss or gradient became non-finite; the mask is the last finite one. With PruneResult::steps 0
  // that is the start, which says nothing about the weights.
  kNumericalError,
};
absl::string_view ToString(TerminationReason reason);

// Figures of one step of an iterative method.
struct StepStats {
  // 1 for the first. The step that finds a tolerance met is counted here, but it moves nothing and
  // is not in PruneResult::steps.
  int step = 0;
  int steps = 0;  // at most
  // sum 1/2 ||f~ - f||^2 of the mask that entered the step. Of alps AlpsSearch::Step's loss, and
  // the next three are 0. Of kfac these are of the weights that its round starts from.
  double attention_loss = 0;
  double regularization = 0;       // 1/2 lambda ||M||^2 of the same mask
  double soft_relative_error = 0;  // equation (1) of the same, still real-valued, mask
  double gradient_norm = 0;        // Frobenius norm of the loss's gradient in the mask, over k
  // Equation (1) of the mask binarised after the step, where it was evaluated.
  absl::optional<double> calibration_error, held_out_error;
  double seconds = 0;  // since the run began or was resumed
};

enum class Verdict { kContinue, kStop };

// A run that can be written down between two steps and taken up again with the same bits.
class Resumable {
 public:
  virtual ~Resumable() = default;
  // Appends a self-contained state for RunOptions::resume_from (format: solver_state.h) to `out`.
  // Who saves again and again keeps `out` and its capacity: fresh memory costs more than the copy.
  virtual void AppendState(std::string* out) const = 0;
  // The state alone, for programs that save once.
  std::string SaveState() const;
};

// Called on the solving thread after each step; returns quickly.
class ProgressObserver {
 public:
  virtual ~ProgressObserver() = default;
  // `run` may be saved during the call only.
  virtual Verdict OnStep(const StepStats& stats, const Resumable& run) = 0;
};

struct RunOptions {
  int evaluate_every = 0;  // steps between evaluations of the binary mask; 0: never
  uint64_t seed = 0;       // of the random numbers of methods that draw any (MethodInfo::draws)
  // Empty, or a Resumable's state, of the same problem and parameters and, of a method that draws,
  // the same seed.
  std::string resume_from;
};

// One weight matrix after pruning. `weights` is exactly 0 where `mask` is 0.
struct PrunedMatrix {
  std::string name;  // "w", "w_q" or "w_k"
  BitMask mask;      // 1: kept
  Matrix weights;    // same shape and layout as the dense matrix
  Matrix soft_mask;  // the real-valued mask before binarisation; empty if the method has none
};

struct PruneResult {
  // What was pruned: the attention weights, or, for a fused problem pruned by its factors, "w_q"
  // and "w_k", whose product takes the place of W.
  std::vector<PrunedMatrix> matrices;
  TerminationReason reason = TerminationReason::kCompleted;
  int steps = 0;            // taken, resumed ones included
  int damping_retries = 0;  // SparseGPT: how often the damping was raised
  double lambda = 0;        // regularisation used, for the theory figures; 0 if none
  double seconds = 0;
};

// One method with its parameters fixed. Immutable; Prune() may run on many threads at once, on a
// prepared problem each.
class Method {
 public:
  virtual ~Method() = default;
  virtual absl::string_view name() const = 0;

  // Runs, then checks the result's invariants (shapes, zero where pruned, the sparsity asked for).
  // INVALID_ARGUMENT names the field at fault; RESOURCE_EXHAUSTED means that memory ran out;
  // INTERNAL means a bug here. A state that is not this run's is refused as solver_state.h says.
  absl::StatusOr<PruneResult> Prune(PreparedProblem& problem, RunOptions options,
                                    ProgressObserver& observer) const;
  // The same unobserved.
  absl::StatusOr<PruneResult> Prune(PreparedProblem& problem, RunOptions options = {}) const;
  // Prepares the problem for this run alone. Errors: PreparedProblem::Create's too.
  absl::StatusOr<PruneResult> Prune(const Problem& problem, RunOptions options,
                                    ProgressObserver& observer,
                                    const PrepareOptions& prepare = {}) const;
  absl::StatusOr<PruneResult> Prune(const Problem& problem, RunOptions options = {},
                                    const PrepareOptions& prepare = {}) const;

  // Prunes linear maps by their inputs' moments, then checks the result likewise. INVALID_ARGUMENT
  // naming `method` if it is none for linear maps (MethodInfo::linear), or what Validate names; of
  // a state what Prune says.
  absl::StatusOr<PruneResult> PruneLinear(const LinearProblem& problem, ThreadPool& pool,
                                          RunOptions options, ProgressObserver& observer) const;
  absl::StatusOr<PruneResult> PruneLinear(const LinearProblem& problem, ThreadPool& pool) const;

  // Entries of one matrix (rows x cols as stored) that this method prunes at `sparsity`.
  virtual Index PrunedCount(const NamedWeight& weight, const Sparsity& sparsity) const;

 private:
  // DoPrune, with RESOURCE_EXHAUSTED where memory runs out.
  absl::StatusOr<PruneResult> PruneInMemory(PreparedProblem& problem, RunOptions& options,
                                            ProgressObserver& observer) const;
  // Takes options.resume_from, whose memory is free once the run has taken it over.
  virtual absl::StatusOr<PruneResult> DoPrune(PreparedProblem& problem, RunOptions& options,
                                              ProgressObserver& observer) const = 0;
  virtual absl::StatusOr<PruneResult> DoPruneLinear(const LinearProblem& problem, ThreadPool& pool,
                                                    RunOptions& options,
                                                    ProgressObserver& observer) const;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_METHODS_METHOD_H_
