#include "server/observe/solver_metrics.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"

namespace attnprune {
namespace {

constexpr double kNotEvaluated = std::numeric_limits<double>::quiet_NaN();

// From a step of a toy problem to one of a large layer.
const std::vector<double>& StepSeconds() {
  static const std::vector<double>& bounds =
      *new std::vector<double>{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025,
                               0.05,   0.1,     0.25,   0.5,   1,      2.5,   10,   60};
  return bounds;
}

}  // namespace

SolverMetrics::SolverMetrics(int workers, const std::vector<std::string>& methods,
                             const Clock* clock)
    : methods_(WithOther(methods)),
      clock_(clock),
      slots_(static_cast<size_t>(workers)),
      steps_(methods_.size()) {
  for (size_t i = 0; i < methods_.size(); ++i) step_seconds_.emplace_back(StepSeconds());
}

// --- From the workers ---

void SolverMetrics::OnJobBegin(int worker) { slots_[static_cast<size_t>(worker)].busy = true; }

void SolverMetrics::OnJobEnd(int worker) {
  Slot& slot = slots_[static_cast<size_t>(worker)];
  Clear(slot);
  slot.busy = false;
}

void SolverMetrics::Clear(Slot& slot) {
  ++slot.version;
  slot.method = kNone;
  slot.calibration_error = kNotEvaluated;
  slot.held_out_error = kNotEvaluated;
  slot.seconds = 0;
  ++slot.version;
}

void SolverMetrics::OnMethodBegin(int worker, const std::string& method) {
  Slot& slot = slots_[static_cast<size_t>(worker)];
  Clear(slot);
  slot.current = IndexIn(methods_, method);
}

void SolverMetrics::OnMethodEnd(int worker) { Clear(slots_[static_cast<size_t>(worker)]); }

void SolverMetrics::OnStep(int worker, const StepStats& stats) {
  Slot& slot = slots_[static_cast<size_t>(worker)];
  steps_[slot.current].Add();
  step_seconds_[slot.current].Add(stats.seconds - slot.seconds);
  slot.seconds = stats.seconds;
  slot.step = stats.step;
  slot.steps = stats.steps;
  slot.loss = stats.attention_loss;
  slot.soft_error = stats.soft_relative_error;
  slot.gradient = stats.gradient_norm;
  if (stats.calibration_error.has_value()) slot.calibration_error = *stats.calibration_error;
  if (stats.held_out_error.has_value()) slot.held_out_error = *stats.held_out_error;
  if (slot.method != kNone) return;
  slot.saved_at = absl::ToUnixNanos(clock_->Now());
  slot.method = static_cast<int>(slot.current);  // last: now there is something to read
}

void SolverMetrics::OnCheckpoint(int worker, bool written, size_t bytes) {
  if (!written) return checkpoints_failed_.Add();
  checkpoints_written_.Add();
  checkpoint_bytes_.Add(static_cast<int64_t>(bytes));
  slots_[static_cast<size_t>(worker)].saved_at = absl::ToUnixNanos(clock_->Now());
}

// --- To the reader ---

std::vector<SolverMetrics::Figures> SolverMetrics::ReadSlots() const {
  std::vector<Figures> all;
  const int64_t now = absl::ToUnixNanos(clock_->Now());
  for (size_t i = 0; i < slots_.size(); ++i) {
    const Slot& slot = slots_[i];
    const uint64_t version = slot.version;
    const int method = slot.method;
    if (method == kNone) continue;
    Figures figures{.worker = absl::StrCat(i),
                    .method = methods_[static_cast<size_t>(method)],
                    .step = static_cast<double>(slot.step),
                    .steps = static_cast<double>(slot.steps),
                    .loss = slot.loss,
                    .soft_error = slot.soft_error,
                    .gradient = slot.gradient,
                    .calibration_error = slot.calibration_error,
                    .held_out_error = slot.held_out_error,
                    .age = std::max(0.0, static_cast<double>(now - slot.saved_at) / 1e9)};
    if (version % 2 == 0 && version == slot.version) all.push_back(std::move(figures));
  }
  return all;
}

void SolverMetrics::AddWorkers(Exposition& out) const {
  out.Gauge("attnprune_workers", "Worker slots.", static_cast<double>(slots_.size()));
  out.Gauges("attnprune_worker_busy", "Whether the slot runs a job.");
  for (size_t i = 0; i < slots_.size(); ++i) {
    out.Sample({{"worker", absl::StrCat(i)}}, slots_[i].busy ? 1 : 0);
  }
  out.Counters("attnprune_solver_steps_total", "Steps taken.");
  for (size_t i = 0; i < methods_.size(); ++i) {
    out.Sample({{"method", methods_[i]}}, static_cast<double>(steps_[i].value()));
  }
  out.Histograms("attnprune_solver_step_seconds", "Seconds of one step, its evaluation included.");
  for (size_t i = 0; i < methods_.size(); ++i) {
    if (steps_[i].value() > 0) out.Sample({{"method", methods_[i]}}, step_seconds_[i]);
  }
  out.Counters("attnprune_checkpoints_total", "Checkpoints of running jobs.");
  out.Sample({{"result", "written"}}, static_cast<double>(checkpoints_written_.value()));
  out.Sample({{"result", "failed"}}, static_cast<double>(checkpoints_failed_.value()));
  out.Count("attnprune_checkpoint_bytes_total", "Bytes of the checkpoints written.",
            static_cast<double>(checkpoint_bytes_.value()));
}

void SolverMetrics::AddRunning(Exposition& out) const {
  const std::vector<Figures> all = ReadSlots();
  const auto add = [&](absl::string_view name, absl::string_view help, double Figures::*value) {
    out.Gauges(name, help);
    for (const Figures& figures : all) {
      out.Sample({{"worker", figures.worker}, {"method", figures.method}}, figures.*value);
    }
  };
  add("attnprune_running_step", "Steps that the slot's method has taken.", &Figures::step);
  add("attnprune_running_steps_limit", "Steps that it takes at most.", &Figures::steps);
  add("attnprune_running_attention_loss", "Attention loss of its real-valued mask.",
      &Figures::loss);
  add("attnprune_running_soft_relative_error", "Relative error of the same mask.",
      &Figures::soft_error);
  add("attnprune_running_gradient_norm", "Norm of the gradient in the mask.", &Figures::gradient);
  add("attnprune_running_checkpoint_age_seconds",
      "Since its last checkpoint, or its first step here: what a crash would cost.", &Figures::age);
  out.Gauges("attnprune_running_relative_error",
             "Relative error of its binary mask, as last evaluated.");
  for (const Figures& figures : all) {
    for (const auto& [data, value] : {std::pair("calibration", figures.calibration_error),
                                      std::pair("held_out", figures.held_out_error)}) {
      if (std::isnan(value)) continue;
      out.Sample({{"worker", figures.worker}, {"method", figures.method}, {"data", data}}, value);
    }
  }
}

void SolverMetrics::AddTo(Exposition& out) const {
  AddWorkers(out);
  AddRunning(out);
}

}  // namespace attnprune
