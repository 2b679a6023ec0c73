// What lies between the last layer and the head, on the way back: final norm and projection.
#ifndef ATTNPRUNE_CORE_MODEL_FINAL_MAP_H_
#define ATTNPRUNE_CORE_MODEL_FINAL_MAP_H_

#include "absl/status/statusor.h"
#include "core/base/thread_pool.h"
#include "core/model/model_weights.h"
#include "core/tensor/matrix.h"

namespace attnprune {

struct FinalMap {
  OptionalNorm norm;
  Matrix projection;  // embedding_width x hidden_size; empty: none

  // Errors of ModelWeights::Norm and Plain.
  static absl::StatusOr<FinalMap> Load(const ModelWeights& weights);

  // x: the last layer's output. d: the gradient at what the head reads of it (Forward::Final).
  // gradient: of x's shape, gets the one in x. The bits depend on the input and the CPU type only.
  void Backward(ThreadPool& pool, MatrixView x, MatrixView d, MutableMatrixView gradient) const;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_MODEL_FINAL_MAP_H_
