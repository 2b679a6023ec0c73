#include "core/objective/attention_objective.h"

#include <algorithm>
#include <cmath>
#include <new>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/base/sum.h"
#include "core/kernels/blas.h"

namespace attnprune {
namespace {

constexpr double kSoftmaxOperations = 100;  // an entry: exp, maximum, sum, division
constexpr double kSoftcapOperations = 50;   // an entry: tanh

double OperationsOfAnEntry(const ProblemShape& shape) {
  return 2 * static_cast<double>(shape.head_dim()) + kSoftmaxOperations +
         (shape.has_softcap() ? kSoftcapOperations : 0);
}

double HeadsOperations(const ProblemShape& shape, const DataSize& data, double per_entry) {
  return data.allowed * static_cast<double>(shape.heads()) * per_entry;
}

// Tokens, a chunk's projections and gradients, dense attention.
double DataFloats(const ProblemShape& shape, const DataSize& data, DenseAttention dense) {
  constexpr double kChunkFloats = 8 << 20, kPaddingOfARow = 32;
  const double features = static_cast<double>(shape.features());
  const double outputs = static_cast<double>(shape.outputs());
  const double heads = static_cast<double>(shape.heads());
  const double width = heads * static_cast<double>(shape.head_dim());
  const double chunk = std::min(data.tokens, std::max(data.longest, kChunkFloats / width));
  // Projections and gradients, and the projections before a norm or after a clip.
  const double chunks_own = (shape.has_norm_or_clip() ? 3 : 2) * outputs * chunk;
  const double row_sums = 2 * heads * data.tokens;
  switch (dense) {
    case DenseAttention::kKeep:
      return data.tokens * features + chunks_own +
             heads * (data.allowed + kPaddingOfARow * data.tokens);
    case DenseAttention::kRebuild:
      return data.tokens * (features + outputs) + chunks_own + row_sums;
    case DenseAttention::kRecompute:
      return chunks_own + outputs * chunk + row_sums;
  }
  return 0;
}

double ScratchFloats(const ProblemShape& shape, const DataSize& data, int threads) {
  constexpr double kTwoBlocksOfRowsAndATile = 136;
  return threads * data.longest *
         (4 * static_cast<double>(shape.head_dim()) + kTwoBlocksOfRowsAndATile);
}

}  // namespace

double AttentionError::relative() const { return Sum(difference) / Sum(dense); }

double AttentionError::relative(Index head) const {
  const size_t h = static_cast<size_t>(head);
  return difference[h] / dense[h];
}

absl::StatusOr<std::unique_ptr<AttentionObjective>> AttentionObjective::Create(
    const Problem& problem, const Batches& batches, const char* field, ThreadPool& pool,
    const ObjectiveOptions& options, const ShareDone& share_done) {
  std::unique_ptr<AttentionObjective> objective;
  try {
    ObjectiveOptions with_workspace = options;
    if (options.workspace == nullptr) with_workspace.workspace = std::make_shared<Workspace>();
    objective = (problem.fused() ? OfFused : OfProjections)(problem, batches, pool, with_workspace);
    objective->FillDense(share_done);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(absl::StrCat(
        field, " needs more memory than there is for the attention of ", batches.count(),
        " batches of up to ", batches.longest(), " tokens and ", problem.heads(), " heads"));
  }
  if (!std::isfinite(objective->dense_norm_squared())) {
    return absl::InvalidArgumentError(
        absl::StrCat("weights and ", field, " must give logits that are finite in float32"));
  }
  return objective;
}

std::vector<MatrixView> FactoredObjective::Product(absl::Span<const MatrixView> factors) {
  const Index d = factors[0].rows();
  if (product_.empty()) product_ = Matrix(d, d);
  Gemm(Trans::kNo, Trans::kYes, 1.0f, factors[0], factors[1], 0.0f, product_);
  return {product_};
}

double FactoredObjective::LossAndGradient(absl::Span<const MatrixView> factors,
                                          absl::Span<Matrix> gradients) {
  const double loss = fused_.LossAndGradient(Product(factors), absl::MakeSpan(gradient_));
  for (size_t i = 0; i < 2; ++i) {
    if (gradients[i].empty()) gradients[i] = Matrix(factors[i].rows(), factors[i].cols());
    Gemm(i == 0 ? Trans::kNo : Trans::kYes, Trans::kNo, 1.0f, gradient_[0], factors[1 - i], 0.0f,
         gradients[i]);
  }
  return loss;
}

AttentionError FactoredObjective::DoError(absl::Span<const MatrixView> factors,
                                          const ErrorOptions& options) {
  return fused_.Error(Product(factors), options);
}

double Entries(const ProblemShape& shape) {
  return static_cast<double>(shape.features()) * static_cast<double>(shape.outputs());
}

double ObjectiveBytes(const ProblemShape& shape, const DataSize& data, DenseAttention dense,
                      int threads) {
  constexpr double kFloat = 4;
  return kFloat * (DataFloats(shape, data, dense) + ScratchFloats(shape, data, threads));
}

double LossOperations(const ProblemShape& shape, const DataSize& data, DenseAttention dense) {
  const double products = dense == DenseAttention::kRecompute ? 4 : 2;
  const double attentions = dense == DenseAttention::kKeep ? 1 : 2;
  return products * data.tokens * Entries(shape) +
         attentions * HeadsOperations(shape, data, OperationsOfAnEntry(shape));
}

double GradientOperations(const ProblemShape& shape, const DataSize& data, DenseAttention dense) {
  return LossOperations(shape, data, dense) + 2 * data.tokens * Entries(shape) +
         HeadsOperations(shape, data, 4 * static_cast<double>(shape.head_dim()));
}

}  // namespace attnprune
