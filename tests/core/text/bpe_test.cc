#include "core/text/bpe.h"

#include <algorithm>
#include <map>
#include <random>

#include "absl/strings/str_cat.h"
#include "core/text/bpe_encoder.h"
#include "core/text/json_node.h"
#include "tests/core/text/text_test_util.h"

namespace attnprune {
namespace {

using nlohmann::json;
using Merges = std::vector<std::pair<std::string, std::string>>;

// Characters first, then what each merge makes, by number.
json ModelOf(const std::string& characters, const Merges& merges) {
  json model = {{"type", "BPE"}, {"vocab", json::object()}, {"merges", json::array()}};
  json& vocabulary = model["vocab"];
  const auto add = [&](const std::string& token) {
    vocabulary.emplace(token, static_cast<int>(vocabulary.size()));
  };
  for (const char c : characters) add(std::string(1, c));
  for (const auto& [left, right] : merges) {
    add(left + right);
    model["merges"].push_back(json::array({left, right}));
  }
  return model;
}

absl::StatusOr<Ids> EncodeWord(const json& model, absl::string_view word) {
  const BpeModel parsed = testing::ValueOrDie(BpeModel::Parse(JsonNode(model, "model")));
  BpeEncoder encoder(parsed);
  Ids ids;
  const absl::Status status = encoder.Append(word, &ids);
  if (!status.ok()) return status;
  return ids;
}

std::vector<std::string> Tokens(const json& model, absl::string_view word) {
  std::map<int32_t, std::string> names;
  for (const auto& [token, id] : model["vocab"].items()) names[id.get<int32_t>()] = token;
  std::vector<std::string> tokens;
  for (const int32_t id : testing::ValueOrDie(EncodeWord(model, word))) {
    tokens.push_back(names.at(id));
  }
  return tokens;
}

using Strings = std::vector<std::string>;

TEST(Bpe, MergesThePairOfLowestRankFirst) {
  const json model = ModelOf("abc", {{"b", "c"}, {"a", "b"}});
  EXPECT_EQ(Tokens(model, "abc"), (Strings{"a", "bc"}));
}

TEST(Bpe, MergesTheLeftmostOfEquals) {
  const json model = ModelOf("a", {{"a", "a"}});
  EXPECT_EQ(Tokens(model, "aaa"), (Strings{"aa", "a"}));
}

TEST(Bpe, MergesWhatMergesHaveMade) {
  const json model = ModelOf("ab", {{"a", "b"}, {"ab", "ab"}, {"abab", "a"}});
  EXPECT_EQ(Tokens(model, "abababa"), (Strings{"abab", "ab", "a"}));
  EXPECT_EQ(Tokens(model, "ababa"), (Strings{"ababa"}));
}

TEST(Bpe, ReadsBothSpellingsOfAMerge) {
  json model = ModelOf("ab", {{"a", "b"}, {"ab", "b"}});
  model["merges"] = json::array({"a b", json::array({"ab", "b"})});
  EXPECT_EQ(Tokens(model, "abb"), (Strings{"abb"}));
}

TEST(Bpe, TakesAWholeWordOfTheVocabularyOnlyWhereMergesAreIgnored) {
  json model = ModelOf("ab", {});
  model["vocab"]["ab"] = 7;
  EXPECT_EQ(Tokens(model, "ab"), (Strings{"a", "b"}));
  model["ignore_merges"] = true;
  EXPECT_EQ(Tokens(model, "ab"), (Strings{"ab"}));
  const std::string word(100, 'a');  // longer than those that are remembered
  model["vocab"][word] = 8;
  EXPECT_EQ(Tokens(model, word), (Strings{word}));
}

TEST(Bpe, MergesThePartsOfALongWordWhereMergesAreIgnored) {
  json model = ModelOf("abxy", {{"xa", "b"}});
  model["vocab"]["ab"] = 70;  // no merge gives it
  model["vocab"]["xa"] = 71;
  model["ignore_merges"] = true;
  EXPECT_EQ(Tokens(model, "ab"), (Strings{"ab"}));
  Strings apart(64, "y");
  apart.insert(apart.end(), {"a", "b"});
  EXPECT_EQ(Tokens(model, std::string(64, 'y') + "ab"), apart);
}

TEST(Bpe, DropsUnknownCharactersWithoutAnUnknownToken) {
  const json model = ModelOf("ab", {{"a", "b"}});
  EXPECT_EQ(Tokens(model, "a?b"), (Strings{"ab"}));
  EXPECT_EQ(Tokens(model, "??"), Strings());
}

TEST(Bpe, GivesUnknownCharactersTheUnknownToken) {
  json model = ModelOf("ab", {});
  model["vocab"]["<unk>"] = 9;
  model["unk_token"] = "<unk>";
  EXPECT_EQ(Tokens(model, "a??b?"), (Strings{"a", "<unk>", "<unk>", "b", "<unk>"}));
  model["fuse_unk"] = true;
  EXPECT_EQ(Tokens(model, "a??b?"), (Strings{"a", "<unk>", "b", "<unk>"}));
  EXPECT_EQ(Tokens(model, "a" + std::string(1000, '?')), (Strings{"a", "<unk>"}));
}

TEST(Bpe, NeedsTheUnknownTokenOnlyForUnknownCharacters) {
  json model = ModelOf("ab", {});
  model["unk_token"] = "<unk>";
  EXPECT_EQ(Tokens(model, "ab"), (Strings{"a", "b"}));
  EXPECT_THAT(
      EncodeWord(model, "a?b"),
      Fails(kInvalid, "model: unk_token '<unk>' must be in model.vocab, for the text has '?'"));
}

TEST(Bpe, FallsBackToBytesOnlyIfAllOfACharacterAreThere) {
  json model = ModelOf("a", {});
  model["vocab"].update({{"<0xC3>", 10}, {"<0xA9>", 11}, {"<unk>", 12}});
  model["unk_token"] = "<unk>";
  EXPECT_EQ(Tokens(model, "\u00E9"), (Strings{"<unk>"}));
  model["byte_fallback"] = true;
  EXPECT_EQ(Tokens(model, "a\u00E9"), (Strings{"a", "<0xC3>", "<0xA9>"}));
  EXPECT_EQ(Tokens(model, "\u00EA"), (Strings{"<unk>"}));
}

// The definition, step by step. Quadratic.
Ids SlowIds(const json& model, absl::string_view word) {
  std::vector<std::string> parts;
  for (const char c : word) parts.emplace_back(1, c);
  while (true) {
    size_t best = model["merges"].size();
    size_t place = 0;
    for (size_t i = 0; i + 1 < parts.size(); ++i) {
      const auto& merges = model["merges"];
      const json pair = json::array({parts[i], parts[i + 1]});
      const auto rank =
          static_cast<size_t>(std::find(merges.begin(), merges.end(), pair) - merges.begin());
      if (rank < best) {
        best = rank;
        place = i;
      }
    }
    if (best == model["merges"].size()) break;
    parts[place] += parts[place + 1];
    parts.erase(parts.begin() + static_cast<ptrdiff_t>(place) + 1);
  }
  Ids ids;
  for (const std::string& part : parts) ids.push_back(model["vocab"][part].get<int32_t>());
  return ids;
}

// Pairs of tokens that are there already.
Merges RandomMerges(std::mt19937* random, size_t count) {
  Strings tokens = {"a", "b", "c", "_"};
  Merges merges;
  const auto draw = [&] { return tokens[(*random)() % tokens.size()]; };
  while (merges.size() < count) {
    const std::pair<std::string, std::string> merge = {draw(), draw()};
    if (std::ranges::find(tokens, merge.first + merge.second) != tokens.end()) continue;
    merges.push_back(merge);
    tokens.push_back(merge.first + merge.second);
  }
  return merges;
}

std::string RandomWord(std::mt19937* random, size_t length) {
  std::string word;
  while (word.size() < length) word += "abc_"[(*random)() % 4];
  return word;
}

TEST(Bpe, GivesWhatTheDefinitionGivesOnRandomModels) {
  constexpr unsigned kSeed = 1;
  std::mt19937 random(kSeed);
  for (int trial = 0; trial < 30; ++trial) {
    const json model = ModelOf("abc_", RandomMerges(&random, 1 + random() % 12));
    for (const size_t length : {1, 3, 10, 65, 100}) {
      const std::string word = RandomWord(&random, length);
      ASSERT_EQ(testing::ValueOrDie(EncodeWord(model, word)), SlowIds(model, word))
          << model << " " << word << " seed " << kSeed << " trial " << trial;
    }
  }
}

TEST(Bpe, RemembersWordsWithoutMixingThemUp) {
  const json json_model = ModelOf("0123456789", {{"1", "2"}, {"12", "3"}, {"7", "7"}});
  const BpeModel model = testing::ValueOrDie(BpeModel::Parse(JsonNode(json_model, "model")));
  BpeEncoder encoder(model);
  for (int number = 0; number < 150'000; ++number) {  // more than are remembered at once
    const std::string word = absl::StrCat(number % 70'000);
    Ids ids;
    ASSERT_THAT(encoder.Append(word, &ids), Succeeds());
    if (number % 997 != 0) continue;
    ASSERT_EQ(ids, testing::ValueOrDie(EncodeWord(json_model, word))) << word;
  }
}

TEST(Bpe, TakesAWordOfAMillionCharactersThatAllMerge) {
  Merges merges;
  for (std::string half = "a"; half.size() < 1024; half += half) merges.emplace_back(half, half);
  const Ids ids =
      testing::ValueOrDie(EncodeWord(ModelOf("a", merges), std::string(1'048'576, 'a')));
  EXPECT_EQ(ids, Ids(1024, 10));
}

}  // namespace
}  // namespace attnprune
