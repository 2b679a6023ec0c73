#include "client/cli/views/result_table.h"

#include <algorithm>
#include <limits>
#include <string>

#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "client/cli/views/format.h"
#include "client/cli/views/paint.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace attnprune::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
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

TEST(ResultTable, SaysTheSettingsOfAMethodThatIsThereTwice) {
  v1::Job job;
  for (const char* label : {"gd", "gd#2", "wanda"}) {
    v1::Method& method = *job.add_methods();
    method.set_name(label[0] == 'g' ? "gd" : label);
    method.set_label(label);
    AddResult(job, label, 0.1, 0.2);
  }
  (*job.mutable_methods(1)->mutable_parameters())["steps"] = 40;
  (*job.mutable_methods(1)->mutable_parameters())["lambda"] = 0.5;
  job.mutable_sparsity()->mutable_n_of_m()->set_n(1);
  job.mutable_sparsity()->mutable_n_of_m()->set_m(4);
  const std::string table = ResultTable(job);
  EXPECT_THAT(table, HasSubstr("\nsparsity 1:4 removes 1 of every 4\n"));
  EXPECT_THAT(table, HasSubstr("\ngd: defaults\ngd#2: lambda=0.5, steps=40\n"));
  EXPECT_THAT(table, Not(HasSubstr("wanda:")));
}

TEST(ResultTable, ShowsEachMethodInItsPlace) {
  const std::string table = ResultTable(ThreeMethods());
  EXPECT_THAT(table, StartsWith("method     held out  mask only  calibration"));
  EXPECT_LT(table.find("gd "), table.find("magnitude "));
  EXPECT_THAT(table, HasSubstr("0.30000    0.00000      0.20000"));
  EXPECT_THAT(table, HasSubstr("failed: no Cholesky factor"));
  EXPECT_EQ(ResultTable(v1::Job()), "");
}

TEST(ResultTable, ShowsTheTimesOfSolvingAndJudgingAndOfPreparingOnce) {
  v1::Job job;
  v1::MethodResult& result = AddResult(job, "gd", 0.1, 0.2);
  result.set_seconds(3);
  result.set_judging_seconds(1.25);
  EXPECT_THAT(ResultTable(job), Not(HasSubstr("prepared")));
  result.set_preparing_seconds(2.5);
  EXPECT_THAT(ResultTable(job), HasSubstr("seconds  judging"));
  EXPECT_THAT(ResultTable(job), HasSubstr("3.00     1.25"));
  EXPECT_THAT(ResultTable(job), HasSubstr("\nprepared in 2.50 s for all methods\n"));
}

// joint's mask costs 0.5 alone, 0.3 with the weights that it has moved; magnitude moves none.
TEST(ResultTable, ShowsWhatTheMaskAloneCosts) {
  v1::Job job;
  v1::BatchScore& joint = *AddResult(job, "joint", 0.2, 0.3).mutable_held_out();
  joint.set_relative_error(0.3);
  joint.set_mask_only_relative_error(0.5);
  AddResult(job, "magnitude", 0.1, 0.4).mutable_held_out()->set_relative_error(0.4);
  v1::BatchScore& wild = *AddResult(job, "wild", 0.1, 0.6).mutable_held_out();
  wild.set_mask_only_relative_error(std::numeric_limits<double>::infinity());
  const std::string table = ResultTable(job);
  EXPECT_THAT(table, HasSubstr("joint       0.30000    0.50000"));
  EXPECT_THAT(table, HasSubstr("magnitude   0.40000    0.40000"));
  EXPECT_THAT(table, HasSubstr("wild        0.60000        inf"));
}

TEST(ResultTable, SaysWhereTheHeldOutBatchesCameFrom) {
  v1::Job job = ThreeMethods();
  EXPECT_THAT(ResultTable(job), Not(HasSubstr("held out: "))) << "a server that does not say";
  job.mutable_results(2)->set_held_out_source(v1::HELD_OUT_GIVEN);
  EXPECT_THAT(ResultTable(job), HasSubstr("\nheld out: the batches given for it\n"));
  job.set_held_out_fraction(0.25);
  job.mutable_results(2)->set_held_out_source(v1::HELD_OUT_SPLIT);
  EXPECT_THAT(ResultTable(job), HasSubstr("split off the calibration set (fraction 0.25)\n"));
  job.mutable_results(2)->set_held_out_source(v1::HELD_OUT_NONE);
  EXPECT_THAT(ResultTable(job), HasSubstr("\nnothing held out: "));
}

size_t WidestLine(const std::string& text) {
  size_t widest = 0;
  for (const absl::string_view line : absl::StrSplit(text, '\n')) {
    widest = std::max(widest, line.size());
  }
  return widest;
}

