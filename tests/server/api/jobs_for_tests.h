// Small jobs that meet every rule, to be spoiled one field at a time.
#ifndef ATTNPRUNE_TESTS_SERVER_API_JOBS_FOR_TESTS_H_
#define ATTNPRUNE_TESTS_SERVER_API_JOBS_FOR_TESTS_H_

#include <initializer_list>
#include <string>

#include "attnprune/v1/job.pb.h"

namespace attnprune::api {

inline v1::TensorRef Tensor(char digit, std::initializer_list<int64_t> shape) {
  v1::TensorRef tensor;
  tensor.set_sha256(std::string(64, digit));
  tensor.set_dtype(v1::F32);
  for (const int64_t extent : shape) tensor.add_shape(extent);
  return tensor;
}

// Of a job or of a filter.
template <typename Message>
void SetLabel(Message& message, const std::string& key, const std::string& value) {
  (*message.mutable_labels())[key] = value;
}

// d = 8, 4 heads of width 2 on 2 kv heads, biases, rotary embedding; 3 x 6 + 6 tokens; 5 held out.
inline v1::Job LayerJob() {
  v1::Job job;
  v1::ProjectionProblem& layer = *job.mutable_problem()->mutable_projections();
  *layer.mutable_w_q() = Tensor('1', {8, 8});
  *layer.mutable_w_k() = Tensor('2', {4, 8});
  *layer.mutable_b_q() = Tensor('3', {8});
  *layer.mutable_b_k() = Tensor('4', {4});
  layer.set_heads(4);
  layer.set_kv_heads(2);
  layer.mutable_rope()->set_theta(10000);
  *job.add_calibration() = Tensor('5', {3, 6, 8});
  *job.add_calibration() = Tensor('6', {6, 8});
  *job.add_held_out() = Tensor('7', {5, 8});
  job.mutable_sparsity()->set_fraction(0.5);
  job.add_methods()->set_name("magnitude");
  return job;
}

// d = 8, rank 2.
inline v1::Job FactorsJob() {
  v1::Job job = LayerJob();
  v1::FusedProblem& fused = *job.mutable_problem()->mutable_fused();
  *fused.mutable_q_factor() = Tensor('8', {8, 2});
  *fused.mutable_k_factor() = Tensor('9', {8, 2});
  return job;
}

inline v1::Job FusedJob() {
  v1::Job job = LayerJob();
  *job.mutable_problem()->mutable_fused()->mutable_weight() = Tensor('a', {8, 8});
  return job;
}

}  // namespace attnprune::api

#endif  // ATTNPRUNE_TESTS_SERVER_API_JOBS_FOR_TESTS_H_
