// A server's text as one part of a path.
#ifndef ATTNPRUNE_CLIENT_EXPORT_PATH_PART_H_
#define ATTNPRUNE_CLIENT_EXPORT_PATH_PART_H_

#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace attnprune::exporting {

// `text` with "_" for whatever is not [A-Za-z0-9+#._-], and one more "_" before a leading dot or
// for an empty text: never "", ".", ".." nor more than one part. Pure.
inline std::string PathPart(absl::string_view text) {
  std::string part = text.empty() || text[0] == '.' ? absl::StrCat("_", text) : std::string(text);
  for (char& c : part) {
    const bool plain = absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
                       absl::string_view("+#._-").find(c) != absl::string_view::npos;
    if (!plain) c = '_';
  }
  return part;
}

}  // namespace attnprune::exporting

#endif  // ATTNPRUNE_CLIENT_EXPORT_PATH_PART_H_
