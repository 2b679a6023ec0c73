// A run of several phases, one after the other, seen as one.
#ifndef ATTNPRUNE_CORE_METHODS_PHASE_OBSERVER_H_
#define ATTNPRUNE_CORE_METHODS_PHASE_OBSERVER_H_

#include <cstdint>
#include <string>
#include <utility>

#include "core/methods/method.h"
#include "core/methods/refit_state.h"

namespace attnprune {

// Passes the steps of one phase on as steps of the whole, with a state of the whole.
class PhaseObserver final : public ProgressObserver {
 public:
  // steps_before: already taken; steps_after: of later phases, at most. base_result: of the phases
  // before (SerializeResult), empty in the first. `observer` must outlive this.
  PhaseObserver(int steps_before, int steps_after, std::string base_result, uint64_t fingerprint,
                ProgressObserver& observer)
      : steps_before_(steps_before),
        steps_after_(steps_after),
        base_result_(std::move(base_result)),
        fingerprint_(fingerprint),
        observer_(observer) {}

  Verdict OnStep(const StepStats& stats, const Resumable& phase) override {
    StepStats whole = stats;
    whole.step += steps_before_;
    whole.steps += steps_before_ + steps_after_;
    const Verdict verdict = observer_.OnStep(whole, State(*this, phase));
    stopped_ = verdict == Verdict::kStop;
    return verdict;
  }

  // Whether the observer wished so at the last step.
  bool stopped() const { return stopped_; }

 private:
  class State final : public Resumable {
   public:
    State(const PhaseObserver& whole, const Resumable& phase) : whole_(whole), phase_(phase) {}
    void AppendState(std::string* out) const override {
      out->append(RefitStateLine(whole_.base_result_.size(), whole_.fingerprint_));
      out->append(whole_.base_result_);
      phase_.AppendState(out);
    }

   private:
    const PhaseObserver& whole_;
    const Resumable& phase_;
  };

  const int steps_before_, steps_after_;
  const std::string base_result_;
  const uint64_t fingerprint_;
  ProgressObserver& observer_;
  bool stopped_ = false;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_METHODS_PHASE_OBSERVER_H_
