#include "core/sequential/training.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>
#include <utility>

#include "core/base/status_macros.h"
#include "core/model/token_draw.h"
#include "core/tensor/copy_rows.h"

namespace attnprune {
namespace {

// Whether a look follows step `step` of `steps`.
bool LooksAfter(int step, int steps) {
  return step * kTrainingLooks / steps > (step - 1) * kTrainingLooks / steps;
}

// The order of the rows in pass `epoch` over them.
std::vector<Index> ShuffledRows(uint64_t seed, Index epoch, Index rows) {
  std::vector<std::pair<double, Index>> drawn;
  drawn.reserve(static_cast<size_t>(rows));
  for (Index i = 0; i < rows; ++i) drawn.emplace_back(UniformOfDraw(seed, epoch, i), i);
  std::sort(drawn.begin(), drawn.end());
  std::vector<Index> order;
  order.reserve(drawn.size());
  for (const auto& [key, row] : drawn) order.push_back(row);
  return order;
}

}  // namespace

Index RowBatch::tokens() const { return std::accumulate(lengths.begin(), lengths.end(), Index{0}); }

void CopyRowsOf(const RowBatch& rows, MatrixView all, MutableMatrixView to) {
  Index next = 0;
  for (size_t i = 0; i < rows.first.size(); ++i) {
    CopyRows(all.Rows(rows.first[i], rows.lengths[i]), to.Rows(next, rows.lengths[i]));
    next += rows.lengths[i];
  }
}

Training::Training(absl::Span<const Index> lengths, const std::vector<bool>& decides,
                   const TrainingOptions& options)
    : options_(options), lengths_(lengths.begin(), lengths.end()) {
  begins_.reserve(lengths_.size());
  Index first = 0;
  for (size_t row = 0; row < lengths_.size(); ++row) {
    begins_.push_back(first);
    first += lengths_[row];
    (decides[row] ? validation_ : training_).push_back(static_cast<Index>(row));
  }
}

double Training::TokensOf(absl::Span<const Index> rows) const {
  return static_cast<double>(RowsAt(rows).tokens());
}

double Training::Rate() const {
  return options_.rate * (1 + std::cos(std::numbers::pi * point_.steps / options_.steps)) / 2;
}

RowBatch Training::RowsAt(absl::Span<const Index> rows) const {
  RowBatch batch;
  batch.first.reserve(rows.size());
  batch.lengths.reserve(rows.size());
  for (const Index row : rows) {
    batch.first.push_back(begins_[static_cast<size_t>(row)]);
    batch.lengths.push_back(lengths_[static_cast<size_t>(row)]);
  }
  return batch;
}

RowBatch Training::RowsOfStep(int step) const {
  const Index all = std::ssize(training_), count = std::min(options_.rows, all);
  std::vector<Index> rows, order;
  rows.reserve(static_cast<size_t>(count));
  Index epoch = -1;
  for (Index place = step * count; place < (step + 1) * count; ++place) {
    if (place / all != epoch) {
      epoch = place / all;
      order = ShuffledRows(options_.seed, epoch, all);
    }
    const Index drawn = order[static_cast<size_t>(place % all)];
    rows.push_back(training_[static_cast<size_t>(drawn)]);
  }
  return RowsAt(rows);
}

absl::Status Training::ForValidationRows(
    const std::function<absl::Status(const RowBatch& rows)>& visit) const {
  const absl::Span<const Index> all = validation_;
  for (Index first = 0; first < std::ssize(validation_); first += options_.rows) {
    ATTNPRUNE_RETURN_IF_ERROR(
        visit(RowsAt(all.subspan(static_cast<size_t>(first), static_cast<size_t>(options_.rows)))));
  }
  return absl::OkStatus();
}

absl::Status Training::Look() {
  ATTNPRUNE_ASSIGN_OR_RETURN(const double loss, ValidationLoss());
  if (!point_.start.has_value()) {
    point_.start = point_.best = loss;
  } else if (loss < *point_.best) {
    point_.best = loss;
    point_.best_step = point_.steps;
    KeepAsBest();
  }
  return absl::OkStatus();
}

absl::Status Training::RunSteps(const TrainingObserver& observer) {
  if (!point_.start.has_value()) ATTNPRUNE_RETURN_IF_ERROR(Look());
  while (point_.steps < options_.steps) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const double loss, Step(RowsOfStep(point_.steps)));
    if (!std::isfinite(loss)) break;
    ++point_.steps;
    if (LooksAfter(point_.steps, options_.steps)) ATTNPRUNE_RETURN_IF_ERROR(Look());
    if (observer && !observer(point_, loss)) return absl::CancelledError("interrupted");
  }
  TakeBest();
  return absl::OkStatus();
}

}  // namespace attnprune
