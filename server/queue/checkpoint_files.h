// Checkpoints as files in one folder.
#ifndef ATTNPRUNE_SERVER_QUEUE_CHECKPOINT_FILES_H_
#define ATTNPRUNE_SERVER_QUEUE_CHECKPOINT_FILES_H_

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace attnprune {

// What is kept in the database of a checkpoint, a job's or a part's.
struct CheckpointRef {
  std::string name;  // empty: no checkpoint
  int64_t size = 0;
  int64_t checksum = 0;
};

// A job store's checkpoints: bytes of any size, outside its transactions. Each is written once
// under a name of its own, then only read. Thread-safe for calls on different names.
class CheckpointFiles {
 public:
  // folder: must exist.
  explicit CheckpointFiles(std::string folder) : folder_(std::move(folder)) {}

  // OK means that the file is on disk (fsync): it survives a power loss. A crash can leave a
  // temporary file.
  absl::StatusOr<CheckpointRef> Write(const std::string& name, absl::string_view bytes) const;
  // DATA_LOSS: it is gone or is not what was written.
  absl::StatusOr<std::string> Read(const CheckpointRef& ref) const;
  // What cannot be removed stays; no row refers to it.
  void Remove(const std::string& name) const;

  // For the folder's only user: removes what crashes and failed removals have left, by its name:
  // other files stay.
  void RemoveAllBut(const std::set<std::string>& names) const;

  // For one of several: of `listed`, by List before the database was read for the rest, those that
  // neither a row refers to nor a claim can still be writing.
  struct Kept {
    std::set<std::string> names;
    std::map<std::string, int64_t> fences;  // by job, of those that have not ended
  };
  std::vector<std::string> List() const;  // checkpoints and their temporary files
  void RemoveLapsed(const std::vector<std::string>& listed, const Kept& kept) const;

 private:
  std::string PathOf(const std::string& name) const { return folder_ + "/" + name; }

  const std::string folder_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_QUEUE_CHECKPOINT_FILES_H_
