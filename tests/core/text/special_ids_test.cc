// What is put before and after the ids of a text.
#include "tests/core/text/text_test_util.h"

namespace attnprune {
namespace {

using nlohmann::json;

json Token(const char* id) { return {{"SpecialToken", {{"id", id}, {"type_id", 0}}}}; }
json Text(const char* id = "A") { return {{"Sequence", {{"id", id}, {"type_id", 0}}}}; }

json Template(const std::vector<json>& single) {
  return {{"type", "TemplateProcessing"},
          {"single", single},
          {"special_tokens",
           {{"<s>", {{"id", "<s>"}, {"ids", json::array({500, 501})}}},
            {"</s>", {{"id", "</s>"}, {"ids", json::array({502})}}}}}};
}

json With(const json& post_processor) {
  json spec = AsciiTokenizer();
  spec["post_processor"] = post_processor;
  return spec;
}

TEST(SpecialIds, StandWhereTheTemplateHasThem) {
  const json spec = With(Template({Token("<s>"), Text(), Token("</s>")}));
  EXPECT_EQ(Encoded(spec, "a"), (Ids{500, 501, 'a', 502}));
  EXPECT_EQ(Encoded(spec, ""), (Ids{500, 501, 502}));
  EXPECT_EQ(TokenizerOf(spec).vocabulary_size(), 503);
}

TEST(SpecialIds, AreLeftOutWhenToldSo) {
  const Tokenizer tokenizer = TokenizerOf(With(Template({Token("<s>"), Text()})));
  EXPECT_EQ(testing::ValueOrDie(tokenizer.Encode("a", SpecialTokens::kNone)), (Ids{'a'}));
  EXPECT_EQ(testing::ValueOrDie(tokenizer.Encode("", SpecialTokens::kNone)), Ids());
}

TEST(SpecialIds, OfASequenceEncloseThoseBefore) {
  const json sequence = {{"type", "Sequence"},
                         {"processors",
                          {Template({Token("<s>"), Text()}),
                           {{"type", "ByteLevel"}},
                           Template({Token("</s>"), Text(), Token("</s>")})}}};
  EXPECT_EQ(Encoded(With(sequence), "a"), (Ids{502, 500, 501, 'a', 502}));
}

TEST(SpecialIds, AreAClassAndASeparatorForRobertaAndBert) {
  for (const char* type : {"RobertaProcessing", "BertProcessing"}) {
    const json processor = {
        {"type", type}, {"cls", json::array({"<s>", 500})}, {"sep", json::array({"</s>", 502})}};
    EXPECT_EQ(Encoded(With(processor), "a"), (Ids{500, 'a', 502})) << type;
  }
}

TEST(SpecialIds, AreRefusedByName) {
  const auto refused = [](const json& processor) { return ParseTokenizer(With(processor)); };
  EXPECT_THAT(refused({{"type", "Unknown"}}),
              Fails(kInvalid, "tokenizer.json: post_processor.type must be TemplateProcessing"));
  EXPECT_THAT(refused(Template({Token("<s>")})),
              Fails(kInvalid, "post_processor.single must have Sequence A exactly once"));
  EXPECT_THAT(refused(Template({Text(), Text()})), Fails(kInvalid, "exactly once"));
  EXPECT_THAT(refused(Template({Text("B")})),
              Fails(kInvalid, "post_processor.single[0].Sequence.id must be A, got 'B'"));
  EXPECT_THAT(refused(Template({Token("<x>"), Text()})),
              Fails(kInvalid, "post_processor.special_tokens.<x>.ids must be an array, got null"));
  EXPECT_THAT(refused({{"type", "TemplateProcessing"}}),
              Fails(kInvalid, "post_processor.single must be an array, got null"));
  EXPECT_THAT(refused({{"type", "BertProcessing"},
                       {"cls", json::array({"<s>", -1})},
                       {"sep", json::array({"</s>", 2})}}),
              Fails(kInvalid, "post_processor.cls[1] must be a whole number in [0, "));
}

json WithBosAndEos() {
  json spec = With(Template({Token("</s>"), Text()}));
  spec["added_tokens"] = {{{"id", 600}, {"content", "<s>"}, {"special", true}},
                          {{"id", 601}, {"content", "</s>"}, {"special", true}},
                          {{"id", 602}, {"content", "<bos>"}, {"special", true}}};
  return spec;
}

absl::StatusOr<Ids> EncodedBy(const json& config, absl::string_view text = "a") {
  const std::string tokenizer_text = WithBosAndEos().dump();
  const std::string config_text = config.dump();
  const auto tokenizer = Tokenizer::Parse({"tokenizer.json", tokenizer_text},
                                          NamedText{"tokenizer_config.json", config_text});
  if (!tokenizer.ok()) return tokenizer.status();
  return tokenizer->Encode(text);
}

Ids IdsBy(const json& config) { return testing::ValueOrDie(EncodedBy(config)); }

TEST(TokenizerConfig, OverrulesTheFileForLlamaAndGemma) {
  for (const char* name : {"LlamaTokenizer", "LlamaTokenizerFast"}) {
    EXPECT_EQ(IdsBy({{"tokenizer_class", name}}), (Ids{600, 'a'})) << name;
    EXPECT_EQ(IdsBy({{"tokenizer_class", name}, {"add_bos_token", false}}), (Ids{'a'}));
    EXPECT_EQ(IdsBy({{"tokenizer_class", name}, {"add_eos_token", true}}), (Ids{600, 'a', 601}));
  }
  EXPECT_EQ(IdsBy({{"tokenizer_class", "GemmaTokenizer"}}), (Ids{602, 'a'}));
  EXPECT_EQ(IdsBy({{"tokenizer_class", "GemmaTokenizerFast"}}), (Ids{602, 'a'}));
}

TEST(TokenizerConfig, NamesTheTokens) {
  EXPECT_EQ(IdsBy({{"tokenizer_class", "LlamaTokenizer"}, {"bos_token", "</s>"}}), (Ids{601, 'a'}));
  EXPECT_EQ(IdsBy({{"tokenizer_class", "LlamaTokenizer"}, {"bos_token", {{"content", "b"}}}}),
            (Ids{'b', 'a'}));
}

TEST(TokenizerConfig, ChangesNothingForOtherClasses) {
  EXPECT_EQ(IdsBy({{"tokenizer_class", "PreTrainedTokenizerFast"}, {"add_bos_token", true}}),
            (Ids{502, 'a'}));
  EXPECT_EQ(IdsBy(json::object()), (Ids{502, 'a'}));
}

TEST(TokenizerConfig, IsRefusedByName) {
  EXPECT_THAT(EncodedBy({{"tokenizer_class", "LlamaTokenizer"}, {"bos_token", "<none>"}}),
              Fails(kInvalid,
                    "tokenizer_config.json: bos_token must be a token that tokenizer.json "
                    "has, such as <s>, got '<none>'"));
  EXPECT_THAT(EncodedBy({{"tokenizer_class", "LlamaTokenizer"}, {"add_bos_token", "yes"}}),
              Fails(kInvalid, "add_bos_token must be true or false, got 'yes'"));
  EXPECT_THAT(EncodedBy({{"tokenizer_class", "GemmaTokenizer"}, {"add_eos_token", true}}),
              Fails(kInvalid, "eos_token must be a token that tokenizer.json has"));
  EXPECT_THAT(EncodedBy(json::array()), Fails(kInvalid, "tokenizer_config.json: JSON must be an"));
}

}  // namespace
}  // namespace attnprune
