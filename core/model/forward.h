// A whole model: token ids to hidden states, layer by layer, to logits and loss.
#ifndef ATTNPRUNE_CORE_MODEL_FORWARD_H_
#define ATTNPRUNE_CORE_MODEL_FORWARD_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/base/thread_pool.h"
#include "core/model/layer_forward.h"
#include "core/model/model_options.h"
#include "core/model/model_weights.h"
#include "core/model/tokens.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// INVALID_ARGUMENT naming the id and the sequence unless every id is in [0, vocab), and every
// sequence as short as learned positions allow.
absl::Status CheckTokens(const ModelWeights& model, const Tokens& tokens);

// Whether the model predicts next tokens and has all that its head needs. FAILED_PRECONDITION for
// masked models; NOT_FOUND or INVALID_ARGUMENT names the tensor.
absl::Status CheckPredicts(const ModelWeights& model);

// Holds one layer's weights at a time. Not thread-safe: one caller at a time; it uses the pool's
// threads inside. Answers depend on the input and the CPU type only, not on the number of threads.
class Forward {
 public:
  // The model in `folder`, all of whose tensors but the head's are checked. `pool` must outlive it.
  // Errors are those of LoadModelOptions, ModelWeights::Open and ModelWeights::Check;
  // InitializeBlas's; with Compute::kBf16, CheckBf16Products's.
  static absl::StatusOr<std::unique_ptr<Forward>> Open(const std::string& folder, ThreadPool& pool,
                                                       Compute compute = Compute::kFloat32);

  // The same of weights that are at hand.
  static absl::StatusOr<std::unique_ptr<Forward>> Create(ModelWeights weights, ThreadPool& pool,
                                                         Compute compute = Compute::kFloat32);

  const ModelOptions& options() const { return weights_.options(); }
  const ModelWeights& weights() const { return weights_; }
  Compute compute() const { return compute_; }
  ThreadPool& pool() const { return pool_; }

  absl::Status Check(const Tokens& tokens) const { return CheckTokens(weights_, tokens); }

  // x: tokens x hidden_size; the input of layer 0. `tokens` has passed Check.
  absl::Status Embed(const Tokens& tokens, MutableMatrixView x) const;
  // The same of single tokens, each with its position in its sequence.
  absl::Status Embed(absl::Span<const int64_t> ids, absl::Span<const Index> positions,
                     MutableMatrixView x) const;

  // x: a layer's input on entry, its output on return. CANCELLED if hooks.goes_on ended it.
  absl::Status RunLayer(Index layer, absl::Span<const Index> lengths, MutableMatrixView x,
                        const LayerHooks& hooks = {});

  // From the last layer's output to what the head reads, rows x embedding_width: final norm and
  // projection.
  absl::StatusOr<Matrix> Final(MatrixView x);

  absl::Status CheckPredicts() const { return attnprune::CheckPredicts(weights_); }

  // -log p(id_{t + 1}) in nats for t = 0 ... n - 2 of every sequence, one sequence behind the
  // other; x: the last layer's output, over which what the head reads is written. Never all logits
  // at once.
  // goes_on, unless null, is told the share that is done after each piece of the vocabulary; where
  // it returns false the answer is CANCELLED.
  // CheckPredicts's errors.
  absl::StatusOr<std::vector<double>> TokenLosses(
      const Tokens& tokens, MutableMatrixView x,
      const std::function<bool(double share)>& goes_on = nullptr);

  // What q, k and v of a layer read, from the layer's input: its norm, if it has one before.
  absl::Status AttentionInput(Index layer, MatrixView x, MutableMatrixView out) const;

  // All logits, rows x vocab: for a few rows.
  absl::StatusOr<Matrix> Logits(MatrixView x);

 private:
  Forward(ModelWeights weights, ThreadPool& pool, Compute compute)
      : weights_(std::move(weights)),
        pool_(pool),
        compute_(compute),
        layer_(weights_.options(), pool, compute) {}

  absl::StatusOr<Matrix> HeadInput(MatrixView x);
  absl::StatusOr<MatrixView> HeadInputInPlace(MutableMatrixView x);

  const ModelWeights weights_;
  ThreadPool& pool_;
  const Compute compute_;
  LayerForward layer_;
  LayerWeights loaded_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_MODEL_FORWARD_H_
