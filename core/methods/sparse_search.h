// The state of one search for sparse weights under the attention loss, and its step: what `ste`,
// `joint` and `refit` have in common. search_method.h owns the loop around it.
//
// Every weight matrix has scores S, values V and a binary mask M, which prunes the smallest scores.
// A step evaluates the loss at W~ = M o V, takes its gradient G = dL/dW~, and moves
//   S against V o G: the gradient in the mask, passed straight through the selection. By Adam with
//     one second moment a matrix, so that what matters more moves further;
//   V against M o G: a pruned value keeps its place, and comes back with it. By Adam.
#ifndef ATTNPRUNE_CORE_METHODS_SPARSE_SEARCH_H_
#define ATTNPRUNE_CORE_METHODS_SPARSE_SEARCH_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "core/methods/method.h"
#include "core/methods/search_objectives.h"
#include "core/methods/shards.h"
#include "core/tensor/bit_mask.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// What moves, how far and until when; `steps`, `rise` and `freeze` count steps from 0.
struct SearchPlan {
  int steps = 0;
  int rise = 0;  // the sparsity rises to its target before this step, along a cubic; at most steps
  bool full_from_start = false;  // it has its target before that step too
  int freeze = 0;          // scores and masks stand still from this step on; 0: they never move
  double score_rate = 0;   // how far a step moves a score of root-mean-square gradient
  double weight_rate = 0;  // how far a step moves a value, in units of 2 mean |W|; 0: not at all
};

// Of a run, step t counted from 0: the fraction 1 - (1 - t / rise)^3 of the weights to be pruned
// that are pruned in it, 1 from `rise` on, or throughout.
double RisingFraction(const SearchPlan& plan, int t);
// What both rates are multiplied by: 1 before `rise`, then half a cosine down to 0 at `steps`.
double RateFactor(const SearchPlan& plan, int t);

// Where a search starts: one entry a matrix, each of its shape.
struct SearchStart {
  std::vector<Matrix> scores;  // finite; empty if plan.freeze is 0
  std::vector<BitMask> masks;  // at full sparsity
  std::vector<Matrix> values;  // finite
};

// One caller at a time.
class SparseSearch final : public Resumable {
 public:
  // Everything borrowed must outlive the search. The start is the best result until another does
  // better.
  SparseSearch(std::vector<NamedWeight> weights, const Sparsity& sparsity, SearchStart start,
               SearchObjectives& objectives, ThreadPool& pool, const SearchPlan& plan,
               uint64_t fingerprint);

  struct Figures {
    double loss = 0;            // of the part that the step learns from, scaled to all batches
    double relative_error = 0;  // equation (1) of that part, at the sparsity of the moment
    double gradient_norm = 0;   // of the gradient in the mask, over the part's batches
    bool finite = false;
  };
  // Loss and gradient at the current state.
  Figures Evaluate();
  // Moves scores and values by the gradient of the last Evaluate. Every so many steps at full
  // sparsity, and after the last, UpdateIncumbent().
  void Step();

  int steps_taken() const { return steps_taken_; }
  const SearchPlan& plan() const { return plan_; }

  bool PrunesAnything() const;
  // The current values at full sparsity.
  std::vector<Matrix> Candidate() const;
  // Makes the candidate the incumbent, the best so far, if it is strictly better on the batches
  // that decide.
  void UpdateIncumbent();
  // The best so far; but the start where that is better on the calibration batches as a whole, or
  // where the best overflows on them.
  std::vector<PrunedMatrix> Best();

  void AppendState(std::string* out) const override;
  // Takes over what AppendState wrote after at most plan.steps steps. INVALID_ARGUMENT naming
  // `resume_from`.
  absl::Status Restore(const std::string& bytes);

 private:
  struct Solution {
    std::vector<BitMask> masks;
    std::vector<Matrix> weights;  // 0 where pruned
  };

  static constexpr int kNoSelection = -1;

  bool ScoresMove() const { return steps_taken_ < plan_.freeze; }
  std::vector<BitMask> FullMasks() const;  // of the scores as they are
  void PrepareMasks();                     // masks_ for the step to come
  template <typename Self, typename Visit>
  static void ForEachStateMatrix(Self& self, Visit visit);

  const std::vector<NamedWeight> weights_;
  const Sparsity sparsity_;
  SearchObjectives& objectives_;
  ThreadPool& pool_;
  const SearchPlan plan_;
  const uint64_t fingerprint_;
  const Shards shards_;
  const Solution start_;

  std::vector<float> units_;                        // 2 mean |W|, one a matrix
  std::vector<Matrix> scores_, score_m_;            // empty if the scores never move
  std::vector<double> score_v_;                     // of the mean square, one a matrix
  std::vector<Matrix> values_, value_m_, value_v_;  // the moments empty if the values never move
  std::vector<Matrix> masks_;                       // 1 kept, 0 pruned
  int selection_ = kNoSelection;                    // the step whose scores masks_ were made of
  Solution best_;
  double best_error_ = 0;
  std::vector<Matrix> pruned_;                      // M o V
  std::vector<Matrix> gradients_, mask_gradients_;  // of the last Evaluate: G and V o G
  std::vector<double> mean_squares_;                // of V o G, one a matrix
  int steps_taken_ = 0;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_METHODS_SPARSE_SEARCH_H_
