// Workers and their methods, counted.
#ifndef ATTNPRUNE_SERVER_OBSERVE_SOLVER_METRICS_H_
#define ATTNPRUNE_SERVER_OBSERVE_SOLVER_METRICS_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "server/execution/job_runner.h"
#include "server/observe/exposition.h"
#include "server/observe/instruments.h"

namespace attnprune {

// Thread-safe. Solving threads take no lock here and wait for no reader.
class SolverMetrics final : public SolveObserver {
 public:
  // methods: all there are; others count as "other". clock must outlive this.
  SolverMetrics(int workers, const std::vector<std::string>& methods, const Clock* clock);

  void OnJobBegin(int worker) override;
  void OnJobEnd(int worker) override;
  void OnMethodBegin(int worker, const std::string& method) override;
  void OnMethodEnd(int worker) override;
  void OnStep(int worker, const StepStats& stats) override;
  void OnCheckpoint(int worker, bool written, size_t bytes) override;

  void AddTo(Exposition& out) const;

 private:
  static constexpr int kNone = -1;  // no method with a step

  // What a slot does. A reader that finds `version` odd, or another one afterwards, has read
  // figures of two methods, and leaves them.
  struct Slot {
    std::atomic<bool> busy{false};
    std::atomic<uint64_t> version{0};
    std::atomic<int> method{kNone};
    std::atomic<int> step{0}, steps{0};
    std::atomic<double> loss, soft_error, gradient;
    std::atomic<double> calibration_error, held_out_error;  // NaN: not evaluated
    std::atomic<int64_t> saved_at{
        0};  // the last checkpoint or, before it, the first step; ns since 1970
    // The solving thread's own.
    size_t current = 0;  // method
    double seconds = 0;  // of its steps so far
  };
  struct Figures {
    std::string worker, method;
    double step, steps, loss, soft_error, gradient, calibration_error, held_out_error, age;
  };

  static void Clear(Slot& slot);
  std::vector<Figures> ReadSlots() const;
  void AddWorkers(Exposition& out) const;
  void AddRunning(Exposition& out) const;

  const std::vector<std::string> methods_;  // from 1 on; 0 is "other"
  const Clock* const clock_;
  std::deque<Slot> slots_;
  std::deque<Counter> steps_;  // by method
  std::deque<Histogram> step_seconds_;
  Counter checkpoints_written_, checkpoints_failed_, checkpoint_bytes_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_OBSERVE_SOLVER_METRICS_H_