TEST(ResultTable, SaysLessWhereThereIsLittleRoomButTheErrorThatRanks) {
  v1::Job job;
  AddResult(job, "sparsegpt", 0.1, 0.4).set_termination_reason("completed");
  EXPECT_THAT(ResultTable(job), HasSubstr("judging"));
  const std::string usual = ResultTable(job, 80);
  EXPECT_LE(WidestLine(usual), 79u);
  EXPECT_THAT(
      usual,
      StartsWith("method     held out  mask only  calibration  pruned %  seconds        end\n"));
  EXPECT_THAT(ResultTable(job, 40), StartsWith("method     held out  pruned %\n"));
  job.mutable_results(0)->mutable_relative_error()->clear_held_out();
  EXPECT_THAT(ResultTable(job, 40), StartsWith("method     calibration  pruned %\n"));
}

v1::Job AtWork() {
  v1::Job job;
  job.set_name("jobs/e977ypsmh7yv");
  job.set_state(v1::RUNNING);
  job.add_methods()->set_name("gd");
  job.mutable_at_work()->set_method("gd");
  job.mutable_at_work()->set_share(0.5);
  job.mutable_at_work()->set_remaining_seconds(65);
  (*job.mutable_labels())["attnprune/weights"] = "/models/tiny-llama";
  (*job.mutable_labels())["attnprune/layer"] = "12";
  return job;
}

TEST(JobListText, SaysModelLayerMethodShareAndTimeLeftIn80Columns) {
  const absl::Time now = absl::FromUnixSeconds(1000);
  v1::Job queued;
  queued.set_name("jobs/x");
  queued.set_state(v1::QUEUED);
  queued.mutable_waiting()->set_ahead(12);
  queued.mutable_waiting()->mutable_may_start_time()->set_seconds(1240);
  EXPECT_EQ(JobListText({AtWork(), queued}, now, 80),
            "job                       state       model  layer  at work  done        left\n"
            "jobs/e977ypsmh7yv       running  tiny-llama     12       gd  50 %  1 min 05 s\n"
            "jobs/x             queued, 13th                               0 %    in 4 min\n");
  EXPECT_EQ(JobListText({AtWork()}, now, 40),
            "job                  state  done\n"
            "jobs/e977ypsmh7yv  running  50 %\n");
}

TEST(JobListText, CountsEndedJobsAsDone) {
  v1::Job job = ThreeMethods();
  job.set_state(v1::SUCCEEDED);
  EXPECT_THAT(JobListText({job}, absl::Now()), HasSubstr("100 %"));
  EXPECT_THAT(JobListText({job}, absl::Now()), HasSubstr("gd 0.30000"));
}

TEST(JobText, SaysWhatIsAtWork) {
  EXPECT_THAT(JobText(AtWork(), absl::Now()),
              HasSubstr("running\nat work   gd, 50 % done, 1 min 05 s left\n"));
}

TEST(Shortened, EndsInDotsWhereSomethingIsMissing) {
  EXPECT_EQ(Shortened("tiny-llama", 10), "tiny-llama");
  EXPECT_EQ(Shortened("tiny-llama", 8), "tiny-...");
  EXPECT_EQ(Shortened("tiny-llama", 2), "ti");
}

TEST(Painted, ColoursStatesFailuresAndTheDonePartOfBars) {
  EXPECT_EQ(Painted("gd [##..]  failed", Color::kOff), "gd [##..]  failed");
  EXPECT_EQ(Painted("gd [##..]  failed", Color::kOn),
            "gd [\x1b[36m##\x1b[0m..]  \x1b[31mfailed\x1b[0m");
  EXPECT_EQ(Painted("warning: x", Color::kOn), "\x1b[33mwarning:\x1b[0m x");
  EXPECT_EQ(Painted("running\nrunnings unrunning job#1", Color::kOn),
            "\x1b[36mrunning\x1b[0m\nrunnings unrunning job#1");
  EXPECT_EQ(Painted("faile", Color::kOn), "faile");
  EXPECT_EQ(Painted("job  done  left", Color::kOn), "job  done  left") << "a heading";
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

TEST(ShellWord, QuotesWhatAShellWouldTakeApart) {
  EXPECT_EQ(ShellWord("attnprune/model-run=a1"), "attnprune/model-run=a1");
  EXPECT_EQ(ShellWord("a b;c"), "'a b;c'");
  EXPECT_EQ(ShellWord("it's"), "'it'\\''s'");
  EXPECT_EQ(ShellWord(""), "''");
}

}  // namespace
}  // namespace attnprune::cli
