// A run of several phases, one after the other, seen as one.
#ifndef ATTNPRUNE_CORE_METHODS_PHASE_OBSERVER_H_
#define ATTNPRUNE_CORE_METHODS_PHASE_OBSERVER_H_

#include <string>
#include <utility>

#include "core/methods/method.h"

namespace attnprune {

// Passes the steps of one phase on as steps of the whole, with a state of the whole.
class PhaseObserver final : public ProgressObserver {
 public:
  // steps_before: already taken; steps_after: of later phases, at most. state_begin: what the
  // whole's state has before the phase's. `observer` must outlive this.
  PhaseObserver(int steps_before, int steps_after, std::string state_begin,
                ProgressObserver& observer)
      : steps_before_(steps_before),
        steps_after_(steps_after),
        state_begin_(std::move(state_begin)),
        observer_(observer) {}

  Verdict OnStep(const StepStats& stats, const Resumable& phase) override {
    StepStats whole = stats;
    whole.step += steps_before_;
    whole.steps += steps_before_ + steps_after_;
    const Verdict verdict = observer_.OnStep(whole, State(state_begin_, phase));
    stopped_ = verdict == Verdict::kStop;
    return verdict;
  }

  // Whether the observer wished so at the last step.
  bool stopped() const { return stopped_; }

 private:
  class State final : public Resumable {
   public:
    State(const std::string& begin, const Resumable& phase) : begin_(begin), phase_(phase) {}
    void AppendState(std::string* out) const override {
      out->append(begin_);
      phase_.AppendState(out);
    }

   private:
    const std::string& begin_;
    const Resumable& phase_;
  };

  const int steps_before_, steps_after_;
  const std::string state_begin_;
  ProgressObserver& observer_;
  bool stopped_ = false;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_METHODS_PHASE_OBSERVER_H_
