#include "core/io/write_all.h"

#include <unistd.h>

#include <cerrno>

#include "core/io/messages.h"

namespace attnprune {

absl::Status WriteAll(int fd, absl::Span<const char> bytes, absl::string_view path,
                      absl::string_view doing) {
  while (!bytes.empty()) {
    const ssize_t written = write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return ErrnoError(errno, path, doing);
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  return absl::OkStatus();
}

}  // namespace attnprune
