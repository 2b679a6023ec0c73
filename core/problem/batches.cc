#include "core/problem/batches.h"

#include <algorithm>
#include <utility>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace attnprune {
namespace {

// Rows of a file that are written at a time.
Index RowsOfPiece(Index tokens, Index features) {
  constexpr Index kFloats = Index{1} << 18;
  return std::min(tokens, std::max<Index>(kFloats / std::max<Index>(features, 1), 1));
}

}  // namespace

absl::optional<std::string> EqualRows(MatrixView batch) {
  if (batch.rows() < 2) return absl::nullopt;
  const absl::Span<const float> first(batch.row(0), static_cast<size_t>(batch.cols()));
  for (Index i = 1; i < batch.rows(); ++i) {
    if (!absl::c_equal(first, absl::MakeSpan(batch.row(i), first.size()))) return absl::nullopt;
  }
  const bool zeros = absl::c_all_of(first, [](float value) { return value == 0; });
  return absl::StrCat(batch.rows(), zeros ? " rows of zeros" : " equal rows");
}

Batches::Batches(Tokens tokens, std::vector<Index> lengths)
    : tokens_(std::move(tokens)), lengths_(std::move(lengths)) {
  begins_.reserve(lengths_.size());
  Index begin = 0;
  for (const Index length : lengths_) {
    begins_.push_back(begin);
    begin += length;
  }
}

MatrixView Batches::all() const {
  if (const auto* spilled = absl::get_if<SpilledMatrix>(&tokens_)) return spilled->view();
  return absl::get<Matrix>(tokens_);
}

Batches Batches::Stack(const std::vector<Matrix>& batches) {
  std::vector<Index> lengths;
  Index total = 0;
  for (const Matrix& batch : batches) {
    lengths.push_back(batch.rows());
    total += batch.rows();
  }
  Matrix tokens(total, batches.empty() ? 0 : batches.front().cols());
  float* out = tokens.data();
  for (const Matrix& batch : batches) {
    out = std::copy_n(batch.data(), static_cast<size_t>(batch.size()), out);
  }
  return Batches(std::move(tokens), std::move(lengths));
}

absl::StatusOr<Batches> Batches::Pick(absl::Span<const Index> picked) const {
  const auto* spilled = absl::get_if<SpilledMatrix>(&tokens_);
  std::vector<Index> lengths;
  Index tokens = 0;
  for (const Index j : picked) {
    lengths.push_back(length(j));
    tokens += length(j);
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(
      BatchesBuilder builder,
      BatchesBuilder::Create(tokens, features(), spilled == nullptr ? "" : spilled->folder()));
  for (const Index j : picked) {
    const MatrixView from = batch(j);
    const auto copy = [&from](Index first, MutableMatrixView out) {
      std::copy_n(from.row(first), out.size(), out.data());
      return absl::OkStatus();
    };
    ATTNPRUNE_RETURN_IF_ERROR(builder.Append(from.rows(), copy));
  }
  return builder.Finish(std::move(lengths));
}

Index Batches::longest() const {
  return lengths_.empty() ? 0 : *std::max_element(lengths_.begin(), lengths_.end());
}

BatchesBuilder::BatchesBuilder(Index tokens, Index features,
                               absl::optional<SpilledMatrixWriter> file)
    : tokens_(tokens),
      features_(features),
      file_(std::move(file)),
      rows_(file_.has_value() ? RowsOfPiece(tokens, features) : tokens, features) {}

absl::StatusOr<BatchesBuilder> BatchesBuilder::Create(Index tokens, Index features,
                                                      const std::string& spill_folder) {
  if (spill_folder.empty()) return BatchesBuilder(tokens, features, absl::nullopt);
  ATTNPRUNE_ASSIGN_OR_RETURN(SpilledMatrixWriter file, SpilledMatrixWriter::Create(spill_folder));
  return BatchesBuilder(tokens, features, std::move(file));
}

absl::Status BatchesBuilder::Append(Index rows, Fill fill) {
  if (!file_.has_value()) {
    const Index begin = std::exchange(appended_, appended_ + rows);
    return fill(0, MutableMatrixView(rows_).Rows(begin, rows));
  }
  for (Index first = 0; first < rows; first += rows_.rows()) {
    const MutableMatrixView piece =
        MutableMatrixView(rows_).Rows(0, std::min(rows_.rows(), rows - first));
    ATTNPRUNE_RETURN_IF_ERROR(fill(first, piece));
    ATTNPRUNE_RETURN_IF_ERROR(file_->Append({piece.data(), static_cast<size_t>(piece.size())}));
  }
  return absl::OkStatus();
}

absl::StatusOr<Batches> BatchesBuilder::Finish(std::vector<Index> lengths) {
  if (!file_.has_value()) return Batches(std::move(rows_), std::move(lengths));
  ATTNPRUNE_ASSIGN_OR_RETURN(SpilledMatrix tokens, file_->Finish(tokens_, features_));
  return Batches(std::move(tokens), std::move(lengths));
}

}  // namespace attnprune
