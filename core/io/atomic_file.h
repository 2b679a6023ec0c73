// Writing a file so that its name never stands for half of it.
#ifndef ATTNPRUNE_CORE_IO_ATOMIC_FILE_H_
#define ATTNPRUNE_CORE_IO_ATOMIC_FILE_H_

#include <cstddef>
#include <string>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/io/file.h"

namespace attnprune {

// The file that a write to `path` puts in place: `path` itself or, where that is a link, what it
// leads to in the end, there or not. INVALID_ARGUMENT if that is there and no regular file (a
// folder, a device, a pipe), or a file that a process has open (/proc/self/fd/1, and so
// /dev/stdout). The system's error if links lead in a circle.
absl::StatusOr<std::string> FileToReplace(const std::string& path);

// Writes the chunks, one after the other, to a temporary file "FILE.tmp-..." beside
// FILE = FileToReplace(path), syncs it, renames it to FILE and syncs the folder: a link stays one.
// OK means that the new file is on disk. On an error the temporary file is gone and path is as
// before, except that when only the last sync failed the new file is in place and a power loss may
// bring the old one back. A crash can leave a temporary file, never half a file under path. Errors
// name the file and the system's reason, or are those of FileToReplace.
absl::Status WriteFileAtomically(const std::string& path,
                                 absl::Span<const absl::Span<const char>> chunks,
                                 Readers readers = Readers::kByUmask);

// The same of chunks that need not be in memory together: `chunk` is asked for each of them, from 0
// to count - 1, and may give up what it returned before. Its first error ends the writing.
absl::Status WriteFileAtomically(
    const std::string& path, size_t count,
    absl::FunctionRef<absl::StatusOr<absl::Span<const char>>(size_t index)> chunk,
    Readers readers = Readers::kByUmask);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_IO_ATOMIC_FILE_H_
