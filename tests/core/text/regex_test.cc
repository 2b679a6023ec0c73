#include "core/text/regex.h"

#include <utility>

#include "core/text/byte_level.h"
#include "tests/core/text/text_test_util.h"

namespace attnprune {
namespace {

using Ranges = std::vector<std::pair<size_t, size_t>>;

absl::StatusOr<Ranges> Match(const Regex& regex, absl::string_view text) {
  Ranges ranges;
  RegexMatches matches(regex, text);
  while (true) {
    const auto match = matches.Next();
    if (!match.ok()) return match.status();
    if (!match->has_value()) return ranges;
    ranges.emplace_back((*match)->begin, (*match)->end);
  }
}

Ranges RangesOf(absl::string_view pattern, absl::string_view text) {
  return testing::ValueOrDie(Match(testing::ValueOrDie(Regex::Compile(pattern)), text));
}

TEST(Regex, FindsEveryMatchInOrder) {
  EXPECT_EQ(RangesOf("a+", "aabaa"), (Ranges{{0, 2}, {3, 5}}));
  EXPECT_EQ(RangesOf("x", ""), Ranges());
}

TEST(Regex, CountsBytesAndNeverCutsACharacter) {
  EXPECT_EQ(RangesOf(".", "a\u00E9\U0001F642"), (Ranges{{0, 1}, {1, 3}, {3, 7}}));
  EXPECT_EQ(RangesOf("", "\u00E9"), (Ranges{{0, 0}, {2, 2}}));
}

TEST(Regex, KnowsUnicodeClasses) {
  EXPECT_EQ(RangesOf(R"(\p{L}+|\p{N})", "\u0414\u0430 \u0967"), (Ranges{{0, 4}, {5, 8}}));
  EXPECT_EQ(RangesOf(R"(\s)", "\u00A0\u3000\u200B"), (Ranges{{0, 2}, {2, 5}}));
  EXPECT_EQ(RangesOf("(?i:\u00C9)", "\u00E9"), (Ranges{{0, 2}}));
}

TEST(Regex, GivesNoEmptyMatchWhereTheLastOneEnds) {
  EXPECT_EQ(RangesOf("a*", "baac"), (Ranges{{0, 0}, {1, 3}, {4, 4}}));
}

TEST(Regex, MatchesLinesAsRubyDoes) {
  EXPECT_EQ(RangesOf("^.", "ab\ncd"), (Ranges{{0, 1}, {3, 4}}));
  EXPECT_EQ(RangesOf(".+$", "ab\rc\nd"), (Ranges{{0, 4}, {5, 6}}));
}

TEST(Regex, SeesWhatIsBehindAMatch) {
  EXPECT_EQ(RangesOf("(?<=a)b", "abbab"), (Ranges{{1, 2}, {4, 5}}));
}

TEST(Regex, LiteralTextHasNoOperators) {
  const Regex dot = testing::ValueOrDie(Regex::Literal("."));
  EXPECT_EQ(testing::ValueOrDie(Match(dot, "a.b")), (Ranges{{1, 2}}));
}

TEST(Regex, RefusesWhatItCannotReadAlike) {
  EXPECT_THAT(Regex::Compile("a(b"), Fails(kInvalid, "'a(b'"));
  EXPECT_THAT(Regex::Compile("[a&&b]"), Fails(kInvalid, "must not have &&"));
  EXPECT_THAT(Regex::Compile("\\h"), Fails(kInvalid, "must not have \\h"));
  EXPECT_THAT(Regex::Compile("\\C"), Fails(kInvalid, "PCRE2"));  // half a character
  EXPECT_THAT(Regex::Literal(""), Fails(kInvalid, "must not be empty"));
}

TEST(Regex, TellsWhenATextTakesTooManySteps) {
  const Regex slow = testing::ValueOrDie(Regex::Compile("(a|aa)+$"));
  EXPECT_THAT(Match(slow, std::string(60, 'a') + "b"), Fails(kInvalid, "from byte 0 on"));
}

// A group in a loop takes more stack than compiled matching has.
TEST(Regex, TakesAMatchOfAMillionCharacters) {
  const std::string text(1'000'000, 'a');
  EXPECT_EQ(RangesOf("a+", text), (Ranges{{0, 1'000'000}}));
  EXPECT_EQ(RangesOf("(?:a|b)+", text.substr(0, 100'000)), (Ranges{{0, 100'000}}));
}

TEST(Regex, TenMegabytesOfWhiteSpaceTakeNoMoreStepsThanThereAre) {
  const std::string text(10'000'000, ' ');
  EXPECT_EQ(RangesOf(kGpt2Words, text), (Ranges{{0, 10'000'000}}));
  EXPECT_EQ(RangesOf(R"(\s*[\r\n]+|\s+(?!\S)|\s+)", text), (Ranges{{0, 10'000'000}}));
}

}  // namespace
}  // namespace attnprune
