#include "server/execution/run_messages.h"

#include <string>
#include <utility>

#include "server/execution/job_tensor.h"
#include "server/execution/run_plan.h"

namespace attnprune {
namespace {

v1::Sparsity SparsityMessage(const Sparsity& sparsity) {
  v1::Sparsity message;
  if (sparsity.structured()) {
    message.mutable_n_of_m()->set_n(sparsity.pruned);
    message.mutable_n_of_m()->set_m(sparsity.group);
  } else {
    message.set_fraction(sparsity.fraction);
  }
  return message;
}

}  // namespace

v1::PrunedTensor DescribeTensor(const Stretch::Tensor& tensor, const PrunedWeights& pruned) {
  const TensorInfo& stored = *tensor.what.stored;
  v1::PrunedTensor message;
  message.set_name(stored.name);
  for (std::string& role : RolesOf(tensor.what.maps)) message.add_maps(std::move(role));
  for (v1::TensorRef* const ref : {message.mutable_weights(), message.mutable_mask()}) {
    ref->set_name(stored.name);
    for (const Index extent : stored.shape) ref->add_shape(extent);
  }
  message.mutable_weights()->set_dtype(ToProto(stored.dtype));
  message.mutable_mask()->set_dtype(v1::BITMASK);
  message.set_size(pruned.mask.size());
  message.set_pruned(pruned.mask.CountPruned());
  message.set_sparsity(static_cast<double>(message.pruned()) / static_cast<double>(message.size()));
  message.set_calibration_error(pruned.calibration_error);
  if (pruned.held_out_error.has_value()) message.set_held_out_error(*pruned.held_out_error);
  message.set_steps(pruned.steps);
  return message;
}

void DescribeChoice(const ChosenMethod& method, const Sparsity& sparsity, double seconds,
                    v1::PrunedTensor& message) {
  message.set_method(method.info->name);
  *message.mutable_asked() = SparsityMessage(sparsity);
  message.set_seconds(seconds);
}

}  // namespace attnprune
