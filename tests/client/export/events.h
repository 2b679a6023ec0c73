// Events of a job, for tests.
#ifndef ATTNPRUNE_TESTS_CLIENT_EXPORT_EVENTS_H_
#define ATTNPRUNE_TESTS_CLIENT_EXPORT_EVENTS_H_

#include <string>

#include "attnprune/v1/prune_service.pb.h"

namespace attnprune::exporting {

// At second 1764000000 + step + 0.5, with a loss of 1 / step.
inline v1::JobEvent ProgressAt(const std::string& method, int step) {
  v1::JobEvent event;
  event.set_sequence(step + 1);
  event.mutable_time()->set_seconds(1764000000 + step);
  event.mutable_time()->set_nanos(500'000'000);
  v1::Progress& progress = *event.mutable_progress();
  progress.set_method(method);
  progress.set_step(step);
  progress.set_steps(100);
  progress.set_attention_loss(1.0 / step);
  progress.set_gradient_norm(2);
  progress.set_elapsed_seconds(0.25);
  return event;
}

inline v1::JobEvent EvaluatedAt(const std::string& method, int step, double calibration,
                                double held_out) {
  v1::JobEvent event = ProgressAt(method, step);
  event.mutable_progress()->set_calibration_error(calibration);
  event.mutable_progress()->set_held_out_error(held_out);
  return event;
}

inline v1::JobEvent ResultOf(const std::string& method, int steps) {
  v1::JobEvent event;
  event.set_sequence(900);
  event.mutable_time()->set_seconds(1764000900);
  v1::MethodResult& result = *event.mutable_method_result();
  result.set_method(method);
  result.set_steps(steps);
  result.set_sparsity(0.5);
  result.mutable_relative_error()->set_calibration(0.125);
  result.mutable_relative_error()->set_held_out(0.25);
  return event;
}

}  // namespace attnprune::exporting

#endif  // ATTNPRUNE_TESTS_CLIENT_EXPORT_EVENTS_H_
