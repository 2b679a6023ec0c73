#include "client/export/path_part.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"

namespace attnprune::exporting {

std::string PathPart(absl::string_view text) {
  std::string part = text.empty() || text[0] == '.' ? absl::StrCat("_", text) : std::string(text);
  for (char& c : part) {
    const bool plain = absl::ascii_isalnum(static_cast<unsigned char>(c)) ||
                       absl::string_view("+#._-").find(c) != absl::string_view::npos;
    if (!plain) c = '_';
  }
  return part;
}

}  // namespace attnprune::exporting
