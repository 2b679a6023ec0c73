#include "client/export/scalar_events.h"

#include <algorithm>
#include <iterator>
#include <limits>
#include <map>

namespace attnprune::exporting {
namespace {

constexpr char kCalibration[] = "relative_error/calibration";
constexpr char kHeldOut[] = "relative_error/held_out";

double SecondsOf(const google::protobuf::Timestamp& time) {
  return static_cast<double>(time.seconds()) + 1e-9 * time.nanos();
}

tensorboard::Event EventAt(const v1::JobEvent& event, int64_t step) {
  tensorboard::Event record;
  record.set_wall_time(SecondsOf(event.time()));
  record.set_step(step);
  return record;
}

void AddScalar(const char* tag, double value, tensorboard::Event* record) {
  tensorboard::Summary::Value& scalar = *record->mutable_summary()->add_value();
  scalar.set_tag(tag);
  scalar.set_simple_value(static_cast<float>(value));
}

tensorboard::Event OfProgress(const v1::JobEvent& event) {
  const v1::Progress& progress = event.progress();
  tensorboard::Event record = EventAt(event, progress.step());
  AddScalar("attention_loss", progress.attention_loss(), &record);
  AddScalar("regularization", progress.regularization(), &record);
  AddScalar("soft_relative_error", progress.soft_relative_error(), &record);
  AddScalar("gradient_norm", progress.gradient_norm(), &record);
  if (progress.has_calibration_error()) {
    AddScalar(kCalibration, progress.calibration_error(), &record);
  }
  if (progress.has_held_out_error()) AddScalar(kHeldOut, progress.held_out_error(), &record);
  return record;
}

tensorboard::Event OfResult(const v1::JobEvent& event, bool has_curve) {
  const v1::MethodResult& result = event.method_result();
  const auto& error = result.relative_error();
  tensorboard::Event record = EventAt(event, result.steps());
  AddScalar("sparsity", result.sparsity(), &record);
  AddScalar("result/calibration", error.calibration(), &record);
  if (error.has_held_out()) AddScalar("result/held_out", error.held_out(), &record);
  if (has_curve) return record;
  AddScalar(kCalibration, error.calibration(), &record);
  if (error.has_held_out()) AddScalar(kHeldOut, error.held_out(), &record);
  return record;
}

tensorboard::Event Start(const v1::JobEvent& event, int64_t step) {
  tensorboard::Event record = EventAt(event, step);
  record.mutable_session_log()->set_status(tensorboard::SessionLog::START);
  return record;
}

}  // namespace

std::vector<tensorboard::Event> ScalarEvents::Add(const v1::JobEvent& event) {
  if (event.has_progress()) {
    const int64_t step = event.progress().step();
    std::vector<tensorboard::Event> records;
    if (step <= last_step_) records.push_back(Start(event, step));
    last_step_ = step;
    records.push_back(OfProgress(event));
    return records;
  }
  return {OfResult(event, last_step_ >= 0)};
}

std::string MethodOf(const v1::JobEvent& event) {
  if (event.has_progress()) return event.progress().method();
  const bool has_result = event.has_method_result() && !event.method_result().has_failure();
  return has_result ? event.method_result().method() : "";
}

std::vector<v1::JobEvent> WithoutVoidSteps(const std::vector<v1::JobEvent>& events) {
  std::map<std::string, int64_t> earliest_later;  // step, by method, of the events that follow
  const auto stays = [&](const v1::JobEvent& event) {
    if (!event.has_progress()) return true;
    const int64_t step = event.progress().step();
    int64_t& later =
        earliest_later.emplace(MethodOf(event), std::numeric_limits<int64_t>::max()).first->second;
    if (step >= later) return false;
    later = step;
    return true;
  };
  std::vector<v1::JobEvent> kept;
  std::copy_if(events.rbegin(), events.rend(), std::back_inserter(kept), stays);
  std::reverse(kept.begin(), kept.end());
  return kept;
}

}  // namespace attnprune::exporting
