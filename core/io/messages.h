// Pieces of error messages about files and tensors.
#ifndef ATTNPRUNE_CORE_IO_MESSAGES_H_
#define ATTNPRUNE_CORE_IO_MESSAGES_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace attnprune {

// 'text' in single quotes, safe to print: control characters escaped, long texts cut short.
std::string Quoted(absl::string_view text);

// The same code with "prefix: " before the message. OK stays OK.
absl::Status Annotate(const absl::Status& status, absl::string_view prefix);

// INVALID_ARGUMENT with the parts as StrCat joins them.
template <typename... Parts>
absl::Status Refuse(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

// "path: reason" with the code that belongs to the errno value.
absl::Status ErrnoError(int error, absl::string_view path, absl::string_view doing);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_IO_MESSAGES_H_
