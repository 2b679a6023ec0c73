// Everything that a tokenizer.json may ask for in vain, and files that are none.
#include <functional>
#include <string>

#include "tests/core/text/text_test_util.h"

namespace attnprune {
namespace {

using nlohmann::json;

struct Refusal {
  const char* title;
  std::function<void(json&)> change;
  const char* message;
};

const std::vector<Refusal>& Refusals() {
  static const auto& refusals = *new std::vector<Refusal>{
      {"another version", [](json& t) { t["version"] = "2.0"; },
       "tokenizer.json: version must be 1.0, the one that is known, got '2.0'"},
      {"a Unigram model", [](json& t) { t["model"]["type"] = "Unigram"; },
       "tokenizer.json: model.type must be BPE, the one model that is supported, got 'Unigram'"},
      {"a WordPiece model", [](json& t) { t["model"]["type"] = "WordPiece"; }, "got 'WordPiece'"},
      {"a WordLevel model", [](json& t) { t["model"]["type"] = "WordLevel"; }, "got 'WordLevel'"},
      {"no model", [](json& t) { t.erase("model"); }, "model must be an object, got null"},
      {"dropout", [](json& t) { t["model"]["dropout"] = 0.1; },
       "model.dropout must be null or 0: ids that are drawn are not supported, got 0.1"},
      {"a subword prefix", [](json& t) { t["model"]["continuing_subword_prefix"] = "##"; },
       "model.continuing_subword_prefix must be null or empty: it is not supported, got '##'"},
      {"a word suffix", [](json& t) { t["model"]["end_of_word_suffix"] = "</w>"; },
       "model.end_of_word_suffix must be null or empty"},
      {"a Precompiled normalizer",
       [](json& t) {
         t["normalizer"] = {{"type", "Precompiled"}};
       },
       "normalizer.type must be NFC, NFD, NFKC, NFKD, Lowercase, Prepend, Replace, Strip or "
       "Sequence, which are supported, got 'Precompiled'"},
      {"a BertNormalizer",
       [](json& t) {
         t["normalizer"] = {{"type", "BertNormalizer"}};
       },
       "got 'BertNormalizer'"},
      {"a Whitespace pre_tokenizer",
       [](json& t) {
         t["pre_tokenizer"] = {{"type", "Whitespace"}};
       },
       "pre_tokenizer.type must be Split, ByteLevel, Digits, Punctuation, Metaspace or Sequence, "
       "which are supported, got 'Whitespace'"},
      {"an expression that cannot be read",
       [](json& t) {
         t["pre_tokenizer"] = {
             {"type", "Split"}, {"pattern", {{"Regex", "(?<"}}}, {"behavior", "Isolated"}};
       },
       "tokenizer.json: pre_tokenizer.pattern.Regex must be a regular expression that PCRE2 reads, "
       "got '(?<'"},
      {"no vocabulary", [](json& t) { t["model"].erase("vocab"); },
       "model.vocab must be an object, got null"},
      {"a vocabulary that is a list", [](json& t) { t["model"]["vocab"] = json::array(); },
       "model.vocab must be an object, got an array"},
      {"an id that is text", [](json& t) { t["model"]["vocab"]["a"] = "1"; },
       "model.vocab.a must be a whole number in [0, 2147483646], got '1'"},
      {"a negative id", [](json& t) { t["model"]["vocab"]["a"] = -1; }, "model.vocab.a must be a"},
      {"an id of a half", [](json& t) { t["model"]["vocab"]["a"] = 0.5; }, "got 0.5"},
      {"an id beyond 31 bits", [](json& t) { t["model"]["vocab"]["a"] = 2147483647; },
       "got 2147483647"},
      {"an id beyond 64 bits", [](json& t) { t["model"]["vocab"]["a"] = 1e30; }, "got 1e+30"},
      {"no merges", [](json& t) { t["model"].erase("merges"); },
       "model.merges must be an array, got null"},
      {"a merge of one token", [](json& t) { t["model"]["merges"] = json::array({"ab"}); },
       "model.merges[0] must be \"LEFT RIGHT\" or [\"LEFT\", \"RIGHT\"], got 'ab'"},
      {"a merge of three",
       [](json& t) {
         t["model"]["merges"] = json::array({json::array({"a", "b", "c"})});
       },
       "model.merges[0] must be \"LEFT RIGHT\""},
      {"a merge of numbers",
       [](json& t) {
         t["model"]["merges"] = json::array({json::array({1, 2})});
       },
       "model.merges[0]"},
      {"a merge whose sum is no token",
       [](json& t) { t["model"]["merges"] = json::array({"a b"}); },
       "model.merges[0] must be of two tokens of the vocabulary, which has their sum, not 'a' and "
       "'b'"},
      {"a merge with an empty part",
       [](json& t) {
         t["model"]["vocab"][""] = 500;
         t["model"]["merges"] = json::array({json::array({"", "a"})});
       },
       "model.merges[0] must be of two tokens"},
      {"an unk_token that is a number", [](json& t) { t["model"]["unk_token"] = 0; },
       "model.unk_token must be a string, got 0"},
      {"byte_fallback that is text", [](json& t) { t["model"]["byte_fallback"] = "yes"; },
       "model.byte_fallback must be true or false, got 'yes'"},
      {"added tokens that are no list",
       [](json& t) {
         t["added_tokens"] = json::object({{"<s>", 1}});
       },
       "added_tokens must be an array, got an object"},
      {"an added token without an id",
       [](json& t) {
         t["added_tokens"] = json::array({{{"content", "<s>"}}});
       },
       "added_tokens[0].id must be a whole number in [0, 2147483646], got null"},
      {"an added token without content",
       [](json& t) {
         t["added_tokens"] = json::array({{{"id", 1}}});
       },
       "added_tokens[0].content must be a string, got null"},
      {"an added token with an id of its own",
       [](json& t) {
         t["added_tokens"] = json::array({{{"id", 1}, {"content", "a"}}});
       },
       "tokenizer.json: added_tokens must give 'a' one id, got 97 and 1"},
      {"an added token with two ids",
       [](json& t) {
         t["added_tokens"] = {{{"id", 501}, {"content", "<s>"}}, {{"id", 502}, {"content", "<s>"}}};
       },
       "added_tokens must give '<s>' one id, got 501 and 502"},
      {"a RobertaProcessing of one token",
       [](json& t) {
         t["post_processor"] = {
             {"type", "RobertaProcessing"}, {"cls", json::array({"<s>"})}, {"sep", {"</s>", 1}}};
       },
       "post_processor.cls must be a token and its id, got an array"},
  };
  return refusals;
}

TEST(Tokenizer, RefusesByNameWhatItDoesNotSupport) {
  for (const Refusal& refusal : Refusals()) {
    json spec = AsciiTokenizer();
    refusal.change(spec);
    EXPECT_THAT(ParseTokenizer(spec), Fails(kInvalid, refusal.message)) << refusal.title;
  }
}

TEST(Tokenizer, TakesTheSpellingsOfNothing) {
  json spec = AsciiTokenizer();
  spec["model"].update({{"dropout", 0.0},
                        {"continuing_subword_prefix", ""},
                        {"end_of_word_suffix", ""},
                        {"unk_token", ""}});  // as GPT-2's file has them
  spec["truncation"] = {{"max_length", 1}};   // which transformers overrules
  EXPECT_EQ(Encoded(spec, "ab"), Codes("ab"));
  spec["model"].erase("type");  // as old files do
  EXPECT_EQ(Encoded(spec, "ab"), Codes("ab"));
}

absl::StatusOr<Tokenizer> ParseText(const std::string& text) {
  return Tokenizer::Parse({"tokenizer.json", text});
}

TEST(Tokenizer, RefusesWhatIsNoJson) {
  const std::string whole = AsciiTokenizer().dump();
  for (size_t length = 0; length < whole.size(); length += 7) {
    EXPECT_THAT(ParseText(whole.substr(0, length)), Fails(kInvalid, "tokenizer.json: ")) << length;
  }
  EXPECT_THAT(ParseText("[]"), Fails(kInvalid, "tokenizer.json: JSON must be an object"));
  EXPECT_THAT(ParseText("{\"version\": NaN}"), Fails(kInvalid, "tokenizer.json: not valid JSON"));
  EXPECT_THAT(ParseText("{\"version\": \"1.0\", \"version\": \"1.0\"}"),
              Fails(kInvalid, "tokenizer.json: key 'version' appears twice"));
  EXPECT_THAT(ParseText(R"({"model": {"vocab": {"\ud800": 1}, "merges": []}})"),
              Fails(kInvalid, "tokenizer.json: not valid JSON"));
}

TEST(Tokenizer, BoundsHowDeepSequencesNest) {
  json normalizer = {{"type", "NFC"}};
  for (int depth = 0; depth < 100; ++depth) {
    normalizer = {{"type", "Sequence"}, {"normalizers", json::array({normalizer})}};
  }
  json spec = AsciiTokenizer();
  spec["normalizer"] = normalizer;
  EXPECT_THAT(ParseTokenizer(spec),
              Fails(kInvalid, "tokenizer.json: nested deeper than 64 levels"));
}

}  // namespace
}  // namespace attnprune
