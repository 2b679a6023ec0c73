// However a job is interrupted, it ends with the bits of the undisturbed one.
#include <gmock/gmock.h>

#include <filesystem>

#include "server/execution/job_runner.h"
#include "tests/server/execution/execution_fixture.h"
#include "tests/server/execution/failing_store.h"

namespace attnprune::testing {
namespace {

using ::testing::HasSubstr;

v1::Job TwoMethods(Place* place) {
  v1::Job job = DescentJob(place);
  AddMethod("wanda", &job);
  return job;
}

void ExpectSequencesGrow(const std::vector<StoredEvent>& events) {
  for (size_t i = 1; i < events.size(); ++i) {
    EXPECT_GT(events[i].sequence, events[i - 1].sequence);
  }
}

// What was told before is told the same way after.
void ExpectContinues(const std::vector<StoredEvent>& before,
                     const std::vector<StoredEvent>& after) {
  ASSERT_GE(after.size(), before.size());
  for (size_t i = 0; i < before.size(); ++i) {
    EXPECT_EQ(after[i].sequence, before[i].sequence);
    EXPECT_EQ(after[i].payload, before[i].payload);
  }
  ExpectSequencesGrow(after);
}

class InterruptedJob : public ExecutionTest {
 protected:
  // Results of an undisturbed run.
  std::vector<std::string> Undisturbed() {
    const std::string id = place_.Create(TwoMethods(&place_));
    hooked_.SetHook(0, [] {});
    RunNext();
    looks_ = hooked_.looks();
    return Results(id);
  }
  std::vector<std::string> Results(const std::string& id) {
    EXPECT_EQ(place_.Get(id).state, JobState::kSucceeded);
    return {Verdict(place_.Result(id, 0)), Verdict(place_.Result(id, 1))};
  }

  int looks_ = 0;  // at the clock, of an undisturbed run
};

TEST_F(InterruptedJob, ADrainedJobGoesOnFromTheVeryStep) {
  const std::vector<std::string> expected = Undisturbed();
  int drained_in_a_method = 0;
  for (int look = 1; look <= looks_; ++look) {
    SCOPED_TRACE(look);
    const std::string id = place_.Create(TwoMethods(&place_));
    StopSignal stop;
    hooked_.SetHook(look, [&] { stop.Request(StopReason::kDraining); });
    RunNext(&stop);
    const JobRecord drained = place_.Get(id);
    const std::vector<StoredEvent> before = place_.Events(id);
    if (drained.state == JobState::kQueued) {
      EXPECT_EQ(before.back().payload, "server draining");
      drained_in_a_method += drained.has_checkpoint;
      RunNext();
    }
    EXPECT_EQ(Results(id), expected);
    ExpectContinues(before, place_.Events(id));
  }
  EXPECT_GE(drained_in_a_method, 12);
}

// The split is made anew of the job at every start.
TEST_F(InterruptedJob, AJobThatSplitsItsCalibrationSetGoesOnWithTheSameSplit) {
  v1::Job job = DescentJob(&place_);
  job.clear_held_out();
  job.set_held_out_fraction(0.25);
  const std::string undisturbed = place_.Create(job);
  RunNext();
  const std::string id = place_.Create(job);
  StopSignal stop;
  hooked_.SetHook(12, [&] { stop.Request(StopReason::kDraining); });
  RunNext(&stop);
  ASSERT_TRUE(place_.Get(id).has_checkpoint);
  place_.Reopen();
  RunNext();
  EXPECT_EQ(Verdict(place_.Result(id)), Verdict(place_.Result(undisturbed)));
  EXPECT_EQ(place_.Result(id).held_out_source(), v1::HELD_OUT_SPLIT);
}

TEST_F(InterruptedJob, NoStepIsTakenTwiceAfterADrain) {
  const std::string id = place_.Create(DescentJob(&place_));
  StopSignal stop;
  hooked_.SetHook(12, [&] { stop.Request(StopReason::kDraining); });
  RunNext(&stop);
  ASSERT_TRUE(place_.Get(id).has_checkpoint);
  RunNext();
  std::vector<int> steps;
  for (const StoredEvent& event : place_.Events(id)) {
    if (const auto progress = StepOf(event)) steps.push_back(progress->step());
  }
  EXPECT_THAT(steps, ::testing::ElementsAre(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12));
}

// From some write on, nothing reaches the disk any more, and then another server opens the folder.
TEST_F(InterruptedJob, AKilledJobGoesOnAfterAnyWrite) {
  const std::vector<std::string> expected = Undisturbed();
  bool ended = false;
  for (int last = 0; !ended; ++last) {
    SCOPED_TRACE(last);
    ASSERT_LT(last, 200);
    const std::string id = place_.Create(TwoMethods(&place_));
    FailingStore store(&place_.jobs(), [last](int write) {
      return write > last ? absl::InternalError("killed") : absl::OkStatus();
    });
    StopSignal stop;
    RunJob(place_.Claim(), &store, &place_.tensors(), RunnerOptions(), &stop);
    ended = place_.Get(id).state == JobState::kSucceeded;
    const std::vector<StoredEvent> before = place_.Events(id);
    place_.Reopen();
    if (!ended) {
      EXPECT_THAT(place_.Events(id).back().payload, HasSubstr("worker lost"));
      RunNext();
    }
    EXPECT_EQ(Results(id), expected);
    ExpectContinues(before, place_.Events(id));
  }
}

// Copies the data folder at every event, with the store's writer lock held: what a kill -9 leaves.
class Photographer final : public JobStoreListener {
 public:
  explicit Photographer(std::string folder) : folder_(std::move(folder)) {}
  void OnEvents(const std::string&, absl::Span<const StoredEvent>) override {
    Copy(folder_, CopyName(copies_++));
  }
  void OnCancelRequested(const std::string&) override {}
  std::string CopyName(int number) const { return folder_ + "-" + std::to_string(number); }
  int copies() const { return copies_; }

