#include "server/objects/s3_xml.h"

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace attnprune {
namespace {

constexpr size_t kLongestWord = 64;

}  // namespace

std::vector<std::string> XmlTexts(absl::string_view xml, absl::string_view name) {
  const std::string begin = absl::StrCat("<", name, ">"), end = absl::StrCat("</", name, ">");
  std::vector<std::string> texts;
  while (true) {
    const size_t from = xml.find(begin);
    if (from == absl::string_view::npos) return texts;
    xml.remove_prefix(from + begin.size());
    const size_t to = xml.find(end);
    if (to == absl::string_view::npos) return texts;
    texts.push_back(absl::StrReplaceAll(xml.substr(0, to), {{"&quot;", "\""},
                                                            {"&#34;", "\""},
                                                            {"&apos;", "'"},
                                                            {"&lt;", "<"},
                                                            {"&gt;", ">"},
                                                            {"&amp;", "&"}}));
    xml.remove_prefix(to + end.size());
  }
}

std::string XmlText(absl::string_view xml, absl::string_view name) {
  std::vector<std::string> texts = XmlTexts(xml, name);
  return texts.empty() ? "" : std::move(texts.front());
}

std::string S3Word(absl::string_view text) {
  std::string word;
  for (const char c : text) {
    const bool plain = absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '.';
    if (plain && word.size() < kLongestWord) word.push_back(c);
  }
  return word;
}

}  // namespace attnprune
