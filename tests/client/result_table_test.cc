#include "client/cli/result_table.h"

#include "client/cli/format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace attnprune::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

v1::MethodResult& AddResult(v1::Job& job, const std::string& method, double calibration,
                            double held_out) {
  v1::MethodResult& result = *job.add_results();
  result.set_method(method);
  result.mutable_relative_error()->set_calibration(calibration);
  result.mutable_relative_error()->set_held_out(held_out);
  return result;
}

v1::Job ThreeMethods() {
  v1::Job job;
  job.set_name("jobs/x");
  AddResult(job, "magnitude", 0.1, 0.4);
  job.add_results()->set_method("broken");
  job.mutable_results(1)->mutable_failure()->set_message("no Cholesky factor");
  AddResult(job, "gd", 0.2, 0.3);
  return job;
}

TEST(BestFirst, RanksByHeldOutErrorAndPutsFailuresLast) {
  const v1::Job job = ThreeMethods();
  const auto best = BestFirst(job);
  EXPECT_EQ(best[0]->method(), "gd");
  EXPECT_EQ(best[1]->method(), "magnitude");
  EXPECT_EQ(best[2]->method(), "broken");
}

TEST(BestFirst, RanksByCalibrationErrorWithoutHeldOutData) {
  v1::Job job;
  AddResult(job, "a", 0.2, 0).mutable_relative_error()->clear_held_out();
  AddResult(job, "b", 0.1, 0).mutable_relative_error()->clear_held_out();
  EXPECT_EQ(BestFirst(job)[0]->method(), "b");
}

TEST(ResultOf, FindsTheBestOrTheNamedOneAndSaysWhatThereIs) {
  const v1::Job job = ThreeMethods();
  EXPECT_EQ((*ResultOf(job, ""))->method(), "gd");
  EXPECT_EQ((*ResultOf(job, "magnitude"))->method(), "magnitude");
  EXPECT_THAT(std::string(ResultOf(job, "ste").status().message()), HasSubstr("gd, magnitude"));
  EXPECT_FALSE(ResultOf(job, "broken").ok()) << "a failure has no weights";
}

TEST(ResultTable, ShowsEachMethodInItsPlace) {
  const std::string table = ResultTable(ThreeMethods());
  EXPECT_THAT(table, StartsWith("method     held out  calibration"));
  EXPECT_LT(table.find("gd "), table.find("magnitude "));
  EXPECT_THAT(table, HasSubstr("0.30000      0.20000"));
  EXPECT_THAT(table, HasSubstr("failed: no Cholesky factor"));
  EXPECT_EQ(ResultTable(v1::Job()), "");
}

TEST(Format, WritesTimesAndSizesForPeople) {
  EXPECT_EQ(SecondsText(0.42), "0.42 s");
  EXPECT_EQ(SecondsText(12.4), "12 s");
  EXPECT_EQ(SecondsText(185), "3 min 05 s");
  EXPECT_EQ(SecondsText(7800), "2 h 10 min");
  EXPECT_EQ(SecondsText(-1), "?");
  EXPECT_EQ(BytesText(512), "512 B");
  EXPECT_EQ(BytesText(3 << 19), "1.5 MiB");
}

TEST(Format, WritesTheApisJson) {
  v1::Job job;
  AddResult(job, "gd", 0.25, 0.5);
  const std::string line = Json(job, JsonStyle::kLine);
  EXPECT_THAT(line, HasSubstr(R"("relativeError":{"calibration":0.25,"heldOut":0.5})"));
  EXPECT_EQ(line.find('\n'), line.size() - 1);
}

}  // namespace
}  // namespace attnprune::cli
