// The nine tiny tokenisers of tests/data/tokenizers, one of each style, against ids that a slow
// Python implementation gave, which was checked against @huggingface/tokenizers.
#include <string>
#include <thread>
#include <vector>

#include "tests/core/text/text_test_util.h"
#include "tests/support/paths.h"

namespace attnprune {
namespace {

using nlohmann::json;

class GoldenTokenizer : public ::testing::TestWithParam<const char*> {
 protected:
  std::string Folder() const { return TestData(std::string("/tokenizers/") + GetParam()); }
  Tokenizer Opened() const { return testing::ValueOrDie(Tokenizer::Open(Folder())); }
  json Cases() const { return json::parse(ReadAll(Folder() + "/expected.json")); }
};

TEST_P(GoldenTokenizer, GivesTheIdsOfEveryText) {
  const Tokenizer tokenizer = Opened();
  const json cases = Cases();
  ASSERT_EQ(cases.size(), 35u);
  for (const json& one : cases) {
    const auto ids = tokenizer.Encode(one["text"].get<std::string>());
    ASSERT_THAT(ids, Succeeds());
    EXPECT_EQ(*ids, one["ids"].get<Ids>()) << one["text"];
  }
}

TEST_P(GoldenTokenizer, HasAVocabularyThatHoldsEveryId) {
  const json vocabulary = json::parse(ReadAll(Folder() + "/tokenizer.json"))["model"]["vocab"];
  EXPECT_EQ(Opened().vocabulary_size(), static_cast<int64_t>(vocabulary.size()));
}

TEST_P(GoldenTokenizer, GivesTheSameIdsToManyThreads) {
  const Tokenizer tokenizer = Opened();
  const json cases = Cases();
  std::vector<std::thread> threads;
  std::vector<size_t> wrong(4);
  for (size_t t = 0; t < wrong.size(); ++t) {
    threads.emplace_back([&, t] {
      for (const json& one : cases) {
        const auto ids = tokenizer.Encode(one["text"].get<std::string>());
        wrong[t] += !ids.ok() || *ids != one["ids"].get<Ids>() ? 1 : 0;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<size_t>(4, 0));
}

INSTANTIATE_TEST_SUITE_P(Every, GoldenTokenizer,
                         ::testing::Values("gemma", "gpt2", "gpt2-prefix-space", "llama2",
                                           "llama2-metaspace", "llama3", "pythia", "qwen2",
                                           "starcoder2"),
                         [](const auto& test) {
                           std::string name = test.param;
                           std::erase(name, '-');
                           return name;
                         });

TEST(TinyLlama, TakesAsciiBytesForIds) {
  const Tokenizer tokenizer = testing::ValueOrDie(Tokenizer::Open(TinyLlama()));
  EXPECT_EQ(tokenizer.vocabulary_size(), 128);
  std::string text;
  for (int repeat = 0; repeat < 3; ++repeat) {
    for (int byte = 0; byte < 128; ++byte) text += static_cast<char>(byte);
  }
  EXPECT_EQ(testing::ValueOrDie(tokenizer.Encode(text)), Codes(text));
}

TEST(TinyLlama, TakesQuestionMarksForBytesThatAreNotAscii) {
  const Tokenizer tokenizer = testing::ValueOrDie(Tokenizer::Open(TinyLlama()));
  EXPECT_EQ(testing::ValueOrDie(tokenizer.Encode("caf\u00E9!")), Codes("caf?\?!"));
}

}  // namespace
}  // namespace attnprune
