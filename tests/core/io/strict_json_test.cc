#include "core/io/strict_json.h"

#include "tests/core/io/invalid.h"
#include "tests/core/tensor/tensor_test_util.h"

namespace attnprune {
namespace {

TEST(StrictJson, ReadsAnObject) {
  const auto json = ParseStrictJson(" {\"a\": [1, {\"b\": \"\\u00e9\"}]}\n", 3);
  ASSERT_THAT(json, Succeeds());
  EXPECT_EQ((*json)["a"][1]["b"], "\xC3\xA9");
}

TEST(StrictJson, RefusesAKeyTwiceAtEveryLevel) {
  EXPECT_THAT(ParseStrictJson(R"({"a": 1, "a": 1})", 9), Fails(kInvalid, "key 'a' appears twice"));
  EXPECT_THAT(ParseStrictJson(R"({"x": [{"b": 1, "c": 2, "b": 1}]})", 9),
              Fails(kInvalid, "key 'b' appears twice"));
  EXPECT_THAT(ParseStrictJson(R"({"a": 1, "\u0061": 1})", 9), Fails(kInvalid, "key 'a'"));
}

TEST(StrictJson, AllowsAKeyAgainInAnotherObject) {
  EXPECT_THAT(ParseStrictJson(R"({"a": {"a": 1}, "b": {"a": 1}})", 2), Succeeds());
}

TEST(StrictJson, BoundsTheDepth) {
  EXPECT_THAT(ParseStrictJson(R"({"a": [[1]]})", 3), Succeeds());
  EXPECT_THAT(ParseStrictJson(R"({"a": [[1]]})", 2), Fails(kInvalid, "nested deeper than 2"));
  const std::string deep = "{\"a\": " + std::string(1'000'000, '[');
  EXPECT_THAT(ParseStrictJson(deep, 100), Fails(kInvalid, "nested deeper than 100"));
}

TEST(StrictJson, RefusesWhatIsNoObject) {
  for (const char* text :
       {"[]", "1", "\"a\"", "null", "\xEF\xBB\xBF[]", "\xEF\xBB\xBF\xEF\xBB\xBF{}"}) {
    EXPECT_THAT(ParseStrictJson(text, 9), Fails(kInvalid, "JSON must be an object")) << text;
  }
  EXPECT_THAT(ParseStrictJson("", 9), Fails(kInvalid, "empty"));
  EXPECT_THAT(ParseStrictJson("  \n", 9), Fails(kInvalid, "empty"));
}

TEST(StrictJson, SkipsAByteOrderMark) {
  const auto json = ParseStrictJson("\xEF\xBB\xBF{\"a\": 1}", 9);
  ASSERT_THAT(json, Succeeds());
  EXPECT_EQ((*json)["a"], 1);
}

TEST(StrictJson, SaysWhatStandsInItsPlace) {
  EXPECT_THAT(ParseStrictJson("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", 9),
              Fails(absl::StatusCode::kNotFound, "Git LFS pointer"));
  EXPECT_THAT(ParseStrictJson("\n<!DOCTYPE html><html>", 9), Fails(kInvalid, "HTML page"));
}

TEST(StrictJson, RefusesBadSyntax) {
  for (const char* text : {"{", "{]", "{\"a\"}", "{\"a\":1,}", "{} {}", "{}x", "{\"a\":01}",
                           "{\"a\":NaN}", "{'a':1}", "{/**/}", "{\"a\":1e999}", "{\"a\":\"\t\"}"}) {
    EXPECT_THAT(ParseStrictJson(text, 9), Fails(kInvalid, "not valid JSON")) << text;
  }
}

TEST(StrictJson, RefusesBadUtf8) {
  for (const char* text : {"{\"\xFF\":1}", "{\"\xC0\x80\":1}", "{\"\xED\xA0\x80\":1}",
                           "{\"\xF5\x80\x80\x80\":1}", "{\"\\ud800\":1}"}) {
    EXPECT_THAT(ParseStrictJson(text, 9), Fails(kInvalid, "not valid JSON")) << text;
  }
}

// The library takes a NUL for the end of its input.
TEST(StrictJson, RefusesANulByteAndWhatItWouldHide) {
  const std::string text("{}\0garbage", 10);
  EXPECT_THAT(ParseStrictJson(text, 9), Fails(kInvalid, "a NUL byte at 2"));
}

}  // namespace
}  // namespace attnprune
