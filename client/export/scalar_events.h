// A job's events as TensorBoard's scalars: which charts there are is decided here alone.
#ifndef ATTNPRUNE_CLIENT_EXPORT_SCALAR_EVENTS_H_
#define ATTNPRUNE_CLIENT_EXPORT_SCALAR_EVENTS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "attnprune/v1/prune_service.pb.h"
#include "tensorboard/event.pb.h"

namespace attnprune::exporting {

// One method's curve, in ascending steps. Progress of a step that has been there before, after a
// lost worker, voids everything from that step on.
class ScalarEvents {
 public:
  // The records that `event`, which has figures of this method (MethodOf), adds to its file. First
  // a START where steps are taken again. Their time is the event's own.
  //
  // Each step: attention_loss, regularization, soft_relative_error, gradient_norm and, where it was
  // evaluated, relative_error/calibration and relative_error/held_out. A result, at the number of
  // steps taken: sparsity, result/calibration, result/held_out; a method that has shown no step has
  // relative_error/... there too, so that it is in the same charts.
  std::vector<tensorboard::Event> Add(const v1::JobEvent& event);

 private:
  int64_t last_step_ = -1;  // of progress
};

// The label of the method that `event` has figures of; empty: of none.
std::string MethodOf(const v1::JobEvent& event);

// `events` without the progress that later progress of the same method voids. For a file that is
// written when all of them are known. Pure.
std::vector<v1::JobEvent> WithoutVoidSteps(const std::vector<v1::JobEvent>& events);

}  // namespace attnprune::exporting

#endif  // ATTNPRUNE_CLIENT_EXPORT_SCALAR_EVENTS_H_
