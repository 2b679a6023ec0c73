#include "trace/trace_context.h"

#include <set>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace attnprune {
namespace {

constexpr char kTrace[] = "0af7651916cd43dd8448eb211c80319c", kSpan[] = "b7ad6b7169203331";

std::string Traceparent(const std::string& version, const std::string& trace,
                        const std::string& span, const std::string& flags) {
  return absl::StrCat(version, "-", trace, "-", span, "-", flags);
}

TEST(Traceparent, IsReadAsTheStandardsExampleSays) {
  const auto context = ParseTraceparent(Traceparent("00", kTrace, kSpan, "01"));
  ASSERT_TRUE(context.has_value());
  EXPECT_EQ(context->trace_id, kTrace);
  EXPECT_EQ(context->span_id, kSpan);
  EXPECT_TRUE(context->sampled);
  EXPECT_EQ(ToTraceparent(*context), Traceparent("00", kTrace, kSpan, "01"));
}

TEST(Traceparent, HasOneFlagThatCounts) {
  EXPECT_FALSE(ParseTraceparent(Traceparent("00", kTrace, kSpan, "00"))->sampled);
  EXPECT_FALSE(ParseTraceparent(Traceparent("00", kTrace, kSpan, "fe"))->sampled);
  const auto context = ParseTraceparent(Traceparent("00", kTrace, kSpan, "ff"));
  EXPECT_TRUE(context->sampled);
  EXPECT_EQ(ToTraceparent(*context), Traceparent("00", kTrace, kSpan, "01"));
}

TEST(Traceparent, OfALaterVersionIsReadAsFarAsThisOneGoes) {
  EXPECT_TRUE(ParseTraceparent(Traceparent("01", kTrace, kSpan, "01")).has_value());
  EXPECT_TRUE(ParseTraceparent(Traceparent("cc", kTrace, kSpan, "01-what-comes")).has_value());
  EXPECT_FALSE(ParseTraceparent(Traceparent("cc", kTrace, kSpan, "01.what")).has_value());
}

TEST(Traceparent, ThatBreaksTheGrammarIsNone) {
  const std::string zeros32(32, '0'), zeros16(16, '0');
  const std::string wrong[] = {
      "",
      "00",
      Traceparent("ff", kTrace, kSpan, "01"),
      Traceparent("0", kTrace, kSpan, "01"),
      Traceparent("0g", kTrace, kSpan, "01"),
      Traceparent("00", zeros32, kSpan, "01"),
      Traceparent("00", kTrace, zeros16, "01"),
      Traceparent("00", std::string(kTrace).substr(1), kSpan, "01"),
      Traceparent("00", "0AF7651916CD43DD8448EB211C80319C", kSpan, "01"),
      Traceparent("00", kTrace, "b7ad6b716920333g", "01"),
      Traceparent("00", kTrace, kSpan, "0"),
      Traceparent("00", kTrace, kSpan, "0z"),
      Traceparent("00", kTrace, kSpan, "01-more"),
      Traceparent("00", kTrace, kSpan, "01 "),
      " " + Traceparent("00", kTrace, kSpan, "01"),
      absl::StrCat("00_", kTrace, "-", kSpan, "-01"),
  };
  for (const std::string& text : wrong) {
    EXPECT_FALSE(ParseTraceparent(text).has_value()) << text;
  }
}

TEST(Trace, IsNewEachTimeAndItsChildrenStayInIt) {
  std::set<std::string> traces, spans;
  for (int i = 0; i < 100; ++i) {
    const TraceContext trace = NewTrace(), child = ChildOf(trace);
    ASSERT_TRUE(ParseTraceparent(ToTraceparent(trace)).has_value()) << ToTraceparent(trace);
    EXPECT_EQ(child.trace_id, trace.trace_id);
    traces.insert(trace.trace_id);
    spans.insert({trace.span_id, child.span_id});
  }
  EXPECT_EQ(traces.size(), 100u);
  EXPECT_EQ(spans.size(), 200u);
}

TEST(RequestId, IsShortAndOfPlainCharacters) {
  EXPECT_TRUE(IsRequestId("a"));
  EXPECT_TRUE(IsRequestId("7f3c/run:1.2_x-9"));
  EXPECT_TRUE(IsRequestId(std::string(128, 'a')));
  for (const std::string& text : {std::string(), std::string(129, 'a'), std::string("a b"),
                                  std::string("a\n"), std::string("\"x\""), std::string("é")}) {
    EXPECT_FALSE(IsRequestId(text)) << text;
  }
  EXPECT_TRUE(IsRequestId(NewRequestId()));
  EXPECT_NE(NewRequestId(), NewRequestId());
}

TEST(TraceRequest, TakesWhatTheCallerSentAndMakesTheRest) {
  const TraceContext caller = NewTrace();
  const RequestTrace taken = TraceRequest("order/66", ToTraceparent(caller));
  EXPECT_EQ(taken.request_id, "order/66");
  EXPECT_EQ(taken.trace.trace_id, caller.trace_id);
  EXPECT_EQ(taken.caller_span, caller.span_id);
  EXPECT_NE(taken.trace.span_id, caller.span_id);
  const RequestTrace made = TraceRequest("a b", "no trace");
  EXPECT_TRUE(IsRequestId(made.request_id));
  EXPECT_TRUE(ParseTraceparent(ToTraceparent(made.trace)).has_value());
  EXPECT_EQ(made.caller_span, "");
}

}  // namespace
}  // namespace attnprune
