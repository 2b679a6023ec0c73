// Room on a disk that is kept for what must go on where the disk is full.
#ifndef ATTNPRUNE_CORE_IO_DISK_RESERVE_H_
#define ATTNPRUNE_CORE_IO_DISK_RESERVE_H_

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "core/io/file.h"

namespace attnprune {

// A file that takes room until it is given up. On file systems that reserve nothing it is held
// without any. Not thread-safe.
class DiskReserve {
 public:
  static constexpr int64_t kPieceBytes = int64_t{64} << 10;

  // Gives up what a process of before has kept. bytes: to keep.
  static absl::StatusOr<DiskReserve> Open(const std::string& path, int64_t bytes);

  bool Take();        // as much of it as the disk has; whether all of it is held
  bool GiveUpSome();  // kPieceBytes, so that somebody can write; false: none is held

 private:
  DiskReserve(File file, int64_t bytes) : file_(std::move(file)), bytes_(bytes) {}

  File file_;
  int64_t bytes_;
  int64_t held_ = 0;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_IO_DISK_RESERVE_H_
