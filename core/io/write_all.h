// Writing to a file descriptor until all is written.
#ifndef ATTNPRUNE_CORE_IO_WRITE_ALL_H_
#define ATTNPRUNE_CORE_IO_WRITE_ALL_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace attnprune {

// ErrnoError(path, doing) of the write that failed; how much was written before is unknown then.
absl::Status WriteAll(int fd, absl::Span<const char> bytes, absl::string_view path,
                      absl::string_view doing);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_IO_WRITE_ALL_H_
