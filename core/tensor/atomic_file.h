// Writing a file so that its name never stands for half of it.
#ifndef ATTNPRUNE_CORE_TENSOR_ATOMIC_FILE_H_
#define ATTNPRUNE_CORE_TENSOR_ATOMIC_FILE_H_

#include <string>

#include "absl/status/status.h"
#include "absl/types/span.h"

namespace attnprune {

// Writes the chunks, one after the other, to a temporary file "PATH.tmp-..." in the same folder,
// syncs it, renames it to path and syncs the folder. OK means that the new file is on disk.
// On an error the temporary file is gone and path is as before, except that when only the last sync
// failed the new file is in place and a power loss may bring the old one back. A crash can leave a
// temporary file, never half a file under path. Errors name path and the system's reason;
// INVALID_ARGUMENT if path is there and no regular file. Links are replaced, not followed.
absl::Status WriteFileAtomically(const std::string& path,
                                 absl::Span<const absl::Span<const char>> chunks);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_TENSOR_ATOMIC_FILE_H_
