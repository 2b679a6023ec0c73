// Contents that stand where a weight, array or JSON file should be.
#ifndef ATTNPRUNE_CORE_IO_KNOWN_CONTENT_H_
#define ATTNPRUNE_CORE_IO_KNOWN_CONTENT_H_

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace attnprune {

// A text file may begin with this; it says nothing.
inline constexpr absl::string_view kByteOrderMark = "\xEF\xBB\xBF";

// For a file that is not what it should be: NOT_FOUND for a Git LFS pointer, INVALID_ARGUMENT for
// an HTML page, PyTorch's format and GGUF, with what to do and no file name. OK: none of them.
absl::Status CheckKnownContent(absl::string_view bytes);

// The part of it that no text may be.
absl::Status CheckNoLfsPointer(absl::string_view bytes);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_IO_KNOWN_CONTENT_H_
