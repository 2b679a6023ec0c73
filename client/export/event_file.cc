#include "client/export/event_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "core/io/file.h"
#include "core/io/messages.h"

namespace attnprune::exporting {
namespace {

constexpr mode_t kMode = 0666;  // less the umask

}  // namespace

absl::StatusOr<EventFile> EventFile::Create(const std::string& path) {
  const int descriptor =
      open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, kMode);
  if (descriptor < 0) return ErrnoError(errno, path, "make");
  return EventFile(path, descriptor);
}

EventFile::EventFile(EventFile&& other) noexcept
    : path_(std::move(other.path_)),
      descriptor_(std::exchange(other.descriptor_, -1)),
      size_(other.size_) {}

EventFile::~EventFile() {
  if (descriptor_ >= 0) close(descriptor_);
}

absl::Status EventFile::Append(absl::string_view records) {
  if (const int error = WriteAll(descriptor_, {records.data(), records.size()}); error != 0) {
    absl::Status status = ErrnoError(error, path_, "write");
    if (ftruncate(descriptor_, size_) == 0) return status;
    return Annotate(status, "its last record is cut off");
  }
  size_ += static_cast<int64_t>(records.size());
  return absl::OkStatus();
}

}  // namespace attnprune::exporting
