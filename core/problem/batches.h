// Calibration or held-out batches: several sequences of tokens stacked in one matrix.
#ifndef ATTNPRUNE_CORE_PROBLEM_BATCHES_H_
#define ATTNPRUNE_CORE_PROBLEM_BATCHES_H_

#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "absl/types/variant.h"
#include "core/io/spilled_matrix.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// k batches X_j of n_j x d, stacked by rows so that one GEMM serves all of them; in memory, or in
// a file of their own that the system reads when they are asked for.
class Batches {
 public:
  using Tokens = absl::variant<Matrix, SpilledMatrix>;

  Batches() = default;
  // tokens: (sum of lengths) x d. Lengths in tokens; their sum must be the rows of `tokens`.
  Batches(Tokens tokens, std::vector<Index> lengths);
  // Copies the batches, all of one width, into one stack in memory.
  static Batches Stack(const std::vector<Matrix>& batches);

  Index count() const { return static_cast<Index>(lengths_.size()); }
  Index features() const { return all().cols(); }
  Index total_tokens() const { return all().rows(); }
  Index longest() const;
  Index begin(Index j) const { return begins_[static_cast<size_t>(j)]; }
  Index length(Index j) const { return lengths_[static_cast<size_t>(j)]; }
  MatrixView all() const;
  MatrixView batch(Index j) const { return all().Rows(begin(j), length(j)); }

  // Copies of some of them, in the order of `picked`, stored as these are. An error only where
  // that is a file: that of SpilledMatrixWriter.
  absl::StatusOr<Batches> Pick(absl::Span<const Index> picked) const;
  Batches Clone() const { return Batches(Matrix::CopyFrom(all()), lengths_); }  // in memory

 private:
  Tokens tokens_;
  std::vector<Index> lengths_, begins_;
};

// What stands in the way of learning from a batch: "64 equal rows" or "64 rows of zeros". nullopt:
// two rows differ, or there is one. Pure; reads no further than to the first row that does.
absl::optional<std::string> EqualRows(MatrixView batch);

// Stacks batches where they are to stay, without a second copy in memory.
class BatchesBuilder {
 public:
  // spill_folder: where the tokens' file is made; empty: they stay in memory. Throws
  // std::bad_alloc.
  static absl::StatusOr<BatchesBuilder> Create(Index tokens, Index features,
                                               const std::string& spill_folder);

  // fill(first, out) writes rows first, first + 1, ... of those to be appended, as many as `out`
  // has; out's rows follow each other without a gap. It is called with consecutive pieces.
  using Fill = absl::FunctionRef<absl::Status(Index first, MutableMatrixView out)>;
  // fill's error, or SpilledMatrixWriter's. Not more rows in all than Create was told.
  absl::Status Append(Index rows, Fill fill);
  // Once all rows are there. SpilledMatrixWriter's error.
  absl::StatusOr<Batches> Finish(std::vector<Index> lengths);

 private:
  BatchesBuilder(Index tokens, Index features, absl::optional<SpilledMatrixWriter> file);

  Index tokens_, features_, appended_ = 0;
  absl::optional<SpilledMatrixWriter> file_;
  Matrix rows_;  // all of them, or room for a piece of the file
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_PROBLEM_BATCHES_H_
