// Random calls against the reference over std::map, with the store reopened in between.
#include <iostream>
#include <random>

#include "absl/strings/str_cat.h"
#include "tests/server/queue/job_store_conformance.h"
#include "tests/server/queue/model_store.h"
#include "tests/server/queue/store_dump.h"

namespace attnprune::testing {
namespace {

using enum absl::StatusCode;

// One run: draws calls, makes them to both, compares answers at once and contents now and then.
class ModelRun {
 public:
  ModelRun(StoreUnderTest* place, unsigned seed) : place_(*place), random_(seed) {}

  void Step() {
    place_.clock().Advance(absl::Nanoseconds(1 + Draw(1'000'000'000)));
    switch (Draw(16)) {
      case 0:
      case 1:
      case 2:
        return Create();
      case 3:
      case 4:
        return Claim();
      case 5:
        return Renew();
      case 6:
      case 7:
        return Append();
      case 8:
        return Checkpoint();
      case 9:
      case 10:
        return FinishMethod();
      case 11:
        return Finish();
      case 12:
        return Requeue();
      case 13:
        return Cancel();
      case 14:
        return Delete();
      default:
        return Compact();
    }
  }

  void Reopen() {
    place_.Reopen();
    model_.Reopen(Now());
  }

  void CompareContents() {
    const absl::StatusOr<JobPage> page = store().List({}, 1'000'000, "");
    ASSERT_TRUE(page.ok()) << page.status();
    ASSERT_EQ(page->jobs.size(), model_.jobs.size());
    auto expected = model_.jobs.rbegin();
    std::set<std::string> tensors;
    for (const JobRecord& job : page->jobs) {
      const ModelJob& model = (expected++)->second;
      const auto events = store().ReadEvents(job.id, 0, 1'000'000);
      ASSERT_TRUE(events.ok()) << events.status();
      ASSERT_EQ(job.id, model.record.id);
      const absl::StatusOr<LogExtent> log = store().ReadLogExtent(job.id);
      ASSERT_TRUE(log.ok()) << log.status();
      ASSERT_EQ(log->state, model.record.state);
      ASSERT_EQ(log->newest_sequence, model.record.next_sequence - 1);
      ASSERT_EQ(DumpJob(job, *events, Wording::kLeftOut),
                DumpJob(model.record, model.events, Wording::kLeftOut));
      tensors.insert(model.tensors.begin(), model.tensors.end());
    }
    ASSERT_EQ(*store().ReferencedDigests(), tensors);
  }

 private:
  JobStore& store() { return place_.store(); }
  absl::Time Now() { return place_.clock().Now(); }
  int Draw(int below) { return std::uniform_int_distribution<int>(0, below - 1)(random_); }
  std::string DrawBytes() {
    std::string bytes(static_cast<size_t>(Draw(20)), '\0');
    for (char& byte : bytes) byte = static_cast<char>(Draw(256));
    return bytes;
  }

  // Mostly a running job's claim, sometimes an old one.
  JobClaim DrawClaim() {
    if (claims_.empty()) return {"nobody", 1};
    const size_t newest = std::min<size_t>(claims_.size(), 4);
    const size_t back = Draw(5) == 0 ? static_cast<size_t>(Draw(static_cast<int>(claims_.size())))
                                     : static_cast<size_t>(Draw(static_cast<int>(newest)));
    return claims_[claims_.size() - 1 - back];
  }
  std::string DrawId() {
    if (model_.jobs.empty()) return "nobody";
    auto job = model_.jobs.begin();
    std::advance(job, Draw(static_cast<int>(model_.jobs.size())));
    return job->second.record.id;
  }

  void Create() {
    NewJob job;
    job.priority = Draw(3) - 1;
    job.spec = DrawBytes();
    job.timeout = absl::Seconds(Draw(3) * 30);
    if (Draw(2) == 0) job.labels = {{absl::StrCat("k", Draw(2)), absl::StrCat("v", Draw(2))}};
    if (Draw(2) == 0) job.request_id = absl::StrCat("r", Draw(10));
    job.request_digest = absl::StrCat(Draw(2));
    if (Draw(2) == 0) job.tensor_digests = {absl::StrCat("t", Draw(10)), "shared"};
    const absl::StatusOr<CreateOutcome> made = store().Create(job);
    const ModelJob* known = job.request_id.empty() ? nullptr : model_.FindRequest(job.request_id);
    if (known == nullptr) {
      ASSERT_TRUE(made.ok()) << made.status();
      ASSERT_TRUE(made->created);
      model_.Create(job, made->job.id, Now());
    } else if (known->record.request_digest == job.request_digest) {
      ASSERT_TRUE(made.ok()) << made.status();
      ASSERT_FALSE(made->created);
      ASSERT_EQ(made->job.id, known->record.id);
    } else {
      ASSERT_EQ(CodeOf(made), kAlreadyExists);
    }
  }

  void Claim() {
    const auto job = store().Claim("worker", absl::Seconds(10));
    ASSERT_TRUE(job.ok()) << job.status();
    const ModelJob* expected = model_.Claim(Now(), Now() + absl::Seconds(10));
    ASSERT_EQ(job->has_value(), expected != nullptr);
    if (expected == nullptr) return;
    ASSERT_EQ((*job)->id, expected->record.id);
    claims_.push_back({(*job)->id, (*job)->fence});
    CheckCheckpoint(claims_.back());
  }

  void CheckCheckpoint(const JobClaim& claim) {
    const ModelJob* job = model_.Running(claim);
    const auto checkpoint = store().ReadCheckpoint(claim);
    ASSERT_EQ(CodeOf(checkpoint), job == nullptr ? kAborted : kOk);
    if (job == nullptr) return;
    ASSERT_EQ(checkpoint->has_value(), job->record.has_checkpoint);
    if (checkpoint->has_value()) {
      ASSERT_EQ(**checkpoint, job->checkpoint);
    }
  }

  void Renew() {
    const JobClaim claim = DrawClaim();
    const auto lease = store().RenewLease(claim, absl::Seconds(20));
    ModelJob* job = model_.Running(claim);
    ASSERT_EQ(CodeOf(lease), job == nullptr ? kAborted : kOk);
    if (job == nullptr) return;
    job->record.lease_until = Now() + absl::Seconds(20);
    ASSERT_EQ(lease->cancel_requested, job->record.cancel_requested);
  }

  void Append() {
    const JobClaim claim = DrawClaim();
    std::vector<NewEvent> events;
    for (int i = Draw(10); i > 0; --i) {
      constexpr EventKind kKinds[] = {EventKind::kWarning, EventKind::kEvaluated,
                                      EventKind::kProgress, EventKind::kProgress};
      events.push_back({kKinds[Draw(4)], DrawBytes()});
    }
    const auto first = store().AppendEvents(claim, events);
    ModelJob* job = model_.Running(claim);
    ASSERT_EQ(CodeOf(first), job == nullptr ? kAborted : kOk);
    if (job == nullptr) return;
    ASSERT_EQ(*first, job->record.next_sequence);
    for (const NewEvent& event : events) {
      StoredEvent stored;
      stored.kind = event.kind;
      stored.payload = event.payload;
      ModelStore::AddEvent(job, stored, Now());
    }
  }

  void Checkpoint() {
    const JobClaim claim = DrawClaim();
    const std::string bytes = DrawBytes();
    ModelJob* job = model_.Running(claim);
    ASSERT_EQ(CodeOf(store().SaveCheckpoint(claim, bytes)), job == nullptr ? kAborted : kOk);
    if (job == nullptr) return;
    job->record.has_checkpoint = true;
    job->record.losses = 0;
    job->checkpoint = bytes;
    CheckCheckpoint(claim);
  }

  void FinishMethod() {
    const JobClaim claim = DrawClaim();
    ModelJob* job = model_.Running(claim);
    const int there = job == nullptr ? 0 : static_cast<int>(job->record.results.size());
    const int index = Draw(5) == 0 ? Draw(3) : there;
    const std::string result = DrawBytes(), tensor = absl::StrCat("t", Draw(10));
    const absl::StatusCode code = job == nullptr   ? kAborted
                                  : index != there ? kFailedPrecondition
                                                   : kOk;
    ASSERT_EQ(CodeOf(store().FinishMethod(claim, index, result, {tensor})), code);
    if (code != kOk) return;
    job->record.results.push_back(result);
    job->record.losses = 0;
    job->record.has_checkpoint = false;
    job->tensors.insert(tensor);
    StoredEvent event;
    event.kind = EventKind::kMethodResult;
    event.method_index = index;
    event.payload = result;
    ModelStore::AddEvent(job, event, Now());
  }

  void Finish() {
    const JobClaim claim = DrawClaim();
    const JobState state = kJobStates[static_cast<size_t>(Draw(5))];
    ModelJob* job = model_.Running(claim);
    const absl::StatusCode code = job == nullptr      ? kAborted
                                  : IsTerminal(state) ? kOk
                                                      : kFailedPrecondition;
    const Failure failure = {kUnknown, "drawn"};
    ASSERT_EQ(CodeOf(store().Finish(claim, state, failure, "")), code);
    if (code == kOk) ModelStore::End(job, state, failure, Now());
  }

  void Requeue() {
    const JobClaim claim = DrawClaim();
    const RequeueCause cause = Draw(2) == 0 ? RequeueCause::kWorkerLost : RequeueCause::kDraining;
    ModelJob* job = model_.Running(claim);
    ASSERT_EQ(CodeOf(store().Requeue(claim, cause, "")), job == nullptr ? kAborted : kOk);
    if (job != nullptr) ModelStore::Requeue(job, cause, Now());
  }

  void Cancel() {
    const std::string id = DrawId();
    ModelJob* job = model_.Find(id);
    ASSERT_EQ(CodeOf(store().RequestCancel(id)), job == nullptr ? kNotFound : kOk);
    if (job == nullptr || IsTerminal(job->record.state)) return;
    job->record.cancel_requested = true;
    if (job->record.state == JobState::kQueued) {
      ModelStore::End(job, JobState::kCancelled, {}, Now());
    }
  }

  void Delete() {
    const std::string id = DrawId();
    const ModelJob* job = model_.Find(id);
    const absl::StatusCode code = job == nullptr                  ? kNotFound
                                  : IsTerminal(job->record.state) ? kOk
                                                                  : kFailedPrecondition;
    ASSERT_EQ(CodeOf(store().Delete(id)), code);
    if (code != kOk) return;
    std::erase_if(model_.jobs, [&](const auto& entry) { return entry.second.record.id == id; });
  }

  void Compact() {
    const std::string id = DrawId();
    const int64_t keep = 1 + Draw(6);
    ModelJob* job = model_.Find(id);
    ASSERT_EQ(CodeOf(store().CompactEvents(id, {.progress = keep})),
              job == nullptr ? kNotFound : kOk);
    if (job != nullptr) ModelStore::ThinOut(job, keep);
  }

  StoreUnderTest& place_;
  std::mt19937 random_;
  ModelStore model_;
  std::vector<JobClaim> claims_;
};

// 0, the flag's default, draws one.
unsigned Seed() {
  const int flag = GTEST_FLAG_GET(random_seed);
  return flag != 0 ? static_cast<unsigned>(flag) : std::random_device{}() % 99999 + 1;
}

TEST_P(JobStoreConformance, DoesWhatTheModelDoes) {
  const unsigned seed = Seed();
  std::cout << "again with --gtest_random_seed=" << seed << "\n";
  const auto place = GetParam()();
  ModelRun run(place.get(), seed);
  for (int step = 1; step <= 1500 && !HasFatalFailure(); ++step) {
    SCOPED_TRACE(absl::StrCat("seed ", seed, " step ", step));
    run.Step();
    if (step % 100 == 0) run.Reopen();
    if (step % 25 == 0) run.CompareContents();
  }
}

}  // namespace
}  // namespace attnprune::testing
