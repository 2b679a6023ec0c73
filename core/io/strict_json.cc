#include "core/io/strict_json.h"

#include <cstddef>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "core/base/status_macros.h"
#include "core/io/known_content.h"
#include "core/io/messages.h"

namespace attnprune {
namespace {

// Follows the parser's events and stops it at the first rule broken.
class Checker : public nlohmann::json::json_sax_t {
 public:
  explicit Checker(int max_depth) : max_depth_(static_cast<size_t>(max_depth)) {}
  const absl::Status& status() const { return status_; }

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t&) override { return true; }
  bool binary(binary_t&) override { return true; }
  bool start_object(size_t) override { return Enter(); }
  bool start_array(size_t) override { return Enter(); }
  bool end_object() override { return Leave(); }
  bool end_array() override { return Leave(); }

  bool key(string_t& key) override {
    if (keys_.back().insert(key).second) return true;
    return Fail(absl::StrCat("key ", Quoted(key), " appears twice in one object"));
  }

  bool parse_error(size_t position, const std::string&,
                   const nlohmann::json::exception& e) override {
    // "[json.exception.parse_error.101] parse error at line 1, column 3: syntax error ..."
    const std::vector<std::string> parts = absl::StrSplit(e.what(), absl::MaxSplits(": ", 1));
    return Fail(
        absl::StrCat("not valid JSON in UTF-8 at byte ", position, ": ", Quoted(parts.back())));
  }

 private:
  bool Enter() {
    keys_.emplace_back();
    if (keys_.size() <= max_depth_) return true;
    return Fail(absl::StrCat("nested deeper than ", max_depth_, " levels"));
  }

  bool Leave() {
    keys_.pop_back();
    return true;
  }

  bool Fail(const std::string& message) {
    status_ = absl::InvalidArgumentError(message);
    return false;
  }

  const size_t max_depth_;
  std::vector<std::set<std::string>> keys_;  // seen so far, one set for each open object or array
  absl::Status status_;
};

// The library takes a NUL outside a string for the end of the text.
absl::Status CheckBytes(absl::string_view text) {
  if (const size_t nul = text.find('\0'); nul != absl::string_view::npos) {
    return Refuse("not valid JSON: a NUL byte at ", nul);
  }
  const size_t start = text.find_first_not_of(" \t\r\n");
  if (start == absl::string_view::npos) return Refuse("JSON is empty");
  if (text[start] == '{') return absl::OkStatus();
  ATTNPRUNE_RETURN_IF_ERROR(CheckKnownContent(text));
  return absl::InvalidArgumentError(
      absl::StrFormat("JSON must be an object, but begins with byte 0x%02x",
                      static_cast<unsigned char>(text[start])));
}

}  // namespace

absl::StatusOr<nlohmann::json> ParseStrictJson(absl::string_view bytes, int max_depth) {
  const absl::string_view text = absl::StripPrefix(bytes, kByteOrderMark);
  ATTNPRUNE_RETURN_IF_ERROR(CheckBytes(text));
  Checker checker(max_depth);
  if (!nlohmann::json::sax_parse(text.begin(), text.end(), &checker)) return checker.status();
  return nlohmann::json::parse(text.begin(), text.end());
}

bool IsUtf8(absl::string_view text) {
  try {
    nlohmann::json(std::string(text)).dump();
    return true;
  } catch (const nlohmann::json::type_error&) {
    return false;
  }
}

}  // namespace attnprune
