#include "client/cli/views/run_view.h"

#include "client/cli/views/run_table.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/cli/run_examples.h"

namespace attnprune::cli {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

v1::Run Queued() {
  v1::Run run;
  run.set_state(v1::QUEUED);
  return run;
}

TEST(RunBarLine, ShowsBlockMapsMethodStepAndTimeLeft) {
  RunProgressModel model(Queued());
  EXPECT_EQ(RunBarLine(model, 80), "[..............................]   0 %  queued");
  model.Apply(ExampleProgress(0.5, 1));
  EXPECT_EQ(
      RunBarLine(model, 120),
      "[###############...............]  50 %  block 4 of 16  gate, up  alps 12/300  loss 2.5  "
      "2 min 05 s left");
}

TEST(RunBarLine, LeavesTheLossOutWhereThereIsNoRoomAndNeverIsWiderThanTheTerminal) {
  RunProgressModel model(Queued());
  model.Apply(ExampleProgress(0.5, 1));
  EXPECT_THAT(RunBarLine(model, 70), Not(HasSubstr("loss")));
  for (int columns = 1; columns < 130; ++columns) {
    EXPECT_LE(RunBarLine(model, columns).size(), static_cast<size_t>(columns));
  }
}

TEST(RunProgressModel, BeginsWhereTheRunIsAndEndsWhole) {
  v1::Run run = Queued();
  run.set_state(v1::RUNNING);
  run.set_results_done(1);
  run.set_results_total(4);
  RunProgressModel model(run);
  EXPECT_EQ(model.share(), 0.25);
  v1::JobEvent ended;
  *ended.mutable_run_terminal() = ExampleRun();
  model.Apply(ended);
  EXPECT_EQ(model.share(), 1);
}

TEST(RunBarLine, KeepsTheShareAndTheTimeLeftWhereThereIsLittleRoom) {
  RunProgressModel model(Queued());
  model.Apply(ExampleProgress(0.5, 1));
  EXPECT_EQ(RunBarLine(model, 60), "[##########..........]  50 %  block 4 of 16  2 min 05 s left");
  EXPECT_EQ(RunBarLine(model, 39), "[#######.......]  50 %  2 min 05 s left");
}

TEST(PlainRunView, ShowsTheFirstProgressAndEveryTenthOfTheWay) {
  RunProgressModel model(Queued());
  PlainRunView view;
  const auto lines = [&](double share) {
    const v1::JobEvent event = ExampleProgress(share, 100);
    model.Apply(event);
    return view.LinesOf(event, model);
  };
  EXPECT_THAT(lines(0.25), ElementsAre(" 25 %  block 4 of 16  gate, up  alps 12/300  loss 2.5  "
                                       "2 min 05 s left"));
  EXPECT_THAT(lines(0.29), IsEmpty());
  EXPECT_EQ(lines(0.3).size(), 1u);
  EXPECT_THAT(lines(0.38), IsEmpty());
}

TEST(RunResultLines, TellEachTensorTheBlockAndTheModel) {
  const v1::Run run = ExampleRun();
  EXPECT_THAT(
      RunResultLines(run.results(0)),
      ElementsAre("block 0  q      sparsegpt  50.00 %  error 0.25000  held out 0.50000  1.50 s",
                  "block 0  down   sparsegpt  50.00 %  error 0.25000  held out 0.50000  1.50 s",
                  "block 0  output error 0.12500"));
  EXPECT_THAT(RunResultLines(run.results(2)),
              ElementsAre("model  nats/token 1.0000 dense, 1.5000 pruned: +0.5000 +- 0.0100 (by "
                          "row 0.0200), perplexity 2.7183 -> 4.4817"));
}

TEST(RunTable, HasARowABlockAndAColumnAMap) {
  EXPECT_THAT(RunTable(ExampleRun()),
              HasSubstr("block        q     down   output\n"
                        "0      0.50000  0.50000  0.12500\n"
                        "1      0.50000        -        -\n"
                        "errors on held-out rows\n"
                        "pruned 50.00 % of 48 weights of the pruned tensors\n"));
  EXPECT_EQ(RunTable(Queued()), "");
}

TEST(RunTable, ShowsFewerMapsWhereThereIsLittleRoom) {
  EXPECT_THAT(RunTable(ExampleRun(), 25), HasSubstr("block     down   output\n"
                                                    "0      0.50000  0.12500\n"));
}

TEST(RunListText, SaysOfAQueuedRunItsPlaceAndWhenItMayStart) {
  v1::Run run = Queued();
  run.set_name("runs/r-2");
  run.mutable_waiting()->set_ahead(2);
  run.mutable_waiting()->add_running("runs/r-1");
  run.mutable_waiting()->mutable_may_start_time()->set_seconds(1240);
  const absl::Time now = absl::FromUnixSeconds(1000);
  EXPECT_THAT(RunListText({run}, now), HasSubstr("runs/r-2  queued, 3rd"));
  EXPECT_THAT(RunListText({run}, now), HasSubstr("0 %  in 4 min"));
  run.clear_waiting();
  run.set_state(v1::RUNNING);
  run.mutable_at_work()->set_method("alps");
  run.mutable_at_work()->set_share(0.25);
  run.mutable_at_work()->set_remaining_seconds(125);
  (*run.mutable_labels())["attnprune/weights"] = "/models/llama";
  EXPECT_THAT(RunListText({run}, now, 80),
              AllOf(HasSubstr("runs/r-2  running  llama     alps  25 %  2 min 05 s"),
                    Not(HasSubstr("created"))));
  EXPECT_THAT(RunText(run, now), HasSubstr("at work   alps, 25 % done, 2 min 05 s left\n"));
}

TEST(RunText, SaysWhatAQueuedRunWaitsFor) {
  v1::Run run = Queued();
  run.mutable_waiting()->set_ahead(2);
  run.mutable_waiting()->add_running("runs/r-1");
  run.mutable_waiting()->mutable_may_start_time()->set_seconds(1240);
  const absl::Time now = absl::FromUnixSeconds(1000);
  EXPECT_THAT(RunText(run, now),
              HasSubstr("queued\nwaits     2 ahead, runs/r-1 at work; may start in 4 min\n"));
}

TEST(RuleText, IsWhatTheFlagSays) {
  v1::Rule rule;
  rule.set_pattern("down");
  rule.mutable_sparsity()->mutable_n_of_m()->set_n(2);
  rule.mutable_sparsity()->mutable_n_of_m()->set_m(4);
  EXPECT_EQ(RuleText(rule), "down=@2:4");
  rule.mutable_method()->set_name("alps");
  (*rule.mutable_method()->mutable_parameters())["steps"] = 100;
  EXPECT_EQ(RuleText(rule), "down=alps:steps=100@2:4");
  rule.set_skip(true);
  EXPECT_EQ(RuleText(rule), "down skipped");
}

TEST(LossTable, BeginsWithTheDenseModel) {
  v1::Run failed;
  failed.set_state(v1::FAILED);
  EXPECT_EQ(LossTable({"sparsegpt", "alps"}, {ExampleRun(), failed}),
            "method     pruned %  nats/token  perplexity  difference  +- by token  +- by row\n"
            "dense          0.00      1.0000      2.7183           -            -          -\n"
            "sparsegpt     50.00      1.5000      4.4817     +0.5000       0.0100     0.0200\n"
            "alps           0.00      failed      failed      failed       failed     failed\n");
}

}  // namespace
}  // namespace attnprune::cli
