// The tensors of a model, in one safetensors file or in the shards an index file lists.
#ifndef ATTNPRUNE_CORE_IO_CHECKPOINT_H_
#define ATTNPRUNE_CORE_IO_CHECKPOINT_H_

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/io/safetensors.h"

namespace attnprune {

// All shards stay mapped while it lives. Move-only; what Find gave survives a move.
class Checkpoint : public TensorSource {
 public:
  // path: a .safetensors file; an index ("*.json", Hugging Face's model.safetensors.index.json); or
  // a folder with model.safetensors or, failing that, model.safetensors.index.json.
  //
  // The index must map each tensor to the plain name of a file beside it; that file must exist and
  // hold the tensor, and no other shard may. A shard's tensors that the index does not list are not
  // part of the checkpoint. INVALID_ARGUMENT or NOT_FOUND names file, tensor and rule.
  static absl::StatusOr<Checkpoint> Open(const std::string& path);

  Checkpoint(Checkpoint&&) = default;
  Checkpoint& operator=(Checkpoint&&) = default;

  absl::StatusOr<const TensorInfo*> Find(absl::string_view name) const override;
  bool Contains(absl::string_view name) const override;
  std::vector<std::string> names() const override;
  // Path of the file that holds the tensor. NOT_FOUND as Find.
  absl::StatusOr<std::string> ShardOf(absl::string_view name) const;
  std::vector<std::string> shards() const;  // paths, sorted

 private:
  Checkpoint() = default;
  absl::Status AddSingle(const std::string& path);
  absl::Status AddShardsOf(const std::string& index);
  absl::Status OpenShard(const std::string& path);  // unless it is open
  absl::Status CheckOneShardEach() const;

  std::string label_;
  std::map<std::string, SafetensorsFile, std::less<>> shards_;     // by path
  std::map<std::string, const TensorInfo*, std::less<>> tensors_;  // into shards_
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_IO_CHECKPOINT_H_
