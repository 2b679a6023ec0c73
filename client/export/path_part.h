// A server's text as one part of a path.
#ifndef ATTNPRUNE_CLIENT_EXPORT_PATH_PART_H_
#define ATTNPRUNE_CLIENT_EXPORT_PATH_PART_H_

#include <string>

#include "absl/strings/string_view.h"

namespace attnprune::exporting {

// `text` with "_" for whatever is not [A-Za-z0-9+#._-], and one more "_" before a leading dot or
// for an empty text: never "", ".", ".." nor more than one part. Pure.
std::string PathPart(absl::string_view text);

}  // namespace attnprune::exporting

#endif  // ATTNPRUNE_CLIENT_EXPORT_PATH_PART_H_
