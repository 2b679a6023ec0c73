// How far a job database has come, kept beside it: what it must have when it is opened again.
#ifndef ATTNPRUNE_SERVER_QUEUE_WATERMARK_H_
#define ATTNPRUNE_SERVER_QUEUE_WATERMARK_H_

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "core/io/file.h"

namespace attnprune {

struct Watermark {
  int64_t history = 0;  // drawn when a database begins and when a loss is accepted: tells two apart
  int64_t changes = 0;  // transactions that have changed it
  int64_t accepted = 0;  // jobs that it was ever given, deleted ones too

  bool operator==(const Watermark&) const = default;
};

enum class Durability { kSynced, kWrittenBack };  // kWrittenBack: survives a kill, no power loss

// A file of two lines of text, written in turn, so that a write that is cut short leaves the other:
//
//   offset 0     attnprune-watermark 1 HISTORY CHANGES ACCEPTED CHECKSUM
//   offset 4096  the same, of one change before or after
//
// A mark is written only once the database has on disk what it tells: a mark behind the database is
// a crash between the two, one ahead of it is a loss. Not thread-safe.
class WatermarkFile {
 public:
  // What the file tells; nullopt: there is none. DATA_LOSS: neither line is whole.
  static absl::StatusOr<absl::optional<Watermark>> Read(const std::string& path);
  // Makes the file anew with this mark, on disk.
  static absl::StatusOr<WatermarkFile> Make(const std::string& path, const Watermark& mark);
  // One that is there; takes no more room on the disk.
  static absl::StatusOr<WatermarkFile> Open(const std::string& path);

  // mark: none of before, of the same history.
  absl::Status Write(const Watermark& mark, Durability durability);

 private:
  explicit WatermarkFile(File file) : file_(std::move(file)) {}

  File file_;
};

// Which part of what `mark` tells `found`, the database's own, does not have: a sentence with the
// numbers, about `name`. Nothing: it has all of it. found: nullopt where there is no database.
absl::optional<std::string> DescribeLoss(const Watermark& mark,
                                         const absl::optional<Watermark>& found,
                                         const std::string& name);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_QUEUE_WATERMARK_H_
