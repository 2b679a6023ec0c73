#include "server/api/queue_outlook.h"

#include <google/protobuf/util/time_util.h>

#include <algorithm>
#include <functional>
#include <queue>
#include <utility>

#include "attnprune/v1/prune_service.pb.h"
#include "core/base/status_macros.h"
#include "server/api/event_log.h"
#include "server/api/record_convert.h"

namespace attnprune::api {
namespace {

constexpr absl::Duration kRecent = absl::Seconds(1);
constexpr int kOfItsTime = 20;  // what takes long to look at is looked at less often

absl::Time TimeOf(const v1::JobEvent& event) {
  return absl::FromUnixNanos(
      google::protobuf::util::TimeUtil::TimestampToNanoseconds(event.time()));
}

// The job's newest events, at most kReadLimit, of its present attempt, newest first; none where
// they cannot be read.
std::vector<std::shared_ptr<const v1::JobEvent>> NewestEvents(JobStore* jobs,
                                                              absl::string_view id) {
  const absl::StatusOr<LogExtent> log = jobs->ReadLogExtent(id);
  if (!log.ok()) return {};
  const int64_t after = std::max(log->newest_sequence - kReadLimit, log->oldest_sequence - 1);
  const absl::StatusOr<SharedBatch> batch = ReadLog(jobs, id, after);
  if (!batch.ok()) return {};
  auto events = (*batch)->events;
  std::reverse(events.begin(), events.end());
  const auto begun = std::find_if(events.begin(), events.end(),
                                  [](const auto& event) { return event->has_state_change(); });
  events.erase(begun, events.end());
  return events;
}

using Events = std::vector<std::shared_ptr<const v1::JobEvent>>;

// What the newest progress says is left: of a run, or of a job's method.
struct ToldLeft {
  absl::Duration left;
  std::string method;
};

absl::optional<ToldLeft> ToldLeftOf(const Events& newest, absl::Time now) {
  for (const auto& event : newest) {
    const v1::Progress& progress = event->progress();
    const double left = event->has_run_progress() ? event->run_progress().remaining_seconds()
                                                  : progress.remaining_seconds();
    if (left <= 0) continue;
    const absl::Duration since = now - TimeOf(*event);
    return ToldLeft{std::max(absl::Seconds(left) - since, absl::ZeroDuration()), progress.method()};
  }
  return absl::nullopt;
}

// The share of the methods that come after that one; 0 where it is not among them.
double ShareBehind(const std::vector<std::string>& methods, const std::string& method) {
  const auto behind = methods.end() - std::find(methods.begin(), methods.end(), method) - 1;
  return behind < 1 ? 0 : static_cast<double>(behind) / static_cast<double>(methods.size());
}

// What a stored specification says of the whole job; nothing where it is damaged.
struct Expected {
  double seconds = 0;  // on one thread
  int results = 0;
  std::vector<std::string> methods;
};

Expected ExpectedOfJob(const std::string& spec) {
  v1::Job job;
  if (!job.ParseFromString(spec)) return {};
  Expected expected{job.estimate().seconds(), job.methods_size(), {}};
  for (const v1::Method& method : job.methods()) expected.methods.push_back(method.label());
  return expected;
}

Expected ExpectedOfRun(const std::string& spec) {
  v1::Run run;
  if (!run.ParseFromString(spec)) return {};
  return {run.estimate().seconds(), run.results_total(), {}};
}

// Method and share of the newest event that has any. results: of the methods of a job, or of a run,
// that there are.
v1::AtWork NewestWork(const Events& newest, size_t results, size_t methods) {
  v1::AtWork work;
  const auto set = [&](const std::string& method, double begun) {
    work.set_method(method);
    const double done = static_cast<double>(results) + begun;
    work.set_share(methods < 1 ? 0 : std::min(done / static_cast<double>(methods), 1.0));
  };
  set("", 0);
  for (const auto& event : newest) {
    const v1::Progress& progress = event->progress();
    if (event->has_run_progress()) {
      work.set_method(event->run_progress().method());
      work.set_share(std::clamp(event->run_progress().share(), 0.0, 1.0));
    } else if (event->has_progress()) {
      set(progress.method(), static_cast<double>(progress.step()) / std::max(progress.steps(), 1));
    } else if (event->has_phase()) {  // a method is judged once its steps are done
      set(event->phase().method(), event->phase().method().empty() ? 0 : 1);
    } else if (!event->has_method_result()) {
      continue;
    }
    break;
  }
  return work;
}

double ShareLeft(size_t done, int total) {
  return total < 1 ? 1 : 1 - std::min(static_cast<double>(done) / total, 1.0);
}

}  // namespace

std::vector<absl::Time> StartTimes(absl::Time now, std::vector<absl::Duration> running_left,
                                   absl::Span<const absl::Duration> queued_take, int workers) {
  std::sort(running_left.begin(), running_left.end(), std::greater<>());
  running_left.resize(static_cast<size_t>(workers));  // idle ones have nothing left
  std::priority_queue<absl::Time, std::vector<absl::Time>, std::greater<>> free;
  for (const absl::Duration left : running_left) {
    free.push(now + std::max(left, absl::ZeroDuration()));
  }
  std::vector<absl::Time> starts;
  for (const absl::Duration take : queued_take) {
    starts.push_back(free.top());
    free.pop();
    free.push(starts.back() + take);
  }
  starts.push_back(free.top());
  return starts;
}

// --- A forecast ---

v1::Waiting QueueForecast::At(const access::Caller& caller, size_t place) const {
  v1::Waiting waiting;
  waiting.set_ahead(static_cast<int32_t>(place));
  if (place >= idle_workers_) {
    for (const Running& job : running_) {
      if (access::Sees(caller, job.tenant)) waiting.add_running(NameOf(job.id));
    }
    waiting.set_others_running(static_cast<int32_t>(running_.size()) - waiting.running_size());
  }
  *waiting.mutable_may_start_time() = ToProto(starts_[place]);
  return waiting;
}

absl::optional<v1::Waiting> QueueForecast::WaitingOf(const access::Caller& caller,
                                                     absl::string_view id) const {
  const auto place = places_.find(std::string(id));
  if (place == places_.end()) return absl::nullopt;
  return At(caller, place->second);
}

v1::Waiting QueueForecast::WaitingOf(const access::Caller& caller, const JobRecord& job) const {
  if (absl::optional<v1::Waiting> known = WaitingOf(caller, job.id)) return *std::move(known);
  if (std::any_of(running_.begin(), running_.end(),
                  [&](const Running& at_work) { return at_work.id == job.id; })) {
    // claimed meanwhile
    v1::Waiting starts;
    *starts.mutable_may_start_time() = ToProto(time_);
    return starts;
  }
  const auto behind =
      std::upper_bound(priorities_.begin(), priorities_.end(), job.priority, std::greater<>());
  return At(caller, static_cast<size_t>(behind - priorities_.begin()));
}

// --- Looking at the queue ---

absl::StatusOr<std::shared_ptr<const QueueForecast>> QueueOutlook::Forecast() {
  return Look(kShortQueue);
}

absl::optional<v1::Waiting> QueueOutlook::RecentWaitingOf(const access::Caller& caller,
                                                          absl::string_view id) {
  const absl::StatusOr<std::shared_ptr<const QueueForecast>> forecast = Look(0);
  if (!forecast.ok()) return absl::nullopt;
  return (*forecast)->WaitingOf(caller, id);
}

// The newest forecast, unless it is of a queue of at most `fresh_up_to` or not recent. A clock that
// was set back keeps none.
absl::StatusOr<std::shared_ptr<const QueueForecast>> QueueOutlook::Look(size_t fresh_up_to) {
  const MutexLock lock(&mutex_);
  if (newest_ != nullptr && newest_->running_.size() + newest_->places_.size() > fresh_up_to) {
    const absl::Duration age = clock_->Now() - newest_->time_;
    if (age >= absl::ZeroDuration() && age < serves_) return newest_;
  }
  const absl::Time begun = SteadyNow();
  ATTNPRUNE_ASSIGN_OR_RETURN(const Snapshot snapshot, jobs_->ReadOutstanding());
  newest_ = std::make_shared<const QueueForecast>(ForecastOf(snapshot));
  serves_ = std::max(kRecent, kOfItsTime * (SteadyNow() - begun));
  return newest_;
}

QueueForecast QueueOutlook::ForecastOf(const Snapshot& snapshot) {
  LearnNeeds(snapshot);
  QueueForecast forecast;
  forecast.time_ = snapshot.now;
  std::vector<absl::Duration> left, take;
  for (const OutstandingJob& job : snapshot.jobs) {
    if (job.state == JobState::kQueued) continue;
    forecast.running_.push_back({job.id, job.tenant});
    left.push_back(LeftOf(job, snapshot.now));
  }
  const absl::Duration typical = TypicalRest();
  for (const OutstandingJob* const job : ClaimOrder(snapshot)) {
    const auto needs = needs_.find(job->id);
    forecast.places_[job->id] = take.size();
    forecast.priorities_.push_back(job->priority);
    take.push_back(needs == needs_.end() ? typical : needs->second.rest);
  }
  // Other servers' workers are known by what they do.
  const size_t workers = std::max(static_cast<size_t>(options_.workers), left.size());
  forecast.idle_workers_ = workers - left.size();
  forecast.starts_ = StartTimes(snapshot.now, std::move(left), take, static_cast<int>(workers));
  return forecast;
}

void QueueOutlook::LearnNeeds(const Snapshot& snapshot) {
  std::map<std::string, Needs> needs;
  size_t reads = 0;
  for (const OutstandingJob& job : snapshot.jobs) {
    const auto known = needs_.find(job.id);
    if (known != needs_.end() && known->second.fence == job.fence) {
      needs[job.id] = known->second;
    } else if (job.state == JobState::kRunning || ++reads <= kReads) {
      needs[job.id] = ReadNeeds(job);
    }
  }
  needs_.swap(needs);
}

absl::Duration QueueOutlook::TypicalRest() const {
  absl::Duration sum;
  for (const auto& [id, needs] : needs_) sum += needs.rest;
  return needs_.empty() ? sum : sum / static_cast<int64_t>(needs_.size());
}

// Nothing of a job that cannot be read: others' forecasts do not depend on it.
QueueOutlook::Needs QueueOutlook::ReadNeeds(const OutstandingJob& job) const {
  Needs needs{.fence = job.fence, .whole = {}, .rest = {}, .methods = {}, .results = 0};
  const absl::StatusOr<JobRecord> record = jobs_->Get(job.id);
  if (record.ok()) needs = NeedsOf(*record);
  needs.fence = job.fence;
  return needs;
}

QueueOutlook::Needs QueueOutlook::NeedsOf(const JobRecord& record) const {
  Expected expected =
      KindOf(record.id) == JobKind::kRun ? ExpectedOfRun(record.spec) : ExpectedOfJob(record.spec);
  const absl::Duration whole = absl::Seconds(expected.seconds / options_.threads_per_job);
  return {.fence = record.fence,
          .whole = whole,
          .rest = whole * ShareLeft(record.results.size(), expected.results),
          .methods = std::move(expected.methods),
          .results = expected.results};
}

absl::Duration QueueOutlook::LeftOf(const OutstandingJob& job, absl::Time now) const {
  if (job.cancel_requested) return absl::ZeroDuration();  // it ends within a step
  const Needs& needs = needs_.at(job.id);
  absl::Duration left = needs.whole - (now - job.start_time.value_or(now));
  if (const auto told = ToldLeftOf(NewestEvents(jobs_, job.id), now)) {
    left = told->left + needs.whole * ShareBehind(needs.methods, told->method);
  }
  return std::min(left, Deadline(job) - now);
}

v1::AtWork QueueOutlook::AtWorkOf(const JobRecord& job) const {
  const absl::Time now = clock_->Now();
  const Needs needs = NeedsOf(job);
  const Events newest = NewestEvents(jobs_, job.id);
  v1::AtWork work = NewestWork(newest, job.results.size(), static_cast<size_t>(needs.results));
  absl::Duration left = needs.whole - (now - job.start_time.value_or(now));
  if (const auto told = ToldLeftOf(newest, now)) {
    left = told->left + needs.whole * ShareBehind(needs.methods, told->method);
  }
  work.set_remaining_seconds(std::max(absl::ToDoubleSeconds(left), 0.0));
  return work;
}

// --- For answers ---

absl::optional<v1::Waiting> QueueGlance::WaitingOf(const JobRecord& record) {
  if (record.state != JobState::kQueued) return absl::nullopt;
  if (!std::exchange(looked_, true)) forecast_ = outlook_->Forecast().value_or(nullptr);
  if (forecast_ == nullptr) return absl::nullopt;
  return forecast_->WaitingOf(caller_, record);
}

template <typename Resource>
void QueueGlance::AddOutlook(const JobRecord& record, Resource& resource) {
  if (auto waiting = WaitingOf(record)) *resource.mutable_waiting() = *std::move(waiting);
  if (record.state == JobState::kRunning) *resource.mutable_at_work() = outlook_->AtWorkOf(record);
}

absl::StatusOr<v1::Job> QueueGlance::JobOf(const JobRecord& record) {
  ATTNPRUNE_ASSIGN_OR_RETURN(v1::Job job, ToProto(record));
  AddOutlook(record, job);
  return job;
}

absl::StatusOr<v1::Run> QueueGlance::RunOf(const JobRecord& record) {
  ATTNPRUNE_ASSIGN_OR_RETURN(v1::Run run, RunToProto(record));
  AddOutlook(record, run);
  return run;
}

}  // namespace attnprune::api
