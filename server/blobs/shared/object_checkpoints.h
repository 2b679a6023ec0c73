// Checkpoints as objects: every server that shares the place reaches them.
#ifndef ATTNPRUNE_SERVER_BLOBS_SHARED_OBJECT_CHECKPOINTS_H_
#define ATTNPRUNE_SERVER_BLOBS_SHARED_OBJECT_CHECKPOINTS_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "server/objects/object_place.h"
#include "server/queue/checkpoint_files.h"

namespace attnprune {

// "checkpoints/NAME" is one. Thread-safe.
class ObjectCheckpoints final : public CheckpointStore {
 public:
  explicit ObjectCheckpoints(std::shared_ptr<ObjectPlace> place) : place_(std::move(place)) {}

  absl::StatusOr<CheckpointRef> Write(const std::string& name,
                                      absl::string_view bytes) const override;
  absl::StatusOr<std::string> Read(const CheckpointRef& ref) const override;
  void Remove(const std::string& name) const override;
  std::vector<std::string> List() const override;

 private:
  const std::shared_ptr<ObjectPlace> place_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_BLOBS_SHARED_OBJECT_CHECKPOINTS_H_
