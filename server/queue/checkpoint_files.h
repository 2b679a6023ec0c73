// Checkpoints as files in one folder.
#ifndef ATTNPRUNE_SERVER_QUEUE_CHECKPOINT_FILES_H_
#define ATTNPRUNE_SERVER_QUEUE_CHECKPOINT_FILES_H_

#include <set>
#include <string>
#include <utility>

#include "server/queue/checkpoint_store.h"

namespace attnprune {

class CheckpointFiles final : public CheckpointStore {
 public:
  // folder: must exist.
  explicit CheckpointFiles(std::string folder) : folder_(std::move(folder)) {}

  // OK means that the file is on disk (fsync). A crash can leave a temporary file.
  absl::StatusOr<CheckpointRef> Write(const std::string& name,
                                      absl::string_view bytes) const override;
  absl::StatusOr<std::string> Read(const CheckpointRef& ref) const override;
  void Remove(const std::string& name) const override;

  // For the folder's only user: removes what crashes and failed removals have left.
  void RemoveAllBut(const std::set<std::string>& names) const;

 private:
  std::string PathOf(const std::string& name) const { return folder_ + "/" + name; }

  const std::string folder_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_QUEUE_CHECKPOINT_FILES_H_
