#include "core/io/disk_reserve.h"

#include <algorithm>
#include <utility>

#include "core/base/status_macros.h"

namespace attnprune {

absl::StatusOr<DiskReserve> DiskReserve::Open(const std::string& path, int64_t bytes) {
  ATTNPRUNE_ASSIGN_OR_RETURN(File file, File::OpenForWriting(path, Readers::kOwner));
  DiskReserve reserve(std::move(file), bytes);
  reserve.file_.Truncate(0).IgnoreError();
  return reserve;
}

bool DiskReserve::Take() {
  for (int64_t size = bytes_; size > held_; size /= 2) {
    if (file_.Reserve(size).ok()) held_ = size;
  }
  return held_ == bytes_;
}

bool DiskReserve::GiveUpSome() {
  if (held_ == 0) return false;
  file_.Truncate(0).IgnoreError();
  held_ = std::max<int64_t>(held_ - kPieceBytes, 0);
  if (held_ > 0 && !file_.Reserve(held_).ok()) held_ = 0;
  return true;
}

}  // namespace attnprune
