// Added tokens within whole tokenisers: every character that is no part of one is its ASCII code.
#include "tests/core/text/text_test_util.h"

namespace attnprune {
namespace {

using nlohmann::json;

json Added(const char* content, int id, const json& options = json::object()) {
  json token = {{"content", content}, {"id", id}, {"normalized", false}};
  token.update(options);
  return token;
}

json WithTokens(const std::vector<json>& tokens) {
  json spec = AsciiTokenizer();
  spec["added_tokens"] = tokens;
  return spec;
}

TEST(AddedTokens, AreCutOutOfTheText) {
  EXPECT_EQ(Encoded(WithTokens({Added("<x>", 500)}), "a<x>b<x><x>"),
            (Ids{'a', 500, 'b', 500, 500}));
}

TEST(AddedTokens, CountInTheVocabulary) {
  EXPECT_EQ(TokenizerOf(WithTokens({Added("<x>", 500)})).vocabulary_size(), 501);
}

TEST(AddedTokens, TheLongestAtOnePlaceWins) {
  const json spec = WithTokens({Added("<a>", 500), Added("<a>b", 501), Added("<", 60)});
  EXPECT_EQ(Encoded(spec, "<a>b<a>c<a"), (Ids{501, 500, 'c', 60, 'a'}));
}

TEST(AddedTokens, TheLeftmostWinsOverALongerOneWithin) {
  const json spec = WithTokens({Added("ab", 500), Added("bcd", 501)});
  EXPECT_EQ(Encoded(spec, "abcd"), (Ids{500, 'c', 'd'}));
}

TEST(AddedTokens, ALongerOneThatBreaksOffLeavesTheShorter) {
  const json spec = WithTokens({Added("ab", 500), Added("abcde", 501)});
  EXPECT_EQ(Encoded(spec, "abcdabcde"), (Ids{500, 'c', 'd', 501}));
}

TEST(AddedTokens, SwallowWhiteSpaceOnTheLeft) {
  const json spec = WithTokens({Added("<m>", 500, {{"lstrip", true}})});
  EXPECT_EQ(Encoded(spec, "a \t\u00A0 <m> b"), (Ids{'a', 500, ' ', 'b'}));
  EXPECT_EQ(Encoded(spec, "  <m>  <m>"), (Ids{500, 500}));
}

TEST(AddedTokens, SwallowWhiteSpaceOnTheRight) {
  const json spec = WithTokens({Added("<m>", 500, {{"rstrip", true}})});
  EXPECT_EQ(Encoded(spec, "a <m> \n\u3000b"), (Ids{'a', ' ', 500, 'b'}));
  EXPECT_EQ(Encoded(spec, "<m>  "), (Ids{500}));
}

TEST(AddedTokens, WhiteSpaceBetweenTwoIsSwallowedOnce) {
  const json spec = WithTokens({Added("<r>", 500, {{"rstrip", true}}),
                                Added("<l>", 501, {{"lstrip", true}}), Added(" ", 32)});
  EXPECT_EQ(Encoded(spec, "<r>   <l>"), (Ids{500, 501}));
}

TEST(AddedTokens, OfASingleWordTouchNoWord) {
  const json spec = WithTokens({Added("cat", 500, {{"single_word", true}})});
  EXPECT_EQ(Encoded(spec, "cat"), (Ids{500}));
  EXPECT_EQ(Encoded(spec, "-cat.cat"), (Ids{'-', 500, '.', 500}));
  EXPECT_EQ(Encoded(spec, "cats"), Codes("cats"));
  EXPECT_EQ(Encoded(spec, "1cat"), Codes("1cat"));
  EXPECT_EQ(Encoded(spec, "_cat"), Codes("_cat"));
  EXPECT_EQ(Encoded(spec, "cat\u00E9"), Codes("cat"));  // the accent has no id
}

TEST(AddedTokens, WithoutContentAreNone) {
  EXPECT_EQ(Encoded(WithTokens({Added("", 500)}), "ab"), Codes("ab"));
}

TEST(AddedTokens, ThatAreNormalizedAreFoundInNormalisedText) {
  json spec = WithTokens({Added("YES", 500, {{"normalized", true}}), Added("NO", 501)});
  spec["normalizer"] = {{"type", "Lowercase"}};
  EXPECT_EQ(Encoded(spec, "yes"), (Ids{500}));
  EXPECT_EQ(Encoded(spec, "Yes no"), (Ids{500, ' ', 'n', 'o'}));
  EXPECT_EQ(Encoded(spec, "NO"), (Ids{501}));
}

TEST(AddedTokens, AreNormalizedByDefaultUnlessSpecial) {
  json spec = AsciiTokenizer();
  spec["normalizer"] = {{"type", "Lowercase"}};
  spec["added_tokens"] = {{{"content", "AA"}, {"id", 500}},
                          {{"content", "BB"}, {"id", 501}, {"special", true}}};
  EXPECT_EQ(Encoded(spec, "aaBBbb"), (Ids{500, 501, 'b', 'b'}));
}

TEST(AddedTokens, SeparateThePiecesThatAreNormalised) {
  json spec = WithTokens({Added("|", 124)});
  spec["normalizer"] = {{"type", "Prepend"}, {"prepend", "_"}};
  EXPECT_EQ(Encoded(spec, "a||b"), (Ids{'_', 'a', '|', '|', '_', 'b'}));
}

TEST(AddedTokens, ManyEqualBytesInARowTakeLinearTime) {
  const json spec = WithTokens({Added("<<<<<<<<x", 500), Added(" ", 32, {{"lstrip", true}})});
  const std::string text = std::string(1'000'000, '<') + std::string(1'000'000, ' ');
  const Ids ids = Encoded(spec, text);
  EXPECT_EQ(ids.size(), 2'000'000u);
}

}  // namespace
}  // namespace attnprune
