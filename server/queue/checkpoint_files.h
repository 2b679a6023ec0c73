// Where checkpoints are, and as files in one folder.
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
class CheckpointStore {
 public:
  virtual ~CheckpointStore() = default;

  // OK means that it is safe: it survives a power loss.
  virtual absl::StatusOr<CheckpointRef> Write(const std::string& name,
                                              absl::string_view bytes) const = 0;
  // DATA_LOSS: it is gone or is not what was written.
  virtual absl::StatusOr<std::string> Read(const CheckpointRef& ref) const = 0;
  // What cannot be removed stays; no row refers to it.
  virtual void Remove(const std::string& name) const = 0;
  virtual std::vector<std::string> List() const = 0;  // checkpoints and their temporary files

  // For the only user: removes what crashes and failed removals have left, by its name: other files
  // stay.
  void RemoveAllBut(const std::set<std::string>& names) const;

  // For one of several: of `listed`, by List before the database was read for the rest, those that
  // neither a row refers to nor a claim can still be writing.
  struct Kept {
    std::set<std::string> names;
    std::map<std::string, int64_t> fences;  // by job, of those that have not ended
  };
  void RemoveLapsed(const std::vector<std::string>& listed, const Kept& kept) const;
};

// ID.NUMBER.NUMBER and so on, or that with a temporary file's ending: what a store names its
// checkpoints.
bool IsCheckpointName(absl::string_view name);

class CheckpointFiles final : public CheckpointStore {
 public:
  // folder: must exist.
  explicit CheckpointFiles(std::string folder) : folder_(std::move(folder)) {}

  // A crash can leave a temporary file.
  absl::StatusOr<CheckpointRef> Write(const std::string& name,
                                      absl::string_view bytes) const override;
  absl::StatusOr<std::string> Read(const CheckpointRef& ref) const override;
  void Remove(const std::string& name) const override;
  std::vector<std::string> List() const override;

 private:
  std::string PathOf(const std::string& name) const { return folder_ + "/" + name; }

  const std::string folder_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_QUEUE_CHECKPOINT_FILES_H_
