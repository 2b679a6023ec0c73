// The tensors of a test's job and bytes for them.
#ifndef ATTNPRUNE_TESTS_SERVER_API_TENSOR_BYTES_H_
#define ATTNPRUNE_TESTS_SERVER_API_TENSOR_BYTES_H_

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "attnprune/v1/job.pb.h"

namespace attnprune::api {

inline std::vector<v1::TensorRef*> TensorsOf(v1::Job& job) {
  std::vector<v1::TensorRef*> refs;
  if (job.problem().has_projections()) {
    v1::ProjectionProblem& layer = *job.mutable_problem()->mutable_projections();
    refs = {layer.mutable_w_q(), layer.mutable_w_k(), layer.mutable_b_q(), layer.mutable_b_k()};
  } else if (job.problem().fused().has_weight()) {
    refs = {job.mutable_problem()->mutable_fused()->mutable_weight()};
  } else {
    v1::FusedProblem& fused = *job.mutable_problem()->mutable_fused();
    refs = {fused.mutable_q_factor(), fused.mutable_k_factor()};
  }
  for (v1::TensorRef& batch : *job.mutable_calibration()) refs.push_back(&batch);
  for (v1::TensorRef& batch : *job.mutable_held_out()) refs.push_back(&batch);
  return refs;
}

// Small F32 numbers, others for every seed.
inline std::string MakeBytes(const v1::TensorRef& tensor, int seed) {
  int64_t count = 1;
  for (const int64_t extent : tensor.shape()) count *= extent;
  std::vector<float> values;
  for (int64_t i = 0; i < count; ++i) {
    values.push_back(std::sin(static_cast<float>(i * 7 + seed * 13 + 1)));
  }
  std::string bytes(values.size() * sizeof(float), '\0');
  std::memcpy(bytes.data(), values.data(), bytes.size());
  return bytes;
}

}  // namespace attnprune::api

#endif  // ATTNPRUNE_TESTS_SERVER_API_TENSOR_BYTES_H_
