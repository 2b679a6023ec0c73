#include "core/text/pre_tokenizer.h"

#include <cctype>

#include "core/text/json_node.h"
#include "tests/core/text/text_test_util.h"

namespace attnprune {
namespace {

using nlohmann::json;
using Words = std::vector<std::string>;

enum class Place { kStart, kLater };

absl::StatusOr<Words> Cut(const json& spec, absl::string_view text, Place place = Place::kStart) {
  const auto pre_tokenizer = PreTokenizer::Parse(JsonNode(spec, "pre_tokenizer"));
  if (!pre_tokenizer.ok()) return pre_tokenizer.status();
  Words words;
  const absl::Status status =
      pre_tokenizer->ForEachWord(text, place == Place::kStart, [&](absl::string_view word) {
        words.emplace_back(word);
        return absl::OkStatus();
      });
  if (!status.ok()) return status;
  return words;
}

Words WordsOf(const json& spec, absl::string_view text, Place place = Place::kStart) {
  return testing::ValueOrDie(Cut(spec, text, place));
}

json SplitBy(const char* regex, const char* behavior, const json& more = json::object()) {
  json split = {{"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", behavior}};
  split.update(more);
  return split;
}

json Sequence(const std::vector<json>& steps) {
  return {{"type", "Sequence"}, {"pretokenizers", steps}};
}

TEST(PreTokenizer, NoneMakesTheTextOneWord) {
  EXPECT_EQ(WordsOf(nullptr, "a b"), (Words{"a b"}));
  EXPECT_EQ(WordsOf(nullptr, ""), Words());
}

struct SplitCase {
  const char* behavior;
  Words of_matches;
  Words inverted;
};

// The example of the tokenizers library's documentation.
TEST(PreTokenizer, SplitsByEveryBehavior) {
  const SplitCase cases[] = {
      {"Isolated",
       {"the", "-", "final", "-", "-", "countdown"},
       {"the", "-", "final", "-", "-", "countdown"}},
      {"Removed", {"the", "final", "countdown"}, {"-", "-", "-"}},
      {"MergedWithPrevious",
       {"the-", "final-", "-", "countdown"},
       {"the", "-final", "-", "-countdown"}},
      {"MergedWithNext",
       {"the", "-final", "-", "-countdown"},
       {"the-", "final-", "-", "countdown"}},
      {"Contiguous",
       {"the", "-", "final", "--", "countdown"},
       {"the", "-", "final", "--", "countdown"}},
  };
  for (const SplitCase& one : cases) {
    EXPECT_EQ(WordsOf(SplitBy("-", one.behavior), "the-final--countdown"), one.of_matches)
        << one.behavior;
    EXPECT_EQ(WordsOf(SplitBy("-", one.behavior, {{"invert", true}}), "the-final--countdown"),
              one.inverted)
        << one.behavior;
  }
}

TEST(PreTokenizer, SplitsAtEmptyMatches) {
  EXPECT_EQ(WordsOf(SplitBy("(?=[A-Z])", "Isolated"), "oneTwoThree"),
            (Words{"one", "Two", "Three"}));
}

TEST(PreTokenizer, SplitsByAString) {
  const json split = {{"type", "Split"}, {"pattern", {{"String", "."}}}, {"behavior", "Removed"}};
  EXPECT_EQ(WordsOf(split, "a.b..c"), (Words{"a", "b", "c"}));
}

TEST(PreTokenizer, WritesBytesAsCharacters) {
  const json byte_level = {
      {"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
  EXPECT_EQ(WordsOf(byte_level, "a \n\u00E9"), (Words{"a\u0120\u010A\u00C3\u00A9"}));
  EXPECT_EQ(WordsOf(byte_level, std::string("\0\x7F", 2)), (Words{"\u0100\u0121"}));
}

TEST(PreTokenizer, CutsWordsLikeGpt2UnlessTold) {
  const json byte_level = {{"type", "ByteLevel"}, {"add_prefix_space", false}};
  EXPECT_EQ(WordsOf(byte_level, "it's a  b"), (Words{"it", "'s", "\u0120a", "\u0120", "\u0120b"}));
}

TEST(PreTokenizer, PutsASpaceBeforeEveryPieceThatHasNone) {
  const json steps = Sequence({SplitBy("\\|", "Removed"), {{"type", "ByteLevel"}}});
  EXPECT_EQ(WordsOf(steps, "a| b|c"), (Words{"\u0120a", "\u0120b", "\u0120c"}));
}

TEST(PreTokenizer, CutsDigits) {
  EXPECT_EQ(WordsOf({{"type", "Digits"}, {"individual_digits", true}}, "a12\u0967b"),
            (Words{"a", "1", "2", "\u0967", "b"}));
  EXPECT_EQ(WordsOf({{"type", "Digits"}}, "a12b3"), (Words{"a", "12", "b", "3"}));
}

TEST(PreTokenizer, CutsPunctuationAndAsciiSymbols) {
  EXPECT_EQ(WordsOf({{"type", "Punctuation"}}, "a+b\u2026c/d\u20ACe"),
            (Words{"a", "+", "b", "\u2026", "c", "/", "d\u20ACe"}));
  EXPECT_EQ(WordsOf({{"type", "Punctuation"}, {"behavior", "Contiguous"}}, "a?!b"),
            (Words{"a", "?!", "b"}));
  std::string every;
  size_t symbols = 0;
  for (char c = '!'; c <= '~'; ++c) {
    every += c;
    symbols += std::ispunct(c) != 0 ? 1 : 0;
  }
  EXPECT_EQ(WordsOf({{"type", "Punctuation"}}, every).size(), symbols + 3);  // digits, A-Z, a-z
}

json Metaspace(const json& more) {
  json metaspace = {{"type", "Metaspace"}, {"replacement", "_"}};
  metaspace.update(more);
  return metaspace;
}

TEST(PreTokenizer, MarksSpaces) {
  EXPECT_EQ(WordsOf(Metaspace({{"prepend_scheme", "always"}}), "a  b"), (Words{"_a", "_", "_b"}));
  EXPECT_EQ(WordsOf(Metaspace({{"prepend_scheme", "never"}, {"split", false}}), "a  b"),
            (Words{"a__b"}));
  EXPECT_EQ(WordsOf(Metaspace(json::object()), "a"), (Words{"_a"}));
  EXPECT_EQ(WordsOf(Metaspace({{"add_prefix_space", false}}), "a"), (Words{"a"}));
  EXPECT_EQ(WordsOf(Metaspace(json::object()), " a"), (Words{"_a"}));
}

TEST(PreTokenizer, MarksOnlyTheStartOfTheTextWhenToldFirst) {
  const json first = Metaspace({{"prepend_scheme", "first"}});
  EXPECT_EQ(WordsOf(first, "a b"), (Words{"_a", "_b"}));
  EXPECT_EQ(WordsOf(first, "a b", Place::kLater), (Words{"a", "_b"}));
  EXPECT_EQ(WordsOf(Sequence({SplitBy("-", "Removed"), first}), "a-b"), (Words{"_a", "b"}));
  EXPECT_EQ(WordsOf(Sequence({SplitBy("-", "Removed"), first}), "-a"), (Words{"a"}));
}

TEST(PreTokenizer, RunsASequenceInItsOrder) {
  const json digits_last = Sequence({{{"type", "ByteLevel"}, {"add_prefix_space", false}},
                                     {{"type", "Digits"}, {"individual_digits", true}}});
  EXPECT_EQ(WordsOf(digits_last, "a 12"), (Words{"a", "\u0120", "1", "2"}));
  EXPECT_EQ(WordsOf(Sequence({}), "a 12"), (Words{"a 12"}));
}

TEST(PreTokenizer, RefusesByName) {
  EXPECT_THAT(Cut({{"type", "BertPreTokenizer"}}, ""),
              Fails(kInvalid, "pre_tokenizer: type must be Split, ByteLevel"));
  EXPECT_THAT(Cut(Sequence({{{"type", "Whitespace"}}}), ""),
              Fails(kInvalid, "pre_tokenizer: pretokenizers[0].type must be"));
  EXPECT_THAT(Cut(SplitBy("a", "Merged"), ""),
              Fails(kInvalid, "behavior must be Isolated, Removed, MergedWithPrevious"));
  EXPECT_THAT(Cut(Metaspace({{"replacement", "__"}}), ""),
              Fails(kInvalid, "replacement must be one character, got '__'"));
  EXPECT_THAT(Cut(Metaspace({{"prepend_scheme", "last"}}), ""),
              Fails(kInvalid, "prepend_scheme must be always, first or never, got 'last'"));
  EXPECT_THAT(Cut({{"type", "ByteLevel"}, {"use_regex", 1}}, ""),
              Fails(kInvalid, "use_regex must be true or false, got 1"));
  EXPECT_THAT(Cut(Sequence({{{"type", "ByteLevel"}}, {{"type", "ByteLevel"}}}), ""),
              Fails(kInvalid, "pretokenizers[1].type must be there once only, got 'ByteLevel'"));
  EXPECT_THAT(Cut(Sequence(std::vector<json>(65, {{"type", "Digits"}})), ""),
              Fails(kInvalid, "pretokenizers[64].type must be one of 64 steps at most"));
}

TEST(PreTokenizer, StopsAtAnErrorOfTheSink) {
  const auto pre_tokenizer =
      testing::ValueOrDie(PreTokenizer::Parse(JsonNode(json(nullptr), "pre_tokenizer")));
  EXPECT_THAT(pre_tokenizer.ForEachWord(
                  "a", true, [](absl::string_view) { return absl::InternalError("full"); }),
              Fails(absl::StatusCode::kInternal, "full"));
}

}  // namespace
}  // namespace attnprune
