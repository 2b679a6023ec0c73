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
#include "core/io/mapped_file.h"
#include "core/io/safetensors.h"

namespace attnprune {

// All shards stay mapped while it lives. Move-only; what Find gave survives a move.
class Checkpoint : public TensorSource {
 public:
  // path: a .safetensors file; an index ("*.json", Hugging Face's model.safetensors.index.json); or
  // a folder with model.safetensors or, failing that, model.safetensors.index.json.
  //
  // The index must map each tensor to the plain name of a file beside it; that file must hold the
  // tensor, and no other shard may. A shard's tensors that the index does not list are not part of
  // the checkpoint. A shard that is not there, or a Git LFS pointer, is an error once a tensor of
  // it is asked for. INVALID_ARGUMENT or NOT_FOUND names file, tensor and rule.
  static absl::StatusOr<Checkpoint> Open(const std::string& path);
  // Tensors that are not in one place: their bytes are the caller's, or within `files`. label: what
  // messages call the whole. INVALID_ARGUMENT names a tensor that is there twice.
  static absl::StatusOr<Checkpoint> Of(std::string label, std::vector<TensorInfo> tensors,
                                       std::vector<MappedFile> files = {});

  Checkpoint(Checkpoint&&) = default;
  Checkpoint& operator=(Checkpoint&&) = default;

  // NOT_FOUND also for a tensor of an absent shard, naming it.
  absl::StatusOr<const TensorInfo*> Find(absl::string_view name) const override;
  // Those of absent shards too.
  bool Contains(absl::string_view name) const override;
  std::vector<std::string> names() const override;
  // Path of the file that holds the tensor. NOT_FOUND as Find.
  absl::StatusOr<std::string> ShardOf(absl::string_view name) const;
  std::vector<std::string> shards() const;  // paths, sorted, of absent shards too

 private:
  Checkpoint() = default;
  absl::Status AddSingle(const std::string& path);
  absl::Status AddShardsOf(const std::string& index);
  absl::Status OpenShard(const std::string& path);  // unless it is open or known to be absent
  absl::Status CheckOneShardEach() const;

  std::string label_;
  std::map<std::string, SafetensorsFile, std::less<>> shards_;  // by path
  std::vector<TensorInfo> loose_;                               // of Of, and where their bytes are
  std::vector<MappedFile> files_;
  std::map<std::string, absl::Status, std::less<>> absent_;  // why, by path
  // Into shards_ or loose_; or the error of Find.
  std::map<std::string, absl::StatusOr<const TensorInfo*>, std::less<>> tensors_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_IO_CHECKPOINT_H_
