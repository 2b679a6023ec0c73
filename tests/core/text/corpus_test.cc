#include "core/text/corpus.h"

#include "absl/strings/str_cat.h"
#include "tests/core/text/text_test_util.h"

namespace attnprune {
namespace {

absl::StatusOr<std::string> Read(const std::string& name, const std::string& bytes) {
  const TemporaryFolder folder;
  WriteAll(folder.File(name), bytes);
  return ReadCorpus(folder.File(name), " ");
}

std::string Good(const std::string& name, const std::string& bytes) {
  return testing::ValueOrDie(Read(name, bytes));
}

TEST(Corpus, IsATextFileAsItIs) {
  EXPECT_EQ(Good("a.txt", "One.\r\n\r\ncaf\u00E9 \n"), "One.\r\n\r\ncaf\u00E9 \n");
}

TEST(Corpus, SkipsAByteOrderMarkAtTheStartOnly) {
  EXPECT_EQ(Good("a.txt", "\uFEFFone \uFEFF"), "one \uFEFF");
  EXPECT_EQ(Good("a.jsonl", "\uFEFF{\"text\": \"one\"}"), "one");
}

TEST(Corpus, JoinsTheDocumentsOfJsonLines) {
  EXPECT_EQ(Good("a.jsonl", "{\"text\": \"one\", \"id\": 1}\n{\"text\": \"two\\n\"}\n"),
            "one two\n");
  EXPECT_EQ(Good("A.JSONL", "{\"text\": \"\"}\r\n\r\n{\"text\": \"two\"}\r\n\n"), " two");
}

TEST(Corpus, NamesTheLineAtFault) {
  EXPECT_THAT(Read("a.jsonl", "{\"text\": \"one\"}\n\n{\"txt\": \"two\"}\n"),
              Fails(kInvalid, "a.jsonl: line 3: there is no field \"text\""));
  EXPECT_THAT(Read("a.jsonl", "{\"text\": [\"one\"]}\n"),
              Fails(kInvalid, "a.jsonl: line 1: text must be a string, got an array"));
  EXPECT_THAT(Read("a.jsonl", "{\"text\": \"one\"}\n{\"text\": \"tw\n"),
              Fails(kInvalid, "a.jsonl: line 2: not valid JSON"));
  EXPECT_THAT(Read("a.jsonl", "{\"text\": \"one\"}\nplain text\n"),
              Fails(kInvalid, "a.jsonl: line 2: JSON must be an object"));
  EXPECT_THAT(Read("a.jsonl", "{\"text\": \"\\ud800\"}\n"),
              Fails(kInvalid, "a.jsonl: line 1: not valid JSON"));
}

TEST(Corpus, RefusesWhatIsNotUtf8) {
  EXPECT_THAT(Read("a.txt", "one\ntwo \xFF\n"),
              Fails(kInvalid, "a.txt: it must be UTF-8, but at byte 8, in line 2, no character"));
  EXPECT_THAT(Read("a.txt", "\uFEFFone\xC3"), Fails(kInvalid, "at byte 6, in line 1"));
  EXPECT_THAT(Read("a.txt", std::string("\xFF\xFEo\0n\0e\0", 8)), Fails(kInvalid, "at byte 0"));
  EXPECT_THAT(Read("a.jsonl", "{\"text\": \"one\"}\n{\"text\": \"\xED\xA0\x80\"}\n"),
              Fails(kInvalid, "in line 2"));
}

TEST(Corpus, RefusesAFileWithoutText) {
  for (const char* text : {"", " \n\t\r\n", "\uFEFF"}) {
    EXPECT_THAT(Read("a.txt", text), Fails(kInvalid, "a.txt: there is no text in it"));
    EXPECT_THAT(Read("a.jsonl", text), Fails(kInvalid, "a.jsonl: there is no text in it"));
  }
  EXPECT_THAT(Read("a.jsonl", "{\"text\": \" \"}\n"), Fails(kInvalid, "there is no text in it"));
}

TEST(Corpus, RefusesOtherFiles) {
  EXPECT_THAT(Read("a.json", "{}"), Fails(kInvalid, "a.json: a text corpus must be a .txt or a"));
  EXPECT_THAT(ReadCorpus("/nowhere/a.txt", " "), Fails(absl::StatusCode::kNotFound, "a.txt"));
}

}  // namespace
}  // namespace attnprune
