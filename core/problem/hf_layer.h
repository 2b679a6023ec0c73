// Loads the attention of one layer from a Hugging Face model folder.
#ifndef ATTNPRUNE_CORE_PROBLEM_HF_LAYER_H_
#define ATTNPRUNE_CORE_PROBLEM_HF_LAYER_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "core/problem/attention_mask.h"
#include "core/problem/problem.h"
#include "core/tensor/dtype.h"

namespace attnprune {

// Where a weight came from, so that it can be written back under the same name and dtype.
struct SourceTensor {
  const char* weight;  // "w_q", "w_k", "b_q" or "b_k"
  std::string name;    // "model.layers.0.self_attn.q_proj.weight"
  DType dtype;
  std::string file;
};

struct HfLayer {
  ProjectionWeights weights;
  AttentionMask attention;
  std::vector<SourceTensor> sources;  // one for each weight and bias there is
};

// Layer `layer`, from 0, of the model in `folder`: config.json (what it may say: hf_config.h) and
// model.safetensors or model.safetensors.index.json with its shards.
//
// INVALID_ARGUMENT or NOT_FOUND names the file, the key or tensor, the rule and the value: whatever
// ParseHfConfig and Checkpoint refuse, a missing tensor, a shape that config.json does not call
// for, and a bias or a norm of queries and keys that it says nothing about.
absl::StatusOr<HfLayer> LoadHfLayer(const std::string& folder, Index layer);

// How many layers that model has, by its config.json. Errors as LoadHfLayer has about that file.
absl::StatusOr<Index> CountHfLayers(const std::string& folder);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_PROBLEM_HF_LAYER_H_
