#include "server/execution/run_progress.h"

#include <algorithm>
#include <utility>

#include "attnprune/v1/prune_service.pb.h"

namespace attnprune {
namespace {

double SecondsBetween(std::chrono::steady_clock::time_point from,
                      std::chrono::steady_clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

void Tell(ClaimedJob& job, const v1::RunProgress& progress) {
  v1::Progress stored;
  *stored.mutable_run() = progress;
  job.writer().AddProgress(stored.SerializeAsString(), EventKind::kProgress);
}

}  // namespace

void TellReading(ClaimedJob& job, double share) {
  v1::RunProgress progress;
  progress.set_phase(v1::READING);
  progress.set_share(share);
  Tell(job, progress);
}

RunProgress::RunProgress(ClaimedJob& job, const RunPlan& plan, RunPace& pace,
                         std::function<double()> others)
    : job_(job), plan_(plan), pace_(pace), others_(std::move(others)) {}

// Nothing of it is this worker's: the pace is as if it had been there from the start.
void RunProgress::Skip(double operations) {
  done_ += operations;
  if (pace_.done_at_start.has_value()) *pace_.done_at_start += operations;
}

void RunProgress::Begin(v1::RunPhase phase, Index block, double operations,
                        absl::Span<const LinearMap> maps, absl::string_view method) {
  begun_ = std::chrono::steady_clock::now();
  if (others_) by_others_ = others_();
  working_ = operations;
  share_ = 0;
  message_.Clear();
  message_.set_phase(phase);
  message_.set_block(static_cast<int>(block));
  message_.set_blocks(static_cast<int>(plan_.blocks.size()));
  for (std::string& role : RolesOf(maps)) message_.add_maps(std::move(role));
  message_.set_method(std::string(method));
  Write();
}

void RunProgress::Resume(double share) {
  share_ = std::min(share, 1.0);
  if (pace_.done_at_start.has_value()) *pace_.done_at_start += share_ * working_;
}

void RunProgress::Advance(double share) {
  share_ = std::min(share, 1.0);
  Write();
}

void RunProgress::Step(const StepStats& stats, absl::optional<double> share) {
  message_.set_step(stats.step);
  message_.set_steps(stats.steps);
  message_.set_loss(stats.attention_loss);
  Advance(share.value_or(static_cast<double>(stats.step) / std::max(stats.steps, 1)));
}

void RunProgress::End() {
  done_ += working_;
  working_ = 0;
  share_ = 0;
}

double RunProgress::seconds() const {
  return SecondsBetween(begun_, std::chrono::steady_clock::now());
}

void RunProgress::Write() {
  const double all = plan_.operations, done = done_ + by_others_ + share_ * working_;
  if (!pace_.done_at_start.has_value()) pace_.done_at_start = done;
  const double since = done - *pace_.done_at_start;
  const double elapsed = SecondsBetween(pace_.start, std::chrono::steady_clock::now());
  // Of what others are at work on only what they have stored is known.
  pace_.share = std::clamp(done / all, pace_.share, 1.0);
  message_.set_share(pace_.share);
  message_.set_elapsed_seconds(elapsed);
  if (since > 0) message_.set_remaining_seconds(elapsed * std::max(all - done, 0.0) / since);
  Tell(job_, message_);
}

}  // namespace attnprune
