#include "core/base/format.h"

#include <array>
#include <charconv>

namespace attnprune {

std::string FormatNumber(double value) {
  std::array<char, 32> text;  // 24 at most
  const auto [end, error] = std::to_chars(text.data(), text.data() + text.size(), value);
  return std::string(text.data(), end);
}

}  // namespace attnprune
