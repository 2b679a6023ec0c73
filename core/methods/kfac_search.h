// The state of one `kfac` run, and its step.
//
// Round 0 prunes the dense weights by ADMM in the K-FAC metric of the attention loss
// (two_sided_admm.h), whose Gauss-Newton matrix at the dense weights is all that there is of its
// second order. Every later round linearises again at the weights W~ where it starts (Levenberg and
// Marquardt): with gradient G and metric A, B there, damped by mu, ADMM from W~. Its answer is the
// next W~ where the loss of what is learned from falls, and then mu *= 0.4; else mu *= 4.
//
// The first phase learns from the batches that do not decide. It ends after so many rounds, after 3
// refusals in a row or 4 accepted rounds that do not help those that decide. Where there are such,
// a last phase goes on from its best with all batches, for as many rounds as that best took.
// In a run that starts from pruned weights, these stand for round 0. Since the best is better than
// round 0 on both sides, no answer is worse than that on all batches.
//
// A run that starts from pruned weights may have a rival, another such start. A phase between the
// two goes on from it with its mask held: a round is one step of conjugate gradients on the loss
// (held_descent.h), in the metric where the phase began. The last phase goes on with the better of
// the two bests by the batches that decide; the rival's in that way too, for twice as many rounds.
#ifndef ATTNPRUNE_CORE_METHODS_KFAC_SEARCH_H_
#define ATTNPRUNE_CORE_METHODS_KFAC_SEARCH_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/base/thread_pool.h"
#include "core/methods/held_descent.h"
#include "core/methods/kfac_objective.h"
#include "core/methods/kronecker_metric.h"
#include "core/methods/method.h"
#include "core/methods/two_sided_admm.h"
#include "core/problem/sparsity.h"
#include "core/tensor/bit_mask.h"
#include "core/tensor/matrix.h"

namespace attnprune {

struct KfacOptions {
  double damping = 0, validation = 0, mu = 0;
  int rounds = 0, steps = 0, refine_steps = 0;  // steps of ADMM in a round, at most
  int rival_rounds = 0;                         // from a rival, of one step each
  bool by_factors = false;
};

// One caller at a time.
class KfacSearch final : public Resumable {
 public:
  // Everything borrowed must outlive the run.
  KfacSearch(const KfacOptions& options, KfacObjective& objective, const Sparsity& sparsity,
             ThreadPool& pool, uint64_t fingerprint);

  // In place of the dense weights: goes on from `start`, of masks and weights as stored, by rounds
  // alone. rival: such a start too, or empty. No best of a phase but the last is worse than `start`
  // on the batches that decide.
  void StartFrom(const std::vector<PrunedMatrix>& start, const std::vector<PrunedMatrix>& rival);

  bool ended() const { return ended_; }
  int steps_taken() const { return steps_taken_; }
  double loss() const { return loss_; }  // of what the round starts from, 0 for the dense weights
  double gradient_norm() const;
  // That of the dense attention, over the batches that loss() is of.
  double dense_norm_squared() const { return objective_.dense_norm_squared(From()); }

  // A step of ADMM; the first of a round prepares it, the last decides about it.
  absl::Status Step();

  // D as it is, as stored.
  std::vector<Matrix> Weights() const;
  std::vector<PrunedMatrix> Best() const;
  // TwoSidedAdmm::LogScores of the last step, as stored.
  std::vector<Matrix> LogScores() const;

  void AppendState(std::string* out) const override;
  absl::Status Restore(const std::string& bytes, int max_steps);

 private:
  enum class Phase { kLearn, kRival, kAll };
  // outputs x inputs, one a map.
  struct Solution {
    std::vector<BitMask> masks;
    std::vector<Matrix> weights;
    double error = 0;  // on the batches that decide
    double mu = 0;     // of the round after it
    int round = 0;     // of its phase; 0: that which it started from
  };

  KfacObjective::From From() const;
  Solution SolutionOf(const std::vector<PrunedMatrix>& start) const;
  // The best so far of all phases.
  const Solution& Incumbent() const;
  absl::Status Prepare();
  // A step of every ADMM that moves. Whether none does any more.
  bool StepsSettle();
  void FinishRound();
  std::vector<Matrix> Gradients() const;  // outputs x inputs
  Solution Candidate() const;
  Solution HeldCandidate();
  void Accept(Solution candidate, double loss, std::vector<Matrix> gradients);
  // Whether it is the best so far; fills in its error.
  bool Decides(Solution& candidate);
  void EndRound();
  // Begins a phase from best_, of at most `rounds`. Whether that leads to finite numbers.
  bool Begin(Phase phase, int rounds);
  void EndPhase();
  void ChooseBest();
  std::vector<Matrix> AsStoredEach(const std::vector<Matrix>& out_in) const;
  template <typename Self, typename Visit>
  static void ForEachStateMatrix(Self& self, Visit visit);
  template <typename Self, typename Visit>
  static void ForEachStateNumber(Self& self, Visit visit);

  const KfacOptions options_;
  KfacObjective& objective_;
  const Sparsity sparsity_;
  ThreadPool& pool_;
  const uint64_t fingerprint_;
  std::vector<Matrix> point_;                          // W~, outputs x inputs
  std::vector<Matrix> gradients_;                      // at W~, as stored
  std::vector<std::vector<KroneckerMetric>> metrics_;  // at W~; empty: to be made
  std::vector<TwoSidedAdmm> admm_;
  bool prepared_ = false;  // whether the ADMM has its target
  double loss_ = 0, mu_ = 0;
  Phase phase_ = Phase::kLearn;
  int round_ = 0;  // of the phase
  int last_round_ = 0;
  int steps_in_round_ = 0, steps_taken_ = 0;
  int refusals_ = 0, unhelpful_ = 0;  // in a row
  bool ended_ = false;
  Solution best_;  // of the phase
  bool has_other_ = false;
  Solution other_;  // the rival's start, then the first phase's best
  bool mask_is_held_ = false;
  HeldDescent descent_;  // while it is
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_METHODS_KFAC_SEARCH_H_
