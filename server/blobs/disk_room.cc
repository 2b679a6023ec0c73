#include "server/blobs/disk_room.h"

#include <sys/statvfs.h>

#include <algorithm>
#include <cerrno>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/io/file.h"

namespace attnprune {
namespace {

constexpr int64_t kRoomSteps = 64;

struct DiskFacts {
  int64_t free = 0, whole = 0;
};

absl::StatusOr<DiskFacts> LookAtDisk(const std::string& folder) {
  struct statvfs facts;
  if (statvfs(folder.c_str(), &facts) != 0) return FileError(errno, folder, "stat");
  const auto block = static_cast<int64_t>(facts.f_frsize);
  return DiskFacts{.free = static_cast<int64_t>(facts.f_bavail) * block,
                   .whole = static_cast<int64_t>(facts.f_blocks) * block};
}

}  // namespace

int64_t RoughRoom(int64_t room, int64_t whole) {
  if (room <= 0) return 0;
  const int64_t step = std::max<int64_t>(1, whole / kRoomSteps);
  if (room > whole - step) return whole;
  return (room + step - 1) / step * step;
}

absl::Status DiskRoom::CheckBeginning(int64_t bytes) const {
  ATTNPRUNE_ASSIGN_OR_RETURN(const DiskFacts disk, LookAtDisk(folder_));
  if (bytes <= RoughRoom(disk.free - kept_, disk.whole)) return absl::OkStatus();
  return Full(absl::StrCat("the ", bytes, " bytes that are to come"));
}

absl::Status DiskRoom::CheckNext(int64_t bytes) const {
  ATTNPRUNE_ASSIGN_OR_RETURN(const DiskFacts disk, LookAtDisk(folder_));
  if (bytes <= disk.free - kept_) return absl::OkStatus();
  return Full(absl::StrCat("the next ", bytes, " bytes"));
}

absl::Status DiskRoom::Full(const std::string& what) const {
  return absl::ResourceExhaustedError(
      absl::StrCat("the server's disk is full: there is no room for ", what, " beside the ", kept_,
                   " that must stay free"));
}

}  // namespace attnprune
