// Where the tests' data is, absolute: known to one source file, so that no other has a path of this
// machine.
#ifndef ATTNPRUNE_TESTS_SUPPORT_PATHS_H_
#define ATTNPRUNE_TESTS_SUPPORT_PATHS_H_

#include <string>

#include "absl/strings/string_view.h"

namespace attnprune {

// Below tests/data: "/golden/case0.safetensors".
std::string TestData(absl::string_view path);
// Below data/tiny-llama: "/config.json", or the folder itself.
std::string TinyLlama(absl::string_view path = "");

}  // namespace attnprune

#endif  // ATTNPRUNE_TESTS_SUPPORT_PATHS_H_
