#include "server/observe/job_metrics.h"

#include <algorithm>
#include <array>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "attnprune/v1/job.pb.h"
#include "core/base/status_macros.h"
#include "server/execution/stop_signal.h"

namespace attnprune {
namespace {

// TerminationReason's names, and "failed" for a method without a result.
constexpr std::array<absl::string_view, 7> kOutcomes = {
    "other",           "completed", "gradient_tolerance", "loss_tolerance", "stopped",
    "numerical_error", "failed"};

const std::vector<double>& JobSeconds() {
  static const std::vector<double>& bounds = *new std::vector<double>{
      0.01, 0.05, 0.1, 0.5, 1, 5, 15, 30, 60, 300, 900, 3600, 4 * 3600, 24 * 3600};
  return bounds;
}

// Of a long queue the oldest jobs are read: others wait from the start, as it counts.
constexpr int kFoundAtStart = 1000;

// A label is the method's name or, from the second of that name on, "name#2".
absl::string_view MethodOf(absl::string_view label) { return label.substr(0, label.find('#')); }

std::string OutcomeOf(const v1::MethodResult& result) {
  if (result.has_failure()) return "failed";
  return absl::StrReplaceAll(result.termination_reason(), {{" ", "_"}});
}

// When a queued job entered the queue, for the first time or again: that is its newest event.
absl::StatusOr<absl::Time> QueuedSince(const std::string& job_id, JobStore* store) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const JobRecord job, store->Get(job_id));
  if (job.attempt == 0) return job.create_time;
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<StoredEvent> events,
                             store->ReadEvents(job_id, job.next_sequence - 2, 1));
  return events.empty() ? job.create_time : events.front().time;
}

}  // namespace

JobMetrics::JobMetrics(const std::vector<std::string>& methods, const Clock* clock)
    : methods_(WithOther(methods)),
      clock_(clock),
      start_(clock->Now()),
      queue_wait_(JobSeconds()),
      run_(JobSeconds()),
      outcomes_(methods_.size(), kOutcomes.size()) {
  for (size_t i = 0; i < methods_.size(); ++i) method_seconds_.emplace_back(JobSeconds());
}

absl::Status JobMetrics::FindQueued(JobStore* store) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const Snapshot outstanding, store->ReadOutstanding());
  int reads = 0;
  for (const OutstandingJob& job : outstanding.jobs) {
    if (job.state != JobState::kQueued) continue;
    if (++reads > kFoundAtStart) break;
    ATTNPRUNE_ASSIGN_OR_RETURN(const absl::Time since, QueuedSince(job.id, store));
    const MutexLock lock(&mutex_);
    Enqueue(job.id, since);
  }
  return absl::OkStatus();
}

void JobMetrics::OnEvents(const std::string& job_id, absl::Span<const StoredEvent> events) {
  for (const StoredEvent& event : events) {
    switch (event.kind) {
      case EventKind::kProgress:
      case EventKind::kEvaluated:
        break;
      case EventKind::kWarning:
        warnings_.Add();
        break;
      case EventKind::kMethodResult:
        OnResult(KindOf(job_id), event);
        break;
      case EventKind::kStateChange:
      case EventKind::kTerminal:
        OnState(job_id, event);
        break;
    }
  }
}

void JobMetrics::OnState(const std::string& job_id, const StoredEvent& event) {
  const MutexLock lock(&mutex_);
  switch (event.state) {
    case JobState::kQueued:
      (event.attempt == 0 ? created_ : event.payload == kServerDraining ? drained_ : lost_).Add();
      EndRun(job_id, event.time);
      return Enqueue(job_id, event.time);
    case JobState::kRunning:
      Dequeue(job_id, event.time, /*claimed=*/true);
      running_[job_id] = event.time;
      return;
    case JobState::kSucceeded:
    case JobState::kFailed:
    case JobState::kCancelled:
      Dequeue(job_id, event.time, /*claimed=*/false);
      EndRun(job_id, event.time);
      return finished_[static_cast<int>(event.state) - static_cast<int>(JobState::kSucceeded)]
          .Add();
  }
}

// One that was queued elsewhere waits from now on; news that come late are followed by newer ones.
void JobMetrics::OnRemoteChange(const JobChange& job) {
  const MutexLock lock(&mutex_);
  if (job.state == JobState::kQueued) return Enqueue(job.job_id, clock_->Now());
  Dequeue(job.job_id, clock_->Now(), /*claimed=*/false);
  if (IsTerminal(job.state)) running_.erase(job.job_id);
}

// Nothing if it is there already: FindQueued, OnEvents and OnRemoteChange may all tell of it.
void JobMetrics::Enqueue(const std::string& job_id, absl::Time time) {
  if (queued_.emplace(job_id, time).second) queued_since_.insert(time);
}

