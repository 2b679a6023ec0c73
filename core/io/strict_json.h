// JSON as strict as a file format needs it.
#ifndef ATTNPRUNE_CORE_IO_STRICT_JSON_H_
#define ATTNPRUNE_CORE_IO_STRICT_JSON_H_

#include <nlohmann/json.hpp>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace attnprune {

// One JSON object, in UTF-8, behind a byte order mark or none. CheckKnownContent's errors, and
// INVALID_ARGUMENT, with no file name, on a syntax error, bad UTF-8, anything but white space
// around the object, a key twice in one object, or objects and arrays nested deeper than max_depth
// (the outermost counts 1).
absl::StatusOr<nlohmann::json> ParseStrictJson(absl::string_view bytes, int max_depth);

bool IsUtf8(absl::string_view text);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_IO_STRICT_JSON_H_
