#include "core/model/vocabulary_head.h"

#include <algorithm>
#include <cmath>

#include "core/base/status_macros.h"
#include "core/io/mapped_file.h"
#include "core/model/bf16_products.h"
#include "core/model/layer_parts.h"
#include "core/objective/sharded_gemm.h"

namespace attnprune {

absl::StatusOr<VocabularyHead> VocabularyHead::Open(const ModelWeights& weights, ThreadPool& pool,
                                                    Compute compute) {
  ATTNPRUNE_ASSIGN_OR_RETURN(StoredMap map, weights.Head());
  ATTNPRUNE_ASSIGN_OR_RETURN(std::vector<float> bias, ReadBias(map));
  return VocabularyHead(weights.options(), pool, compute, std::move(map), std::move(bias));
}

absl::Status VocabularyHead::Load(Index first) {
  constexpr Index kShard = 64;
  first_ = first;
  count_ = std::min(kPiece, vocabulary() - first);
  const MutableMatrixView weight = Room(weight_, count_, width());
  const Index shards = (count_ + kShard - 1) / kShard;
  std::vector<absl::Status> read(static_cast<size_t>(shards));
  pool_->ParallelFor(shards, [&](Index shard) {
    const Index row = shard * kShard, rows = std::min(kShard, count_ - row);
    read[static_cast<size_t>(shard)] = ReadRows(map_, first + row, weight.Rows(row, rows));
  });
  const size_t row_bytes = static_cast<size_t>(width()) * SizeOf(map_.weight->dtype);
  ReleasePages(map_.weight->bytes.subspan(static_cast<size_t>(first) * row_bytes,
                                          static_cast<size_t>(count_) * row_bytes));
  for (const absl::Status& status : read) ATTNPRUNE_RETURN_IF_ERROR(status);
  if (compute_ == Compute::kBf16) ConvertToBf16(*pool_, weight, half_weight_);
  return absl::OkStatus();
}

// Bias, scale and softcap of some logits that begin at the piece's token `col`.
void VocabularyHead::Finish(Index col, MutableMatrixView logits) const {
  const auto scale = static_cast<float>(options_->logit_scale);
  const auto cap = static_cast<float>(options_->logit_softcap);
  AddRow(bias_, first_ + col, logits);
  for (Index i = 0; i < logits.rows(); ++i) {
    float* const row = logits.row(i);
    if (scale != 1) {
      for (Index j = 0; j < logits.cols(); ++j) row[j] *= scale;
    }
    if (cap == 0) continue;
    for (Index j = 0; j < logits.cols(); ++j) row[j] = cap * std::tanh(row[j] / cap);
  }
}

void VocabularyHead::ForLogits(MatrixView input,
                               absl::FunctionRef<void(Index row, MutableMatrixView logits)> visit) {
  const auto finish = [this](Index, Index col, MutableMatrixView tile) { Finish(col, tile); };
  for (Index row = 0; row < input.rows(); row += kRows) {
    const MatrixView here = input.Rows(row, std::min(kRows, input.rows() - row));
    const MutableMatrixView logits = Room(logits_, here.rows(), count_);
    if (compute_ == Compute::kBf16) {
      ConvertToBf16(*pool_, here, half_input_);
      ShardedBf16Gemm(*pool_, half_input_, half_weight_, logits, finish);
    } else {
      ShardedGemm(*pool_, here, Trans::kYes, weight(), logits, 1, finish);
    }
    visit(row, logits);
  }
}

void VocabularyHead::ThroughScaleAndSoftcap(MatrixView logits, MutableMatrixView d) const {
  const auto scale = static_cast<float>(options_->logit_scale);
  const auto cap = static_cast<float>(options_->logit_softcap);
  for (Index i = 0; i < d.rows(); ++i) {
    for (Index j = 0; j < d.cols(); ++j) {
      const float share = cap == 0 ? 0.0f : logits(i, j) / cap;
      d(i, j) *= scale * (1.0f - share * share);
    }
  }
}

}  // namespace attnprune
