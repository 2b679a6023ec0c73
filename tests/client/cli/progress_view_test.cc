#include "client/cli/views/progress_view.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace attnprune::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

v1::Job TwoMethods() {
  v1::Job job;
  for (const char* name : {"gd", "wanda"}) {
    v1::Method& method = *job.add_methods();
    method.set_name(name);
    method.set_label(name);
  }
  return job;
}

v1::JobEvent ProgressAt(int step, int64_t seconds) {
  v1::JobEvent event;
  event.mutable_time()->set_seconds(seconds);
  v1::Progress& progress = *event.mutable_progress();
  progress.set_method("gd");
  progress.set_step(step);
  progress.set_steps(100);
  progress.set_attention_loss(12.5);
  progress.set_elapsed_seconds(2);
  progress.set_remaining_seconds(3);
  return event;
}

v1::JobEvent WandaDone() {
  v1::JobEvent event;
  event.mutable_method_result()->set_method("wanda");
  event.mutable_method_result()->mutable_relative_error()->set_calibration(0.25);
  return event;
}

TEST(BarLines, ShowOneLineAMethodWithItsFigures) {
  ProgressModel model(TwoMethods());
  v1::JobEvent evaluated = ProgressAt(50, 1);
  evaluated.mutable_progress()->set_calibration_error(0.125);
  evaluated.mutable_progress()->set_held_out_error(0.5);
  model.Apply(evaluated);
  model.Apply(ProgressAt(51, 2));  // not evaluated: the errors stay
  EXPECT_THAT(BarLines(model, 120),
              ElementsAre("gd    [###############...............]   51/100  loss 12.5  "
                          "error 0.12500  held out 0.50000  25.5/s  3.00 s left",
                          "wanda [..............................]  waiting"));
  model.Apply(WandaDone());
  EXPECT_THAT(BarLines(model, 120)[1], HasSubstr("[##############################]  done"));
}

TEST(BarLines, NeverAreWiderThanTheTerminal) {
  ProgressModel model(TwoMethods());
  model.Apply(ProgressAt(50, 1));
  for (int columns = 1; columns < 130; ++columns) {
    for (const std::string& line : BarLines(model, columns)) {
      EXPECT_LE(line.size(), static_cast<size_t>(columns));
    }
  }
}

TEST(BarLines, DropWholeFiguresWhereThereIsLittleRoomAndTheTimeLeftLast) {
  ProgressModel model(TwoMethods());
  v1::JobEvent evaluated = ProgressAt(50, 2);
  evaluated.mutable_progress()->set_calibration_error(0.125);
  evaluated.mutable_progress()->set_held_out_error(0.5);
  model.Apply(evaluated);
  EXPECT_EQ(BarLines(model, 80)[0],
            "gd    [#####.....]   50/100  error 0.12500  held out 0.50000  25/s  3.00 s left");
  EXPECT_EQ(BarLines(model, 60)[0], "gd    [#####......]   50/100  held out 0.50000  3.00 s left");
  EXPECT_EQ(BarLines(model, 40)[0], "gd    [####.....]   50/100  3.00 s left");
}

TEST(BarLines, KeepTheErrorThatRanksOfAMethodThatHasEnded) {
  ProgressModel model(TwoMethods());
  v1::JobEvent done = WandaDone();
  done.mutable_method_result()->mutable_relative_error()->set_held_out(0.375);
  model.Apply(done);
  EXPECT_THAT(BarLines(model, 80)[1], HasSubstr("]  done  error 0.25000  held out 0.37500"));
  EXPECT_EQ(BarLines(model, 45)[1], "wanda [############]  done  held out 0.37500");
  EXPECT_EQ(BarLines(model, 30)[1], "wanda [######]  done  0.37500");
}

TEST(PlainView, WritesTheFirstStepAndEveryTenthOfTheWay) {
  ProgressModel model(TwoMethods());
  PlainView view;
  const auto line_of = [&](const v1::JobEvent& event) {
    model.Apply(event);
    return view.LineOf(event, model);
  };
  std::vector<int> told;
  for (int step = 1; step <= 100; ++step) {
    if (!line_of(ProgressAt(step, 10)).empty()) told.push_back(step);
  }
  EXPECT_THAT(told, ElementsAre(1, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100));
  EXPECT_EQ(line_of(ProgressAt(40, 11)), "") << "computed again after a lost worker";
  EXPECT_THAT(line_of(WandaDone()), HasSubstr("wanda  done  error 0.25000"));
}

v1::JobEvent PhaseAt(v1::Phase phase, const std::string& method, double share, int64_t seconds) {
  v1::JobEvent event;
  event.mutable_time()->set_seconds(seconds);
  event.mutable_phase()->set_phase(phase);
  event.mutable_phase()->set_method(method);
  event.mutable_phase()->set_share(share);
  event.mutable_phase()->set_elapsed_seconds(static_cast<double>(seconds - 10));
  return event;
}

TEST(BarLines, ShowWhatTheMethodsWaitForAndTheJudging) {
  ProgressModel model(TwoMethods());
  model.Apply(PhaseAt(v1::PREPARING, "", 0.5, 10));
  EXPECT_EQ(BarLines(model, 40)[0], "preparing [#########.........]  50 %");
  EXPECT_THAT(BarLines(model, 40)[1], HasSubstr("waiting"));
  model.Apply(PhaseAt(v1::PREPARING, "", 1, 11));
  EXPECT_THAT(BarLines(model, 40), SizeIs(2));
  model.Apply(PhaseAt(v1::JUDGING, "wanda", 0.25, 12));
  EXPECT_THAT(BarLines(model, 40)[1], HasSubstr("wanda [####."));
  EXPECT_THAT(BarLines(model, 40)[1], HasSubstr("judging 25 %"));
  model.Apply(WandaDone());
  EXPECT_THAT(BarLines(model, 60)[1], HasSubstr("done"));
}

TEST(PlainView, WritesEveryTenthOfAPhaseThatTakesMoreThanASecond) {
  ProgressModel model(TwoMethods());
  PlainView view;
  EXPECT_EQ(view.LineOf(PhaseAt(v1::PREPARING, "", 0.2, 10), model), "");
  EXPECT_EQ(view.LineOf(PhaseAt(v1::PREPARING, "", 0.4, 11), model), "preparing 40 %");
  EXPECT_EQ(view.LineOf(PhaseAt(v1::PREPARING, "", 0.45, 12), model), "");
  EXPECT_EQ(view.LineOf(PhaseAt(v1::PREPARING, "", 0.5, 13), model), "preparing 50 %");
  EXPECT_EQ(view.LineOf(PhaseAt(v1::JUDGING, "gd", 1, 12), model), "gd  judging 100 %");
}

TEST(PlainView, WritesStatesAndWarnings) {
  const ProgressModel model(TwoMethods());
  PlainView view;
  v1::JobEvent event;
  event.mutable_state_change()->set_state(v1::QUEUED);
  event.mutable_state_change()->set_attempt(2);
  event.mutable_state_change()->set_reason("worker lost");
  EXPECT_EQ(view.LineOf(event, model), "queued, attempt 2: worker lost");
  event.set_warning("careful");
  EXPECT_EQ(view.LineOf(event, model), "warning: careful");
}

TEST(ProgressModel, KnowsWhatHasEndedBeforeTheWatch) {
  v1::Job job = TwoMethods();
  job.add_results()->set_method("gd");
  EXPECT_TRUE(ProgressModel(job).methods()[0].result.has_value());
  EXPECT_THAT(ProgressModel(job).methods(), SizeIs(2));
}

}  // namespace
}  // namespace attnprune::cli
