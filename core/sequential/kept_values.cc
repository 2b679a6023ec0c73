#include "core/sequential/kept_values.h"

#include <algorithm>

#include "core/base/status_macros.h"
#include "core/tensor/copy_rows.h"

namespace attnprune {
namespace {

Index WidthAt(const ModelOptions& model, LayerPoint point) {
  return point == LayerPoint::kMixed ? model.heads * model.head_dim : model.hidden_size;
}

}  // namespace

Index KeptWidth(const ModelOptions& model) {
  return std::max(WidthAt(model, LayerPoint::kMixed), WidthAt(model, LayerPoint::kAttended));
}

absl::Status KeptValues::BeginPass(LayerHooks::Until until, Index rows, bool keep) {
  const LayerPoint last = LastPointBefore(until);
  from_ = at_ <= last ? at_ : LayerPoint::kInput;
  to_ = keep ? last : from_;
  if (to_ == from_) return absl::OkStatus();
  at_ = LayerPoint::kInput;
  if (values_.has_value() && values_->view().rows() == rows) return absl::OkStatus();
  values_.reset();
  ATTNPRUNE_ASSIGN_OR_RETURN(ScratchMatrix values,
                             ScratchMatrix::Create(rows, KeptWidth(model_), folder_));
  values_.emplace(std::move(values));
  return absl::OkStatus();
}

MutableMatrixView KeptValues::At(LayerPoint point, Index first, Index rows) {
  return values_->view().Block(first, 0, rows, WidthAt(model_, point));
}

// Values at the next point take the place of those that a run has read.
void KeptValues::Attach(Index first, Index rows, LayerHooks& hooks) {
  hooks.from = from_;
  if (from_ != LayerPoint::kInput) hooks.values = At(from_, first, rows);
  if (to_ == from_) return;
  LayerHooks::Input& here = to_ == LayerPoint::kMixed ? hooks.output_input : hooks.attention_output;
  here = [to = At(to_, first, rows), then = std::move(here)](Index row, MatrixView values) {
    CopyRows(values, to.Rows(row, values.rows()));
    if (then) then(row, values);
  };
}

void KeptValues::Change(size_t group) {
  if (static_cast<size_t>(at_) > group) Forget();
}

}  // namespace attnprune
