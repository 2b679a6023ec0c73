#include "core/text/normalizer.h"

#include "core/text/json_node.h"
#include "tests/core/text/text_test_util.h"

namespace attnprune {
namespace {

using nlohmann::json;

absl::StatusOr<std::string> Apply(const json& spec, absl::string_view text) {
  const auto normalizer = Normalizer::Parse(JsonNode(spec, "normalizer"));
  if (!normalizer.ok()) return normalizer.status();
  return normalizer->Apply(text);
}

std::string Applied(const json& spec, absl::string_view text) {
  return testing::ValueOrDie(Apply(spec, text));
}

json Replace(const json& pattern, const char* content) {
  return {{"type", "Replace"}, {"pattern", pattern}, {"content", content}};
}

json InOrder(const std::vector<json>& steps) {
  return {{"type", "Sequence"}, {"normalizers", steps}};
}

TEST(Normalizer, NoneLeavesTextAsItIs) { EXPECT_EQ(Applied(nullptr, "e\u0301 A"), "e\u0301 A"); }

TEST(Normalizer, KnowsTheUnicodeForms) {
  const std::string text = "e\u0301 \u00E9 \uFB01";
  EXPECT_EQ(Applied({{"type", "NFC"}}, text), "\u00E9 \u00E9 \uFB01");
  EXPECT_EQ(Applied({{"type", "NFD"}}, text), "e\u0301 e\u0301 \uFB01");
  EXPECT_EQ(Applied({{"type", "NFKC"}}, text), "\u00E9 \u00E9 fi");
  EXPECT_EQ(Applied({{"type", "NFKD"}}, text), "e\u0301 e\u0301 fi");
}

TEST(Normalizer, PrependsToWhatIsNotEmpty) {
  const json prepend = {{"type", "Prepend"}, {"prepend", "\u2581"}};
  EXPECT_EQ(Applied(prepend, "a"), "\u2581a");
  EXPECT_EQ(Applied(prepend, ""), "");
}

TEST(Normalizer, ReplacesStringsAndExpressions) {
  EXPECT_EQ(Applied(Replace({{"String", "."}}, "--"), "a.b."), "a--b--");
  EXPECT_EQ(Applied(Replace({{"Regex", " +"}}, "_"), "a  b c"), "a_b_c");
  EXPECT_EQ(Applied(Replace({{"Regex", "x*"}}, "-"), "axb"), "-a-b-");
}

TEST(Normalizer, Lowercases) {
  EXPECT_EQ(Applied({{"type", "Lowercase"}}, "ÀB\u0130"), "àbi\u0307");
}

TEST(Normalizer, StripsTheSidesItIsTold) {
  const auto strip = [](bool left, bool right) {
    return json{{"type", "Strip"}, {"strip_left", left}, {"strip_right", right}};
  };
  EXPECT_EQ(Applied(strip(true, true), "\u3000 a b\n\u00A0"), "a b");
  EXPECT_EQ(Applied(strip(true, false), " a "), "a ");
  EXPECT_EQ(Applied(strip(false, true), " a "), " a");
  EXPECT_EQ(Applied(strip(true, true), " \n "), "");
}

TEST(Normalizer, RunsASequenceInItsOrder) {
  const std::vector<json> steps = {Replace({{"String", "a"}}, "b"),
                                   Replace({{"String", "b"}}, "c")};
  EXPECT_EQ(Applied(InOrder({InOrder(steps), {{"type", "Lowercase"}}}), "aB"), "cb");
}

TEST(Normalizer, RefusesByName) {
  EXPECT_THAT(Apply({{"type", "BertNormalizer"}}, ""),
              Fails(kInvalid, "normalizer: type must be NFC, NFD, NFKC"));
  EXPECT_THAT(Apply(InOrder({{{"type", "NFC"}}, {{"type", "Precompiled"}}}), ""),
              Fails(kInvalid, "normalizer: normalizers[1].type must be"));
  EXPECT_THAT(Apply(Replace({{"Regex", "("}}, ""), ""),
              Fails(kInvalid, "normalizer: pattern.Regex must be a regular expression"));
  EXPECT_THAT(Apply(Replace({{"String", ""}}, ""), ""),
              Fails(kInvalid, "normalizer: pattern.String must not be empty"));
  EXPECT_THAT(Apply(Replace({{"String", "a"}, {"Regex", "a"}}, ""), ""),
              Fails(kInvalid, "pattern must have either Regex or String"));
  EXPECT_THAT(Apply({{"type", "Prepend"}}, ""), Fails(kInvalid, "prepend must be a string"));
  EXPECT_THAT(Apply("NFC", ""), Fails(kInvalid, "it must be an object, got 'NFC'"));
}

// Doubled thirty times, a text would not fit any memory.
TEST(Normalizer, BoundsHowTextGrows) {
  const std::vector<json> steps(30, Replace({{"String", "a"}}, "aa"));
  EXPECT_THAT(Apply(InOrder(steps), std::string(2000, 'a')),
              Fails(kInvalid, "must not make a text longer than"));
  EXPECT_EQ(Applied(Replace({{"String", "a"}}, std::string(1000, 'b').c_str()), "a"),
            std::string(1000, 'b'));
}

}  // namespace
}  // namespace attnprune
