// The room that uploads find on the store's disk, and how much of it is told.
#ifndef ATTNPRUNE_SERVER_BLOBS_DISK_ROOM_H_
#define ATTNPRUNE_SERVER_BLOBS_DISK_ROOM_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"

namespace attnprune {

// room, of `whole`, rounded up to a 64th of whole: what an upload's beginning is measured by, so
// that trying sizes without sending them tells no more. 0 where there is none.
int64_t RoughRoom(int64_t room, int64_t whole);

// RESOURCE_EXHAUSTED names what does not fit and never how much is free.
class DiskRoom {
 public:
  // kept: bytes that uploads leave free.
  DiskRoom(const std::string& folder, int64_t kept) : folder_(folder), kept_(kept) {}

  // Whether an upload of which `bytes` are to come may begin: by RoughRoom. Takes nothing.
  absl::Status CheckBeginning(int64_t bytes) const;
  // Whether the next `bytes` may be written.
  absl::Status CheckNext(int64_t bytes) const;

 private:
  absl::Status Full(const std::string& what) const;

  const std::string folder_;
  const int64_t kept_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_BLOBS_DISK_ROOM_H_
