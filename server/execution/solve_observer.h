// What workers do, for who counts it.
#ifndef ATTNPRUNE_SERVER_EXECUTION_SOLVE_OBSERVER_H_
#define ATTNPRUNE_SERVER_EXECUTION_SOLVE_OBSERVER_H_

#include <cstddef>
#include <string>

#include "core/methods/method.h"

namespace attnprune {

// `worker`: the slot, from 0. For each slot one call at a time, but for OnCheckpoint, which comes
// from the thread that writes. Returns at once and waits for nothing.
class SolveObserver {
 public:
  virtual ~SolveObserver() = default;
  virtual void OnJobBegin(int worker) = 0;
  virtual void OnJobEnd(int worker) = 0;
  virtual void OnMethodBegin(int worker, const std::string& method) = 0;  // its name
  virtual void OnMethodEnd(int worker) = 0;
  virtual void OnStep(int worker, const StepStats& stats) = 0;
  virtual void OnCheckpoint(int worker, bool written, size_t bytes) = 0;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_EXECUTION_SOLVE_OBSERVER_H_