// A job that no event has told of, and that FindQueued has not found, waits from the start.
void JobMetrics::Dequeue(const std::string& job_id, absl::Time time, bool claimed) {
  const auto found = queued_.find(job_id);
  const absl::Time since = found == queued_.end() ? start_ : found->second;
  if (claimed) queue_wait_.Add(std::max(0.0, absl::ToDoubleSeconds(time - since)));
  if (found == queued_.end()) return;
  queued_since_.erase(queued_since_.find(found->second));
  queued_.erase(found);
}

void JobMetrics::EndRun(const std::string& job_id, absl::Time time) {
  const auto found = running_.find(job_id);
  if (found == running_.end()) return;
  run_.Add(std::max(0.0, absl::ToDoubleSeconds(time - found->second)));
  running_.erase(found);
}

void JobMetrics::OnResult(JobKind kind, const StoredEvent& event) {
  if (kind == JobKind::kRun) return OnRunResult(event);
  v1::MethodResult result;
  if (!result.ParseFromString(event.payload)) return;
  const size_t method = IndexIn(methods_, MethodOf(result.method()));
  outcomes_.at(method, IndexIn(kOutcomes, OutcomeOf(result))).Add();
  if (!result.has_failure()) method_seconds_[method].Add(result.seconds());
}

// Each tensor of a run is a run of its method.
void JobMetrics::OnRunResult(const StoredEvent& event) {
  v1::RunResult result;
  if (!result.ParseFromString(event.payload)) return;
  for (const v1::PrunedTensor& tensor : result.tensors()) {
    const size_t method = IndexIn(methods_, MethodOf(tensor.method()));
    outcomes_.at(method, IndexIn(kOutcomes, "completed")).Add();
    method_seconds_[method].Add(tensor.seconds());
  }
}

void JobMetrics::AddMethods(Exposition& out) const {
  out.Counters("attnprune_methods_finished_total", "Methods that have ended, and how.");
  for (size_t i = 0; i < methods_.size(); ++i) {
    for (size_t j = 0; j < kOutcomes.size(); ++j) {
      const int64_t count = outcomes_.at(i, j).value();
      if (count == 0) continue;
      out.Sample({{"method", methods_[i]}, {"outcome", kOutcomes[j]}}, static_cast<double>(count));
    }
  }
  out.Histograms("attnprune_method_seconds", "Seconds of solving of methods with a result.");
  for (size_t i = 0; i < methods_.size(); ++i) {
    const Histogram& seconds = method_seconds_[i];
    if (seconds.sum() > 0) out.Sample({{"method", methods_[i]}}, seconds);
  }
}

void JobMetrics::AddTo(Exposition& out) const {
  absl::Time oldest = absl::InfiniteFuture();
  {
    const MutexLock lock(&mutex_);
    if (!queued_since_.empty()) oldest = *queued_since_.begin();
  }
  out.Gauge("attnprune_queue_oldest_seconds", "How long the first of the queue is waiting.",
            std::max(0.0, absl::ToDoubleSeconds(oldest == absl::InfiniteFuture()
                                                    ? absl::ZeroDuration()
                                                    : clock_->Now() - oldest)));
  out.Histograms("attnprune_queue_wait_seconds", "From entering the queue to a worker.");
  out.Sample({}, queue_wait_);
  out.Count("attnprune_jobs_created_total", "Jobs accepted.",
            static_cast<double>(created_.value()));
  out.Counters("attnprune_jobs_requeued_total", "Running jobs that went back into the queue.");
  out.Sample({{"cause", "worker_lost"}}, static_cast<double>(lost_.value()));
  out.Sample({{"cause", "draining"}}, static_cast<double>(drained_.value()));
  out.Counters("attnprune_jobs_finished_total", "Jobs that have ended.");
  for (const JobState state : {JobState::kSucceeded, JobState::kFailed, JobState::kCancelled}) {
    const int index = static_cast<int>(state) - static_cast<int>(JobState::kSucceeded);
    out.Sample({{"state", absl::AsciiStrToLower(ToString(state))}},
               static_cast<double>(finished_[index].value()));
  }
  out.Histograms("attnprune_job_run_seconds", "Of one attempt of a job.");
  out.Sample({}, run_);
  out.Count("attnprune_job_warnings_total", "Warning events of jobs.",
            static_cast<double>(warnings_.value()));
  out.Count("attnprune_job_trouble_total", "Writes of running jobs that failed.",
            static_cast<double>(trouble_.value()));
  AddMethods(out);
}

}  // namespace attnprune
