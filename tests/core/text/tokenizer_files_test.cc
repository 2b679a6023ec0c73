// Opening a tokeniser by its folder or its file, and texts that are out of the ordinary.
#include "tests/core/text/text_test_util.h"

namespace attnprune {
namespace {

using nlohmann::json;

json WithBos() {
  json spec = AsciiTokenizer();
  spec["added_tokens"] = json::array({{{"id", 600}, {"content", "<s>"}, {"special", true}}});
  return spec;
}

TEST(TokenizerFiles, AreReadFromTheFolderOrByTheFile) {
  const TemporaryFolder folder;
  WriteAll(folder.File("tokenizer.json"), WithBos().dump());
  WriteAll(folder.File("tokenizer_config.json"), R"({"tokenizer_class": "LlamaTokenizer"})");
  for (const std::string& path : {folder.path(), folder.File("tokenizer.json")}) {
    const auto tokenizer = Tokenizer::Open(path);
    ASSERT_THAT(tokenizer, Succeeds());
    EXPECT_EQ(testing::ValueOrDie(tokenizer->Encode("a")), (Ids{600, 'a'}));
  }
}

TEST(TokenizerFiles, NeedNoConfig) {
  const TemporaryFolder folder;
  WriteAll(folder.File("tokenizer.json"), WithBos().dump());
  EXPECT_EQ(testing::ValueOrDie(Tokenizer::Open(folder.path())).vocabulary_size(), 601);
}

TEST(TokenizerFiles, MissingAreToldWithAWayToGetThem) {
  const TemporaryFolder folder;
  WriteAll(folder.File("tokenizer.model"), "not read");
  EXPECT_THAT(Tokenizer::Open(folder.path()),
              Fails(absl::StatusCode::kNotFound,
                    folder.path() +
                        " has no tokenizer.json; Python's transformers writes one: "
                        "AutoTokenizer.from_pretrained('" +
                        folder.path() + "').save_pretrained('" + folder.path() + "')"));
}

TEST(TokenizerFiles, MalformedAreNamed) {
  const TemporaryFolder folder;
  WriteAll(folder.File("tokenizer.json"), "{\"model\": NaN}");
  EXPECT_THAT(Tokenizer::Open(folder.path()),
              Fails(kInvalid, folder.File("tokenizer.json") + ": not valid JSON"));
  WriteAll(folder.File("tokenizer.json"), WithBos().dump());
  WriteAll(folder.File("tokenizer_config.json"), "");
  EXPECT_THAT(Tokenizer::Open(folder.path()),
              Fails(kInvalid, folder.File("tokenizer_config.json") + ": JSON is empty"));
}

TEST(Encode, TakesTheEmptyText) { EXPECT_EQ(Encoded(AsciiTokenizer(), ""), Ids()); }

TEST(Encode, TakesOneByte) { EXPECT_EQ(Encoded(AsciiTokenizer(), "a"), (Ids{'a'})); }

TEST(Encode, NamesTheFirstByteThatIsNotUtf8) {
  const Tokenizer tokenizer = TokenizerOf(AsciiTokenizer());
  EXPECT_THAT(tokenizer.Encode("ab\xFF"), Fails(kInvalid, "text must be UTF-8, but at byte 2"));
  EXPECT_THAT(tokenizer.Encode("\xED\xA0\x80"), Fails(kInvalid, "at byte 0"));    // a surrogate
  EXPECT_THAT(tokenizer.Encode("\u00E9\xC0\x80"), Fails(kInvalid, "at byte 2"));  // overlong
  EXPECT_THAT(tokenizer.Encode("abc\xE2\x82"), Fails(kInvalid, "at byte 3"));     // cut off
  EXPECT_THAT(tokenizer.Encode("\xF4\x90\x80\x80"), Fails(kInvalid, "at byte 0"));
}

TEST(Encode, TellsWhenAnExpressionTakesTooLong) {
  json spec = AsciiTokenizer();
  spec["pre_tokenizer"] = {
      {"type", "Split"}, {"pattern", {{"Regex", "(a|aa)+$"}}}, {"behavior", "Isolated"}};
  EXPECT_THAT(TokenizerOf(spec).Encode(std::string(60, 'a') + "b"),
              Fails(kInvalid, "the text cannot be matched from byte 0 on"));
}

// Llama 2's files have no pre_tokenizer: the whole text is one word.
TEST(Encode, TakesTenMegabytesAsOneWord) {
  json spec = AsciiTokenizer();
  spec["model"]["vocab"].update({{"ab", 200}, {"abab", 201}});
  spec["model"]["merges"] = json::array({"a b", "ab ab"});
  std::string text;
  while (text.size() < 10'000'000) text += "abab ";
  const Ids ids = Encoded(spec, text);
  ASSERT_EQ(ids.size(), 4'000'000u);
  EXPECT_EQ((Ids{ids[0], ids[1], ids[2], ids.back()}), (Ids{201, ' ', 201, ' '}));
}

// A run of marks is sorted; utf8proc alone takes quadratic time for that.
TEST(Encode, TakesAMegabyteOfCombiningMarks) {
  json spec = AsciiTokenizer();
  spec["normalizer"] = {{"type", "NFC"}};
  std::string text = "a";
  while (text.size() < 1'000'000) text += "\u0301\u0316";
  EXPECT_THAT(TokenizerOf(spec).Encode(text), Succeeds());
}

}  // namespace
}  // namespace attnprune
