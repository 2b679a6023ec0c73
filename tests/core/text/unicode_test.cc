#include "core/text/unicode.h"

#include "tests/core/text/text_test_util.h"

namespace attnprune {
namespace {

TEST(Unicode, FindsWhereTextStopsBeingUtf8) {
  EXPECT_EQ(WellFormedPrefix(""), 0u);
  EXPECT_EQ(WellFormedPrefix("a\u00E9\u20AC\U0001F642"), 10u);
  EXPECT_EQ(WellFormedPrefix("\u00E9\x80"), 2u);                    // a tail without a head
  EXPECT_EQ(WellFormedPrefix("a\xC1\xBF"), 1u);                     // overlong
  EXPECT_EQ(WellFormedPrefix("ab\xED\xBF\xBF"), 2u);                // a surrogate
  EXPECT_EQ(WellFormedPrefix("abc\xF4\x90\x80\x80"), 3u);           // beyond U+10FFFF
  EXPECT_EQ(WellFormedPrefix("\xEF\xBF\xBF\xF4\x8F\xBF\xBF"), 7u);  // the last of each plane
}

TEST(Unicode, TakesEveryCharacterApartAndTogether) {
  for (int32_t point = 0; point <= 0x10FFFF; point += point < 0x3000 ? 1 : 97) {
    if (point >= 0xD800 && point < 0xE000) continue;
    std::string text;
    AppendCharacter(point, &text);
    ASSERT_EQ(WellFormedPrefix(text), text.size()) << point;
    ASSERT_EQ(CharacterLength(text[0]), text.size()) << point;
    ASSERT_EQ(FirstCharacter(text), point);
    ASSERT_EQ(LastCharacterStart("\u00E9" + text), 2u) << point;
  }
}

// Rows of the standard's NormalizationTest.txt: source, NFC, NFD, NFKC, NFKD.
TEST(Unicode, NormalisesAsTheStandardSays) {
  const std::vector<std::vector<std::string>> rows = {
      {"\u1E9B\u0323", "\u1E9B\u0323", "\u017F\u0323\u0307", "\u1E69", "s\u0323\u0307"},
      {"\uD55C\u1100\u1161\u11A8", "\uD55C\uAC01", "\u1112\u1161\u11AB\u1100\u1161\u11A8",
       "\uD55C\uAC01", "\u1112\u1161\u11AB\u1100\u1161\u11A8"},
      {"a\u0315\u0300\u05AE\u0300b", "\u00E0\u05AE\u0300\u0315b", "a\u05AE\u0300\u0300\u0315b",
       "\u00E0\u05AE\u0300\u0315b", "a\u05AE\u0300\u0300\u0315b"},
      {"\u212B\u0958", "\u00C5\u0915\u093C", "A\u030A\u0915\u093C", "\u00C5\u0915\u093C",
       "A\u030A\u0915\u093C"},
  };
  for (const auto& row : rows) {
    EXPECT_EQ(Normalized(row[0], NormalForm::kNfc), row[1]);
    EXPECT_EQ(Normalized(row[0], NormalForm::kNfd), row[2]);
    EXPECT_EQ(Normalized(row[0], NormalForm::kNfkc), row[3]);
    EXPECT_EQ(Normalized(row[0], NormalForm::kNfkd), row[4]);
  }
}

TEST(Unicode, TheLongestDecompositionFits) {
  EXPECT_EQ(Normalized("\uFDFA", NormalForm::kNfkc).size(), 33u);
}

TEST(Unicode, KnowsWhiteSpace) {
  for (const int32_t point : {0x9, 0xD, 0x20, 0x85, 0xA0, 0x1680, 0x2028, 0x3000}) {
    EXPECT_TRUE(IsWhiteSpace(point)) << point;
  }
  for (const int32_t point : {0x1F, 0x180E, 0x200B, 0xFEFF, 0x61}) {
    EXPECT_FALSE(IsWhiteSpace(point)) << point;
  }
  EXPECT_EQ(LeadingWhiteSpace(" \u3000a "), 4u);
  EXPECT_EQ(TrailingWhiteSpace(" a\u00A0\n"), 3u);
  EXPECT_EQ(TrailingWhiteSpace(" \u3000"), 4u);
}

TEST(Unicode, KnowsWordCharacters) {
  for (const int32_t point : {0x61, 0x5F, 0x39, 0xE9, 0x301, 0x967, 0x4E2D, 0x2160}) {
    EXPECT_TRUE(IsWordCharacter(point)) << point;
  }
  for (const int32_t point : {0x20, 0x2D, 0xBD, 0x20AC, 0x1F642}) {
    EXPECT_FALSE(IsWordCharacter(point)) << point;
  }
}

}  // namespace
}  // namespace attnprune
