#include "server/execution/job_phase.h"

#include <utility>

#include "server/execution/method_messages.h"

namespace attnprune {

JobPhase::JobPhase(v1::Phase phase, std::string method, JobWriter* writer)
    : phase_(phase), method_(std::move(method)), writer_(writer) {
  Write();
}

void JobPhase::Advance(double share) {
  constexpr double kLeastStep = 0.01;
  if (share < written_ + kLeastStep && (share < 1 || written_ >= 1)) return;
  written_ = share;
  Write();
}

double JobPhase::seconds() const {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

void JobPhase::Write() {
  writer_->AddProgress(MakePhaseProgress(phase_, method_, written_, seconds()).SerializeAsString(),
                       EventKind::kProgress);
}

}  // namespace attnprune
