#include "core/problem/hf_layer.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/io/checkpoint.h"
#include "core/io/mapped_file.h"
#include "core/io/messages.h"
#include "core/problem/hf_config.h"

namespace attnprune {
namespace {

absl::StatusOr<HfAttention> ReadConfig(const std::string& path, Index layer) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  return ParseHfConfig(absl::string_view(file.bytes().data(), file.bytes().size()), path, layer);
}

// Reads one layer's tensors out of a checkpoint and keeps the record of where they were.
class LayerReader {
 public:
  LayerReader(const Checkpoint& checkpoint, Index layer)
      : checkpoint_(checkpoint), prefix_(absl::StrCat("model.layers.", layer, ".self_attn.")) {}

  absl::StatusOr<Matrix> ReadWeight(const char* weight, absl::string_view suffix, Index rows,
                                    Index cols) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const TensorInfo* tensor, Find(weight, suffix, {rows, cols}));
    return ToMatrix(*tensor);
  }

  absl::StatusOr<std::vector<float>> ReadBias(const char* weight, absl::string_view suffix,
                                              Index size) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const TensorInfo* tensor, Find(weight, suffix, {size}));
    return ToVector(*tensor);
  }

  // Refuses a tensor that would change the attention but has no place in the problem.
  absl::Status CheckAbsent(absl::string_view suffix, absl::string_view reason) const {
    const std::string name = absl::StrCat(prefix_, suffix);
    if (!checkpoint_.Contains(name)) return absl::OkStatus();
    ATTNPRUNE_ASSIGN_OR_RETURN(const TensorInfo* tensor, checkpoint_.Find(name));
    return Refuse(tensor->file, ": tensor ", Quoted(name), " must not be there, ", reason, ", got ",
                  ShapeString(tensor->shape));
  }

  std::vector<SourceTensor> TakeSources() { return std::move(sources_); }

 private:
  absl::StatusOr<const TensorInfo*> Find(const char* weight, absl::string_view suffix,
                                         const std::vector<Index>& shape) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const TensorInfo* tensor,
                               checkpoint_.Find(absl::StrCat(prefix_, suffix)));
    if (tensor->shape != shape) {
      return Refuse(tensor->file, ": tensor ", Quoted(tensor->name),
                    " must have the shape that config.json gives, ", ShapeString(shape), ", got ",
                    ShapeString(tensor->shape));
    }
    sources_.push_back({weight, tensor->name, tensor->dtype, tensor->file});
    return tensor;
  }

  const Checkpoint& checkpoint_;
  const std::string prefix_;
  std::vector<SourceTensor> sources_;
};

absl::Status ReadBiases(const HfAttention& config, LayerReader& reader,
                        ProjectionWeights* weights) {
  if (!config.biases) {
    constexpr char kReason[] = "as config.json gives the attention no biases";
    ATTNPRUNE_RETURN_IF_ERROR(reader.CheckAbsent("q_proj.bias", kReason));
    return reader.CheckAbsent("k_proj.bias", kReason);
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(weights->b_q,
                             reader.ReadBias("b_q", "q_proj.bias", weights->w_q.rows()));
  ATTNPRUNE_ASSIGN_OR_RETURN(weights->b_k,
                             reader.ReadBias("b_k", "k_proj.bias", weights->w_k.rows()));
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<HfLayer> LoadHfLayer(const std::string& folder, Index layer) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const HfAttention config,
                             ReadConfig(absl::StrCat(folder, "/config.json"), layer));
  ATTNPRUNE_ASSIGN_OR_RETURN(const Checkpoint checkpoint, Checkpoint::Open(folder));
  LayerReader reader(checkpoint, layer);
  constexpr char kNoNorm[] = "as queries and keys are not normalised here";
  ATTNPRUNE_RETURN_IF_ERROR(reader.CheckAbsent("q_norm.weight", kNoNorm));
  ATTNPRUNE_RETURN_IF_ERROR(reader.CheckAbsent("k_norm.weight", kNoNorm));

  HfLayer out;
  out.attention = config.attention;
  ProjectionWeights& weights = out.weights;
  weights.heads = config.heads;
  weights.kv_heads = config.kv_heads;
  weights.rope = config.rope;
  ATTNPRUNE_ASSIGN_OR_RETURN(
      weights.w_q, reader.ReadWeight("w_q", "q_proj.weight", config.heads * config.head_dim,
                                     config.hidden_size));
  ATTNPRUNE_ASSIGN_OR_RETURN(
      weights.w_k, reader.ReadWeight("w_k", "k_proj.weight", config.kv_heads * config.head_dim,
                                     config.hidden_size));
  ATTNPRUNE_RETURN_IF_ERROR(ReadBiases(config, reader, &weights));
  out.sources = reader.TakeSources();
  return out;
}

absl::StatusOr<Index> CountHfLayers(const std::string& folder) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const HfAttention config,
                             ReadConfig(absl::StrCat(folder, "/config.json"), 0));
  return config.layers;
}

}  // namespace attnprune
