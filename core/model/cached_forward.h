// A whole model on sequences that grow side by side, a token each at a time: keys and values of all
// layers are kept, so that a sequence costs about one forward pass.
#ifndef ATTNPRUNE_CORE_MODEL_CACHED_FORWARD_H_
#define ATTNPRUNE_CORE_MODEL_CACHED_FORWARD_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/model/forward.h"
#include "core/model/layer_cache.h"
#include "core/model/layer_forward.h"
#include "core/model/model_weights.h"
#include "core/model/vocabulary_head.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// Where the weights are between two positions. No bit of an answer depends on it.
enum class HeldWeights {
  kAll,       // layers and head in float32
  kOneLayer,  // one layer, or a piece of the head: read again at each position
};

// In float32. Not thread-safe: `forward`'s pool is used. The bits depend on the input and the CPU
// type only, not on the number of threads.
class CachedForward {
 public:
  // forward must outlive it. CheckPredicts's errors.
  static absl::StatusOr<CachedForward> Open(Forward& forward, HeldWeights held);

  // Begins with sequences that will have these lengths, which never rise; at least one. Whatever
  // was kept of others is gone.
  void Begin(absl::Span<const Index> lengths);

  // The next token of each of the first ids.size() sequences, at least one, all of which are longer
  // than what they have so far. Those left out have ended. ids have passed CheckTokens.
  absl::Status Advance(absl::Span<const int64_t> ids);

  // What the model says of the token after these: ids.size() x vocabulary, in *logits.
  absl::Status Logits(Matrix& logits);

 private:
  explicit CachedForward(Forward& forward)
      : forward_(forward), layer_(forward.options(), forward.pool()) {}

  Forward& forward_;
  LayerForward layer_;
  std::vector<LayerWeights> layers_;   // all, or the one in use
  std::vector<VocabularyHead> heads_;  // a piece each, or one for all pieces
  bool all_held_ = false;
  std::vector<LayerCache> caches_;  // by layer
  Index position_ = 0;
  Matrix x_;  // the last layer's output
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_MODEL_CACHED_FORWARD_H_
