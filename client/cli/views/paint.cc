#include "client/cli/views/paint.h"

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

namespace attnprune::cli {
namespace {

constexpr char kRed[] = "\x1b[31m", kGreen[] = "\x1b[32m", kYellow[] = "\x1b[33m";
constexpr char kCyan[] = "\x1b[36m", kPlain[] = "\x1b[0m";

constexpr std::pair<absl::string_view, const char*> kWords[] = {
    {"succeeded", kGreen},  {"running", kCyan},    {"failed", kRed},
    {"cancelled", kYellow}, {"warning:", kYellow},
};

bool IsLetter(char c) { return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '_'; }

// A word of kWords, or the done part of a bar, at the beginning of `rest`; else nothing.
std::pair<absl::string_view, const char*> ColouredAt(absl::string_view rest, char before) {
  if (before == '[' && absl::StartsWith(rest, "#")) {
    return {rest.substr(0, rest.find_first_not_of('#')), kCyan};
  }
  for (const auto& [word, colour] : kWords) {
    if (IsLetter(before) || !absl::StartsWith(rest, word)) continue;
    const bool goes_on =
        rest.size() > word.size() && IsLetter(word.back()) && IsLetter(rest[word.size()]);
    if (!goes_on) return {word, colour};
  }
  return {"", kPlain};
}

}  // namespace

std::string Painted(const std::string& text, Color color) {
  if (color == Color::kOff) return text;
  std::string painted;
  char before = '\n';
  for (absl::string_view rest = text; !rest.empty();) {
    const auto [word, colour] = ColouredAt(rest, before);
    if (word.empty()) {
      painted += rest.front();
    } else {
      absl::StrAppend(&painted, colour, word, kPlain);
    }
    before = rest[word.empty() ? 0 : word.size() - 1];
    rest.remove_prefix(word.empty() ? 1 : word.size());
  }
  return painted;
}

}  // namespace attnprune::cli
