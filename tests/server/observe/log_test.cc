#include "server/observe/log.h"

#include "gtest/gtest.h"

namespace attnprune {
namespace {

TEST(FormatEvent, WritesFieldsAfterTheEvent) {
  EXPECT_EQ(FormatEvent(LogFormat::kText, "job.state",
                        {{"job", "jobs/a-1"}, {"state", "RUNNING"}, {"attempt", "1"}}),
            "job.state job=jobs/a-1 state=RUNNING attempt=1");
  EXPECT_EQ(FormatEvent(LogFormat::kJson, "job.state", {{"job", "jobs/a-1"}}),
            R"("message":"job.state","job":"jobs/a-1")");
}

TEST(FormatEvent, QuotesWhatWouldBreakALineOrAField) {
  EXPECT_EQ(FormatEvent(LogFormat::kText, "job.warning", {{"text", "a b=\"c\"\n"}}),
            R"(job.warning text="a b=\"c\"\n")");
  EXPECT_EQ(FormatEvent(LogFormat::kText, "job.warning", {{"text", ""}}), R"(job.warning text="")");
}

TEST(FormatEvent, ReplacesBytesThatAreNoText) {
  EXPECT_EQ(FormatEvent(LogFormat::kJson, "e", {{"m", "a\xFF"}}),
            "\"message\":\"e\",\"m\":\"a\uFFFD\"");
}

}  // namespace
}  // namespace attnprune
