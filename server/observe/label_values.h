// The values that a label can take, fixed when the server starts, by number.
#ifndef ATTNPRUNE_SERVER_OBSERVE_LABEL_VALUES_H_
#define ATTNPRUNE_SERVER_OBSERVE_LABEL_VALUES_H_

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace attnprune {

// "other", which stands for all that are not there, and then `values`.
inline std::vector<std::string> WithOther(const std::vector<std::string>& values) {
  std::vector<std::string> all = {"other"};
  all.insert(all.end(), values.begin(), values.end());
  return all;
}

// The number of `value`; 0, which is "other", if it is not there.
template <typename Values>
size_t IndexIn(const Values& values, absl::string_view value) {
  const auto found = std::find(values.begin(), values.end(), value);
  return found == values.end() ? 0 : static_cast<size_t>(found - values.begin());
}

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_OBSERVE_LABEL_VALUES_H_
