// Training of what a pruned model keeps: which rows a step takes, at which rate, and which of the
// weights on the way are kept. Distillation and BlockReconstruction say what it makes small.
//
// Adam (trained_layer.h) with the masks fixed, a few rows a step, the rate falling to 0 along a
// cosine. Rows that are never trained on decide which of the weights on the way are kept; where
// none is better than the start, the start is.
#ifndef ATTNPRUNE_CORE_SEQUENTIAL_TRAINING_H_
#define ATTNPRUNE_CORE_SEQUENTIAL_TRAINING_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "core/tensor/matrix.h"

namespace attnprune {

struct TrainingOptions {
  int steps = 400;     // at least 1
  Index rows = 4;      // a step, at least 1; all training rows where there are no more
  double rate = 0.01;  // of the first step, in units of twice a map's mean |W|
  uint64_t seed = 0;   // of the order of the rows
};

// Where a training is. The losses are means over the validation rows' tokens.
struct TrainingPoint {
  int steps = 0;                       // taken
  absl::optional<double> start, best;  // nullopt: not looked at yet
  int best_step = 0;                   // after which the best weights were; 0: the start
};

// Told after each step with the mean loss of the step's rows before it; false ends the run with
// CANCELLED. Training::Values may be read meanwhile.
using TrainingObserver = std::function<bool(const TrainingPoint& point, double loss)>;

// Some of the rows whose tokens lie behind each other.
struct RowBatch {
  std::vector<Index> first, lengths;  // of each row, among all tokens
  Index tokens() const;
};

// The rows of the batch below each other; to: tokens() rows.
void CopyRowsOf(const RowBatch& rows, MatrixView all, MutableMatrixView to);

// Looks at the validation rows, beside the one at the start.
inline constexpr int kTrainingLooks = 12;

// The share of rows that decide: an eighth, at least one, of those that a corpus gave.
inline constexpr double kTrainingValidation = 0.125;

// One caller at a time. The bits of a training depend on its input and the CPU type only, not on
// stops in between.
class Training {
 public:
  virtual ~Training() = default;
  Training(const Training&) = delete;
  Training& operator=(const Training&) = delete;

  // Goes on from another's point and values.
  virtual Index trained_layers() const = 0;
  virtual std::vector<absl::Span<float>> Values(Index layer) = 0;  // TrainedLayer's
  void SetPoint(const TrainingPoint& point) { point_ = point; }
  const TrainingPoint& point() const { return point_; }

 protected:
  // lengths: of all rows. decides: by row; at least one decides, and one does not.
  Training(absl::Span<const Index> lengths, const std::vector<bool>& decides,
           const TrainingOptions& options);

  // Takes the steps that are left, with looks between them; the best weights are taken then. A loss
  // that is not finite ends it early.
  absl::Status RunSteps(const TrainingObserver& observer);

  const TrainingOptions& options() const { return options_; }
  double Rate() const;  // of the step that is taken
  double training_tokens() const { return TokensOf(training_); }
  double validation_tokens() const { return TokensOf(validation_); }
  Index training_rows() const { return std::ssize(training_); }
  // Calls visit(some of the validation rows), as many as a step takes, until that is an error.
  absl::Status ForValidationRows(
      const std::function<absl::Status(const RowBatch& rows)>& visit) const;

 private:
  // One step on these rows. Returns the mean loss over their tokens before it.
  virtual absl::StatusOr<double> Step(const RowBatch& rows) = 0;
  // The mean loss over the tokens of the validation rows.
  virtual absl::StatusOr<double> ValidationLoss() = 0;
  virtual void KeepAsBest() = 0;  // the weights as they are now
  virtual void TakeBest() = 0;    // those that were kept last; as given before the first

  RowBatch RowsAt(absl::Span<const Index> rows) const;
  RowBatch RowsOfStep(int step) const;
  double TokensOf(absl::Span<const Index> rows) const;
  absl::Status Look();

  const TrainingOptions options_;
  const std::vector<Index> lengths_;
  std::vector<Index> begins_, training_, validation_;
  TrainingPoint point_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_SEQUENTIAL_TRAINING_H_
