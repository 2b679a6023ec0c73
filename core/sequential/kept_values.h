// What a layer made of some tokens as far as it is pruned, so that its next pass over them goes on
// there.
#ifndef ATTNPRUNE_CORE_SEQUENTIAL_KEPT_VALUES_H_
#define ATTNPRUNE_CORE_SEQUENTIAL_KEPT_VALUES_H_

#include <cstddef>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/types/optional.h"
#include "core/io/spilled_matrix.h"
#include "core/model/layer_forward.h"
#include "core/model/model_options.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// Floats a token.
Index KeptWidth(const ModelOptions& model);

// The values of every token at one point of a layer; at its input: none. They have the bits that a
// pass from the layer's input gives there.
class KeptValues {
 public:
  // model must outlive it. folder: where they are in a file; empty: in memory.
  KeptValues(const ModelOptions& model, std::string folder)
      : model_(model), folder_(std::move(folder)) {}

  // Before a pass over `rows` tokens up to `until`, which goes on from the values where they are
  // not behind that. keep: it leaves those at LastPointBefore(until) in their place; until it has
  // ended there are none. Errors of ScratchMatrix::Create.
  absl::Status BeginPass(LayerHooks::Until until, Index rows, bool keep);
  // Makes a run of the layer on rows first, first + 1, ... a part of the pass.
  void Attach(Index first, Index rows, LayerHooks& hooks);
  // After all rows.
  void EndPass() { at_ = to_; }

  // A map of this group (stretch.h) has changed: values behind it are forgotten.
  void Change(size_t group);
  void Forget() { at_ = LayerPoint::kInput; }

  LayerPoint at() const { return at_; }

 private:
  MutableMatrixView At(LayerPoint point, Index first, Index rows);

  const ModelOptions& model_;
  const std::string folder_;
  LayerPoint at_ = LayerPoint::kInput;
  LayerPoint from_ = LayerPoint::kInput, to_ = LayerPoint::kInput;  // of the pass
  absl::optional<ScratchMatrix> values_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_SEQUENTIAL_KEPT_VALUES_H_
