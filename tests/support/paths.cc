#include "tests/support/paths.h"

#include "absl/strings/str_cat.h"

namespace attnprune {

std::string TestData(absl::string_view path) { return absl::StrCat(ATTNPRUNE_TEST_DATA, path); }
std::string TinyLlama(absl::string_view path) { return absl::StrCat(ATTNPRUNE_TINY_LLAMA, path); }

}  // namespace attnprune
