// A run and its events, as a server tells them.
#ifndef ATTNPRUNE_TESTS_CLIENT_CLI_RUN_EXAMPLES_H_
#define ATTNPRUNE_TESTS_CLIENT_CLI_RUN_EXAMPLES_H_

#include <string>

#include "attnprune/v1/prune_service.pb.h"
#include "attnprune/v1/run.pb.h"

namespace attnprune::cli {

inline v1::PrunedTensor ExamplePruned(const std::string& name, const std::string& map) {
  v1::PrunedTensor tensor;
  tensor.set_name(name);
  tensor.add_maps(map);
  tensor.set_method("sparsegpt");
  tensor.mutable_weights()->set_dtype(v1::F16);
  tensor.mutable_weights()->add_shape(2);
  tensor.mutable_weights()->add_shape(8);
  tensor.set_size(16);
  tensor.set_pruned(8);
  tensor.set_sparsity(0.5);
  tensor.set_calibration_error(0.25);
  tensor.set_held_out_error(0.5);
  tensor.set_seconds(1.5);
  tensor.mutable_asked()->mutable_n_of_m()->set_n(2);
  tensor.mutable_asked()->mutable_n_of_m()->set_m(4);
  return tensor;
}

// Two blocks of which the first has its score, and the model's.
inline v1::Run ExampleRun() {
  v1::Run run;
  run.set_name("runs/r-1");
  run.set_state(v1::SUCCEEDED);
  run.mutable_sparsity()->set_fraction(0.5);
  run.mutable_method()->set_name("sparsegpt");
  run.mutable_model()->set_config("{}");
  for (const char* name : {"a.q", "a.down", "b.q", "norm"}) {
    v1::TensorRef& tensor = *run.mutable_model()->add_tensors();
    tensor.set_name(name);
    tensor.set_dtype(v1::F16);
    tensor.add_shape(16);
  }
  run.mutable_calibration()->mutable_ids()->set_sha256("ca11b");
  run.mutable_calibration()->add_lengths(5);
  run.mutable_calibration()->add_lengths(3);
  v1::RunResult& first = *run.add_results();
  *first.add_tensors() = ExamplePruned("a.q", "q");
  *first.add_tensors() = ExamplePruned("a.down", "down");
  first.mutable_block_score()->set_output_error(0.125);
  v1::RunResult& second = *run.add_results();
  second.set_block(1);
  *second.add_tensors() = ExamplePruned("b.q", "q");
  v1::RunResult& last = *run.add_results();
  last.set_block(2);
  last.mutable_model_score()->set_tokens(100);
  last.mutable_model_score()->set_dense_nats_per_token(1);
  last.mutable_model_score()->set_pruned_nats_per_token(1.5);
  last.mutable_model_score()->set_difference(0.5);
  last.mutable_model_score()->set_difference_error_by_token(0.01);
  last.mutable_model_score()->set_difference_error_by_row(0.02);
  run.set_results_done(3);
  run.set_results_total(3);
  return run;
}

inline v1::JobEvent ExampleProgress(double share, int64_t seconds) {
  v1::JobEvent event;
  event.mutable_time()->set_seconds(seconds);
  v1::RunProgress& progress = *event.mutable_run_progress();
  progress.set_block(4);
  progress.set_blocks(16);
  progress.set_phase(v1::PRUNING);
  progress.add_maps("gate");
  progress.add_maps("up");
  progress.set_method("alps");
  progress.set_step(12);
  progress.set_steps(300);
  progress.set_loss(2.5);
  progress.set_share(share);
  progress.set_remaining_seconds(125);
  return event;
}

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_TESTS_CLIENT_CLI_RUN_EXAMPLES_H_