 private:
  // Passes over what is renamed or removed meanwhile: temporary files.
  static void Copy(const std::filesystem::path& from, const std::filesystem::path& to) {
    std::error_code ignored;
    std::filesystem::create_directory(to);
    for (const auto& entry : std::filesystem::directory_iterator(from)) {
      const std::filesystem::path target = to / entry.path().filename();
      if (entry.is_directory(ignored)) {
        Copy(entry.path(), target);
      } else {
        std::filesystem::copy_file(entry.path(), target, ignored);
      }
    }
  }

  const std::string folder_;
  int copies_ = 0;
};

TEST_F(InterruptedJob, ACopyOfTheFolderOfAnyMomentGoesOn) {
  const std::vector<std::string> expected = Undisturbed();
  Photographer photographer(folder_.path());
  const v1::Job job = TwoMethods(&place_);
  place_.jobs().SetListener(&photographer);
  const std::string id = place_.Create(job);
  RunNext();
  place_.jobs().SetListener(nullptr);
  const std::vector<StoredEvent> undisturbed = place_.Events(id);
  EXPECT_GE(photographer.copies(), 6);
  for (int i = 0; i < photographer.copies(); ++i) {
    SCOPED_TRACE(i);
    const std::string folder = photographer.CopyName(i);
    {
      Place copy(folder);
      const std::vector<StoredEvent> before = copy.Events(id);
      if (!IsTerminal(copy.Get(id).state)) {
        StopSignal stop;
        RunJob(copy.Claim(), &copy.jobs(), &copy.tensors(), RunnerOptions(), &stop);
      }
      EXPECT_EQ(copy.Get(id).state, JobState::kSucceeded);
      EXPECT_EQ(Verdict(copy.Result(id, 0)), expected[0]);
      EXPECT_EQ(Verdict(copy.Result(id, 1)), expected[1]);
      ExpectContinues(before, copy.Events(id));
    }
    std::filesystem::remove_all(folder);
  }
}

TEST_F(InterruptedJob, ADamagedCheckpointIsAWarningAndAFreshStart) {
  const std::vector<std::string> expected = Undisturbed();
  const std::string id = place_.Create(TwoMethods(&place_));
  StopSignal stop;
  hooked_.SetHook(14, [&] { stop.Request(StopReason::kDraining); });
  RunNext(&stop);
  ASSERT_TRUE(place_.Get(id).has_checkpoint);
  for (const auto& file : std::filesystem::directory_iterator(folder_ / "checkpoints")) {
    std::filesystem::resize_file(file, 100);
  }
  RunNext();
  EXPECT_EQ(Results(id), expected);
  int warnings = 0;
  for (const StoredEvent& event : place_.Events(id)) {
    if (event.kind != EventKind::kWarning) continue;
    EXPECT_THAT(event.payload, HasSubstr("gd starts over"));
    ++warnings;
  }
  EXPECT_EQ(warnings, 1);
}

// A checkpoint whose bytes are whole, but of which the method wants nothing.
TEST_F(InterruptedJob, AStateThatTheMethodRefusesIsAWarningAndAFreshStart) {
  const std::vector<std::string> expected = Undisturbed();
  place_.Create(DescentJob(&place_, 1'000'000));
  const JobRecord donor = place_.Claim();
  StopSignal stop;
  std::string checkpoint;
  // Taken from the other job once it has one.
  const std::function<void()> take = [&] {
    const auto saved = place_.jobs().ReadCheckpoint({donor.id, donor.fence});
    if (saved.ok() && saved->has_value()) checkpoint = **saved;
    checkpoint.empty() ? hooked_.SetHook(1, take) : stop.Request(StopReason::kCancelled);
  };
  hooked_.SetHook(1, take);
  RunJob(donor, &place_.jobs(), &place_.tensors(), RunnerOptions(), &stop);

  const std::string id = place_.Create(TwoMethods(&place_));
  const JobRecord first = place_.Claim();
  ASSERT_TRUE(place_.jobs().SaveCheckpoint({id, first.fence}, checkpoint).ok());
  ASSERT_TRUE(
      place_.jobs().Requeue({id, first.fence}, RequeueCause::kDraining, "server draining").ok());
  hooked_.SetHook(0, [] {});
  RunNext();
  EXPECT_EQ(Results(id), expected);
  bool warned = false;
  for (const StoredEvent& event : place_.Events(id)) {
    warned = warned || (event.kind == EventKind::kWarning &&
                        event.payload.find("gd starts over: resume_from") == 0);
  }
  EXPECT_TRUE(warned);
}

}  // namespace
}  // namespace attnprune::testing
