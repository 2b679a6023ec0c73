// A model's head, a piece of the vocabulary at a time: never all of its weights or logits at once.
#ifndef ATTNPRUNE_CORE_MODEL_VOCABULARY_HEAD_H_
#define ATTNPRUNE_CORE_MODEL_VOCABULARY_HEAD_H_

#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "core/base/thread_pool.h"
#include "core/kernels/bf16_gemm.h"
#include "core/model/layer_forward.h"
#include "core/model/model_options.h"
#include "core/model/model_weights.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// Not thread-safe; it uses the pool's threads inside. Bits as LayerForward's.
class VocabularyHead {
 public:
  static constexpr Index kPiece = 4096;  // tokens of the vocabulary
  static constexpr Index kRows = 1024;   // of the head's input that are multiplied at a time
  static constexpr Index kGroup = 4096;  // rows for which callers pass the vocabulary

  // weights and pool must outlive it. ModelWeights::Head's errors.
  static absl::StatusOr<VocabularyHead> Open(const ModelWeights& weights, ThreadPool& pool,
                                             Compute compute);

  Index vocabulary() const { return map_.out; }
  Index width() const { return map_.in; }

  // Holds the weights of tokens [first, first + count()), in which count() is kPiece or what is
  // left of the vocabulary.
  absl::Status Load(Index first);
  Index first() const { return first_; }
  Index count() const { return count_; }
  MatrixView weight() const { return MatrixView(weight_).Rows(0, count_); }  // count() x width()

  // Calls visit(row, logits) for runs of the input's rows, kRows each, with the logits of the piece
  // held: rows x count(), scale and softcap included.
  void ForLogits(MatrixView input,
                 absl::FunctionRef<void(Index row, MutableMatrixView logits)> visit);

  // d: the gradient at logits on entry; on return at input W' + b, where they come from.
  void ThroughScaleAndSoftcap(MatrixView logits, MutableMatrixView d) const;

 private:
  VocabularyHead(const ModelOptions& options, ThreadPool& pool, Compute compute, StoredMap map,
                 std::vector<float> bias)
      : options_(&options),
        pool_(&pool),
        compute_(compute),
        map_(std::move(map)),
        bias_(std::move(bias)) {}

  void Finish(Index col, MutableMatrixView logits) const;

  const ModelOptions* options_;
  ThreadPool* pool_;
  Compute compute_;
  StoredMap map_;
  std::vector<float> bias_;
  Index first_ = 0, count_ = 0;
  Matrix weight_, logits_;
  Bf16Matrix half_weight_, half_input_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_MODEL_VOCABULARY_HEAD_H_
