#include "server/execution/job_writer.h"

#include <algorithm>
#include <utility>

#include "core/base/clock.h"

namespace attnprune {

JobWriter::JobWriter(JobStore* store, JobClaim claim, JobWriterOptions options, StopSignal* stop)
    : store_(store),
      claim_(std::move(claim)),
      options_(std::move(options)),
      stop_(stop),
      last_checkpoint_(options_.clock->Now()),
      thread_([this] { Loop(); }) {}

JobWriter::~JobWriter() {
  {
    MutexLock lock(&mutex_);
    stopping_ = true;
  }
  changed_.NotifyAll();
}

void JobWriter::AddProgress(std::string payload, EventKind kind) {
  Add({kind, std::move(payload)});
}

void JobWriter::AddWarning(std::string payload) { Add({EventKind::kWarning, std::move(payload)}); }

// Wakes the writer for the first event only: it writes the others with it.
void JobWriter::Add(NewEvent event) {
  bool first;
  {
    MutexLock lock(&mutex_);
    if (IsProgress(event.kind) && events_.size() >= kMaxProgress) ThinOut();
    first = events_.empty();
    events_.push_back(std::move(event));
  }
  if (first) changed_.NotifyAll();
}

// Drops every second step that was not evaluated or, if all were, every second of these.
void JobWriter::ThinOut() {
  for (const EventKind kind : {EventKind::kProgress, EventKind::kEvaluated}) {
    bool keep = false;
    const size_t dropped = std::erase_if(events_, [&](const NewEvent& event) {
      if (event.kind != kind) return false;
      keep = !keep;
      return keep;  // the first, the third …
    });
    if (dropped > 0) return;
  }
}

bool JobWriter::CheckpointIsDue() {
  const absl::Time now = options_.clock->Now();
  MutexLock lock(&mutex_);
  return !checkpoint_.has_value() && !writing_ &&
         now - last_checkpoint_ >= options_.checkpoint_interval;
}

std::string JobWriter::TakeCheckpointRoom() {
  MutexLock lock(&mutex_);
  return std::exchange(checkpoint_room_, {});
}

void JobWriter::AddCheckpoint(std::string bytes) {
  const absl::Time now = options_.clock->Now();
  {
    MutexLock lock(&mutex_);
    checkpoint_ = std::move(bytes);
    last_checkpoint_ = now;
  }
  changed_.NotifyAll();
}

void JobWriter::Flush() {
  MutexLock lock(&mutex_);
  hurried_ = true;
  changed_.NotifyAll();
  changed_.Wait(&mutex_,
                [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return !HasWork() && !writing_; });
  hurried_ = false;
  std::string().swap(checkpoint_room_);  // an assignment would keep the memory
}

bool JobWriter::HasWork() const { return !events_.empty() || checkpoint_.has_value(); }

JobWriter::Work JobWriter::TakeWork() {
  Work work;
  work.events.swap(events_);
  work.checkpoint.swap(checkpoint_);
  return work;
}

void JobWriter::Loop() {
  absl::Time next_write = absl::InfinitePast();
  while (true) {
    Work work;
    {
      MutexLock lock(&mutex_);
      changed_.Wait(&mutex_,
                    [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return stopping_ || HasWork(); });
      // Never longer than the interval, even if the system's clock is set back.
      const absl::Duration pause = std::min(next_write - SteadyNow(), options_.progress_interval);
      changed_.WaitFor(&mutex_, pause,
                       [this]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return stopping_ || hurried_; });
      if (stopping_) return;
      work = TakeWork();
      writing_ = true;
    }
    Write(work);
    next_write = SteadyNow() + options_.progress_interval;
    {
      MutexLock lock(&mutex_);
      if (work.checkpoint.has_value()) {
        checkpoint_room_ = *std::move(work.checkpoint);
        checkpoint_room_.clear();
      }
      writing_ = false;
    }
    changed_.NotifyAll();
  }
}

void JobWriter::Write(const Work& work) {
  if (stop_->reason() == StopReason::kLapsed) return;
  if (!work.events.empty()) Check(store_->AppendEvents(claim_, work.events).status());
  if (work.checkpoint.has_value()) WriteCheckpoint(*work.checkpoint);
  written_since_compaction_ += static_cast<int>(work.events.size());
  if (written_since_compaction_ < kCompactEvery) return;
  written_since_compaction_ = 0;
  Check(store_->CompactEvents(claim_.id, CompactionLimits()));
}

void JobWriter::WriteCheckpoint(const std::string& bytes) {
  const absl::Status status = store_->SaveCheckpoint(claim_, bytes);
  if (options_.on_checkpoint) options_.on_checkpoint(status.ok(), bytes.size());
  Check(status);
}

void JobWriter::Check(const absl::Status& status) {
  if (status.ok()) return;
  if (absl::IsAborted(status)) stop_->Request(StopReason::kLapsed);
  options_.on_trouble(status);
}

}  // namespace attnprune
