// What a process does when bytes of a mapped file can no longer be read: the file was truncated, or
// its disk fails. Without this the system ends the process (SIGBUS).
#ifndef ATTNPRUNE_CORE_IO_MAPPING_GUARD_H_
#define ATTNPRUNE_CORE_IO_MAPPING_GUARD_H_

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace attnprune {

class GuardedMapping;  // opaque

// From here until Release, a read in [data, data + size) that the file no longer has finds zeros,
// as does every later one behind it, and the mapping counts as damaged. fd: the mapped file's; a
// copy is kept. The first call takes over the process's SIGBUS, whose former action still gets all
// that is no guarded mapping's. Thread-safe.
GuardedMapping* GuardMapping(const void* data, size_t size, int fd, const std::string& path);
void ReleaseMapping(GuardedMapping* mapping);  // after munmap; nullptr is fine

// To be called after the bytes were read and before what came of them is used. DATA_LOSS naming the
// file: its mapping is damaged, or the file has become shorter than it. OK of bytes in no guarded
// mapping. Thread-safe; one fstat.
absl::Status CheckMapped(absl::Span<const char> bytes);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_IO_MAPPING_GUARD_H_
