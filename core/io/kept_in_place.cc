#include "core/io/kept_in_place.h"

#include <sys/stat.h>

#include "absl/strings/str_cat.h"

namespace attnprune {
namespace {

uint64_t InodeAt(const std::string& path) {  // 0: nothing is there
  struct stat facts;
  return lstat(path.c_str(), &facts) == 0 ? facts.st_ino : 0;
}

}  // namespace

void KeptInPlace::Add(const std::string& path) {
  const uint64_t inode = InodeAt(path);
  if (inode != 0) inodes_.emplace_back(path, inode);
}

absl::Status KeptInPlace::Check() const {
  for (const auto& [path, inode] : inodes_) {
    const uint64_t now = InodeAt(path);
    if (now == inode) continue;
    return absl::UnavailableError(
        absl::StrCat(path, " was ", now == 0 ? "removed" : "replaced",
                     " while the server uses it; put it back, or stop the server"));
  }
  return absl::OkStatus();
}

}  // namespace attnprune
