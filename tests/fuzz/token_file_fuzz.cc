// A token file: refused with the line at fault, or a table; what is found in it was written there.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "server/access/tokens.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using attnprune::access::TokenTable;
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const absl::StatusOr<TokenTable> table = TokenTable::Parse(text);
  if (!table.ok()) {
    if (!absl::IsInvalidArgument(table.status())) std::abort();
    return 0;
  }
  constexpr size_t kHash = 64;
  size_t found = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const attnprune::access::Caller* const caller =
        table->Find(std::string(text.substr(at, std::min(kHash, end - at))));
    if (caller != nullptr) {
      ++found;
      const absl::string_view line = text.substr(at, end - at);
      if (caller->tenant.empty() || !absl::StrContains(line, caller->tenant)) std::abort();
    }
    at = end + 1;
  }
  if (found != table->size()) std::abort();
  return 0;
}
