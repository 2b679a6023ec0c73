// Which map loses more of its weights, by one threshold for the whole model on what the loss feels
// of each of them.
#ifndef ATTNPRUNE_CORE_SEQUENTIAL_LOSS_ALLOCATION_H_
#define ATTNPRUNE_CORE_SEQUENTIAL_LOSS_ALLOCATION_H_

#include <cstdint>
#include <vector>

#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "core/base/thread_pool.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// How many weights of a map have which score h_ab = W_ab^2 mean(x_b^2) B_aa: the diagonal of the
// Fisher information's Kronecker factors (curvature.h), twice what the loss gains when the weight
// goes alone. Scores lie in bins of 1/32 of an octave; those below 2^-126 are alike.
class ScoreHistogram {
 public:
  ScoreHistogram() : counts_(kBins) {}
  // As counts() of another was; nullopt: there are not bins() of them, or one is negative.
  static absl::optional<ScoreHistogram> Of(absl::Span<const int64_t> counts);

  // w: outputs x inputs. inputs: mean(x_b^2). outputs: B_aa. The counts do not depend on the pool's
  // threads.
  void Add(MatrixView w, absl::Span<const double> inputs, absl::Span<const double> outputs,
           ThreadPool& pool);
  void Add(const ScoreHistogram& other);

  absl::Span<const int64_t> counts() const { return counts_; }  // by bin
  int64_t size() const { return size_; }
  // Weights below a threshold in [0, bins()], a place among the bins; within a bin they count as
  // evenly spread.
  double Below(double threshold) const;
  static double bins() { return static_cast<double>(kBins); }

 private:
  static constexpr size_t kBins = 8192;

  std::vector<int64_t> counts_;
  int64_t size_ = 0;
};

// The share of each map that lies below a threshold for all, but none further than `range` from
// `rho`, where rho of all weights go together. In [0, 1). rho in [0, 1), range at least 0.
std::vector<double> SparsitiesByLoss(absl::Span<const ScoreHistogram> maps, double rho,
                                     double range);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_SEQUENTIAL_LOSS_ALLOCATION_H_
