#include "client/cli/flags/labels.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace attnprune::cli {

absl::Status ParseLabels(const std::vector<std::string>& texts, Labels* labels) {
  for (const std::string& text : texts) {
    const std::vector<std::string> sides = absl::StrSplit(text, absl::MaxSplits('=', 1));
    if (sides.size() != 2 || sides[0].empty()) {
      return absl::InvalidArgumentError(absl::StrCat("--label must be KEY=VALUE, got ", text));
    }
    if (!labels->insert({sides[0], sides[1]}).second) {
      return absl::InvalidArgumentError(absl::StrCat("--label must name a key once, got ", text));
    }
  }
  return absl::OkStatus();
}

}  // namespace attnprune::cli
