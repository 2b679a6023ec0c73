// What a job store must do, over std::map, without a word on how: the reference of the model test.
#ifndef ATTNPRUNE_TESTS_SERVER_QUEUE_MODEL_STORE_H_
#define ATTNPRUNE_TESTS_SERVER_QUEUE_MODEL_STORE_H_

#include <algorithm>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "server/queue/job_store.h"

namespace attnprune::testing {

struct ModelJob {
  JobRecord record;
  std::vector<StoredEvent> events;
  std::string checkpoint;  // of use if record.has_checkpoint
  std::set<std::string> tensors;
};

// Jobs by order of creation. Calls answer with the code that the store must answer with, and change
// nothing unless that is kOk. Time is the argument `now`.
class ModelStore {
 public:
  std::map<int, ModelJob> jobs;

  // `id`: as the store chose it.
  void Create(const NewJob& job, const std::string& id, absl::Time now) {
    ModelJob made;
    made.record.id = id;
    made.record.priority = job.priority;
    made.record.timeout = job.timeout;
    made.record.create_time = now;
    made.record.request_id = job.request_id;
    made.record.request_digest = job.request_digest;
    made.record.labels = job.labels;
    made.record.spec = job.spec;
    made.tensors.insert(job.tensor_digests.begin(), job.tensor_digests.end());
    AddStateEvent(&made, EventKind::kStateChange, now);
    jobs[next_number_++] = made;
  }

  // The job with this request_id; nullptr if there is none.
  const ModelJob* FindRequest(const std::string& request_id) const {
    for (const auto& [number, job] : jobs) {
      if (job.record.request_id == request_id) return &job;
    }
    return nullptr;
  }

  ModelJob* Find(const std::string& id) {
    for (auto& [number, job] : jobs) {
      if (job.record.id == id) return &job;
    }
    return nullptr;
  }

  // The job that was claimed; nullptr if none is queued.
  ModelJob* Claim(absl::Time now, absl::Time until) {
    ModelJob* best = nullptr;
    for (auto& [number, job] : jobs) {
      if (job.record.state != JobState::kQueued) continue;
      if (best == nullptr || job.record.priority > best->record.priority) best = &job;
    }
    if (best == nullptr) return nullptr;
    JobRecord& record = best->record;
    record.state = JobState::kRunning;
    record.lease_owner = "worker";
    record.lease_until = until;
    if (!record.start_time.has_value()) record.start_time = now;
    ++record.fence;
    ++record.attempt;
    AddStateEvent(best, EventKind::kStateChange, now);
    return best;
  }

  // The job if the claim may still write to it, else nullptr.
  ModelJob* Running(const JobClaim& claim) {
    ModelJob* job = Find(claim.id);
    const bool holds = job != nullptr && job->record.fence == claim.fence &&
                       job->record.state == JobState::kRunning;
    return holds ? job : nullptr;
  }

  static int64_t AddEvent(ModelJob* job, StoredEvent event, absl::Time now) {
    event.sequence = job->record.next_sequence++;
    event.time = now;
    job->events.push_back(event);
    return event.sequence;
  }

  static void End(ModelJob* job, JobState state, const Failure& failure, absl::Time now) {
    JobRecord& record = job->record;
    record.state = state;
    record.failure = failure;
    record.end_time = now;
    record.lease_owner.clear();
    record.has_checkpoint = false;
    AddStateEvent(job, EventKind::kTerminal, now);
  }

  static void Requeue(ModelJob* job, RequeueCause cause, absl::Time now) {
    if (job->record.cancel_requested) return End(job, JobState::kCancelled, {}, now);
    job->record.state = JobState::kQueued;
    job->record.lease_owner.clear();
    ++job->record.fence;
    if (cause == RequeueCause::kWorkerLost) ++job->record.losses;
    AddStateEvent(job, EventKind::kStateChange, now);
  }

  void Reopen(absl::Time now) {
    for (auto& [number, job] : jobs) {
      const JobRecord& record = job.record;
      if (record.state != JobState::kRunning) continue;
      if (record.cancel_requested) {
        Requeue(&job, RequeueCause::kWorkerLost, now);
      } else if (record.timeout > absl::ZeroDuration() &&
                 now >= *record.start_time + record.timeout) {
        End(&job, JobState::kFailed, {absl::StatusCode::kDeadlineExceeded, ""}, now);
      } else if (record.losses >= SchedulerPolicy().max_losses) {
        End(&job, JobState::kFailed, {absl::StatusCode::kInternal, ""}, now);
      } else {
        Requeue(&job, RequeueCause::kWorkerLost, now);
      }
    }
  }

  // Drops progress by the rule of CompactionLimits::progress.
  static void ThinOut(ModelJob* job, int64_t keep) {
    while (true) {
      std::vector<int64_t> steps, evaluated;  // newest first
      for (auto event = job->events.rbegin(); event != job->events.rend(); ++event) {
        if (event->kind == EventKind::kProgress) steps.push_back(event->sequence);
        if (event->kind == EventKind::kEvaluated) evaluated.push_back(event->sequence);
      }
      if (static_cast<int64_t>(steps.size() + evaluated.size()) <= keep) return;
      std::set<int64_t> ends(steps.begin(), steps.end());
      ends.insert(evaluated.begin(), evaluated.end());
      const int64_t oldest = *ends.begin(), newest = *ends.rbegin();
      std::set<int64_t> dropped;
      for (const std::vector<int64_t>& progress : {steps, evaluated}) {
        bool drop = true;
        for (const int64_t sequence : progress) {
          if (sequence == oldest || sequence == newest) continue;
          if (drop) dropped.insert(sequence);
          drop = !drop;
        }
        if (!dropped.empty()) break;
      }
      if (dropped.empty()) dropped.insert(oldest);
      std::erase_if(job->events,
                    [&](const StoredEvent& event) { return dropped.count(event.sequence) > 0; });
    }
  }

 private:
  static void AddStateEvent(ModelJob* job, EventKind kind, absl::Time now) {
    StoredEvent event;
    event.kind = kind;
    event.state = job->record.state;
    event.attempt = job->record.attempt;
    AddEvent(job, event, now);
  }

  int next_number_ = 0;
};

}  // namespace attnprune::testing

#endif  // ATTNPRUNE_TESTS_SERVER_QUEUE_MODEL_STORE_H_
