#include "client/cli/views/progress_view.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/views/format.h"

namespace attnprune::cli {
namespace {

constexpr char kUnfinished[] = "stopped";  // a result's termination_reason; its job was cancelled
constexpr int kWidestBar = 30, kNarrowestBar = 5;

std::string ErrorText(const absl::optional<double>& calibration,
                      const absl::optional<double>& held_out) {
  std::string text;
  if (calibration.has_value()) absl::StrAppendFormat(&text, "  error %.5f", *calibration);
  if (held_out.has_value()) absl::StrAppendFormat(&text, "  held out %.5f", *held_out);
  return text;
}

// Figures that go first where the line is too long for the terminal; never one in the middle.
enum class Brevity { kAll, kNoLoss, kNoSpeed, kNoCalibration, kTimeOnly };
constexpr Brevity kBrevities[] = {Brevity::kAll, Brevity::kNoLoss, Brevity::kNoSpeed,
                                  Brevity::kNoCalibration, Brevity::kTimeOnly};

std::string ResultText(const v1::MethodResult& result, Brevity brevity) {
  if (result.has_failure()) {
    return brevity == Brevity::kAll ? absl::StrCat("failed: ", result.failure().message())
                                    : "failed";
  }
  const auto& error = result.relative_error();
  absl::optional<double> calibration = error.calibration(), held_out;
  if (error.has_held_out()) held_out = error.held_out();
  const std::string end = result.termination_reason() == kUnfinished ? kUnfinished : "done";
  if (brevity == Brevity::kTimeOnly) {  // the error that ranks
    return absl::StrFormat("%s  %.5f", end, held_out.value_or(*calibration));
  }
  if (brevity == Brevity::kNoCalibration && held_out.has_value()) calibration.reset();
  return absl::StrCat(
      end, ErrorText(calibration, held_out),
      brevity < Brevity::kNoSpeed ? absl::StrCat("  ", SecondsText(result.seconds())) : "");
}

std::string FiguresText(const MethodProgress& method, Brevity brevity) {
  const v1::Progress& p = *method.latest;
  std::string text = absl::StrFormat("%*d/%d", static_cast<int>(absl::StrCat(p.steps()).size()),
                                     p.step(), p.steps());
  if (brevity < Brevity::kNoLoss) absl::StrAppendFormat(&text, "  loss %.5g", p.attention_loss());
  const bool both = brevity < Brevity::kNoCalibration || !method.held_out_error.has_value();
  if (brevity < Brevity::kTimeOnly) {
    absl::StrAppend(
        &text, ErrorText(both ? method.calibration_error : absl::nullopt, method.held_out_error));
  }
  if (brevity < Brevity::kNoSpeed && p.elapsed_seconds() > 0) {
    absl::StrAppendFormat(&text, "  %.3g/s", p.step() / p.elapsed_seconds());
  }
  return absl::StrCat(text, "  ", SecondsText(p.remaining_seconds()), " left");
}

std::string PhaseText(const v1::PhaseProgress& phase) {
  return absl::StrFormat("%s %.0f %%", phase.phase() == v1::JUDGING ? "judging" : "preparing",
                         100 * phase.share());
}

double FractionOf(const MethodProgress& method) {
  if (method.result.has_value()) return 1;
  if (method.phase.has_value()) return std::clamp(method.phase->share(), 0.0, 1.0);
  if (!method.latest.has_value() || method.latest->steps() < 1) return 0;
  return std::clamp(static_cast<double>(method.latest->step()) / method.latest->steps(), 0.0, 1.0);
}

std::string TextOf(const MethodProgress& method, Brevity brevity) {
  if (method.result.has_value()) return ResultText(*method.result, brevity);
  if (method.phase.has_value()) return PhaseText(*method.phase);
  return method.latest.has_value() ? FiguresText(method, brevity) : "waiting";
}

size_t WidestText(const ProgressModel& model, Brevity brevity) {
  size_t width = 0;
  for (const MethodProgress& method : model.methods()) {
    width = std::max(width, TextOf(method, brevity).size());
  }
  return width;
}

std::string BarOf(double fraction, int width) {
  const int filled = static_cast<int>(fraction * width);
  return absl::StrCat("[", std::string(static_cast<size_t>(filled), '#'),
                      std::string(static_cast<size_t>(width - filled), '.'), "]");
}

std::string StateLine(const v1::StateChange& change) {
  std::string text = StateText(change.state());
  if (change.attempt() > 1) absl::StrAppend(&text, ", attempt ", change.attempt());
  if (!change.reason().empty()) absl::StrAppend(&text, ": ", change.reason());
  return text;
}

}  // namespace

ProgressModel::ProgressModel(const v1::Job& job) {
  for (const v1::Method& method : job.methods()) {
    Find(method.label().empty() ? method.name() : method.label());
  }
  for (const v1::MethodResult& result : job.results()) Find(result.method()).result = result;
}

MethodProgress& ProgressModel::Find(const std::string& label) {
  for (MethodProgress& method : methods_) {
    if (method.label == label) return method;
  }
  methods_.emplace_back().label = label;
  return methods_.back();
}

void ProgressModel::Apply(const v1::JobEvent& event) {
  if (event.has_phase() && event.phase().method().empty()) {
    preparing_ = event.phase();
    if (event.phase().share() >= 1) preparing_.reset();
  } else if (event.has_phase()) {
    Find(event.phase().method()).phase = event.phase();
  } else if (event.has_progress()) {
    preparing_.reset();
    MethodProgress& method = Find(event.progress().method());
    method.latest = event.progress();
    method.phase.reset();
    if (event.progress().has_calibration_error()) {
      method.calibration_error = event.progress().calibration_error();
    }
    if (event.progress().has_held_out_error()) {
      method.held_out_error = event.progress().held_out_error();
    }
  } else if (event.has_method_result()) {
    Find(event.method_result().method()).result = event.method_result();
  } else if (event.has_terminal()) {
    for (const v1::MethodResult& result : event.terminal().results()) {
      Find(result.method()).result = result;
    }
  }
}

std::vector<std::string> BarLines(const ProgressModel& model, int columns) {
  constexpr absl::string_view kPreparing = "preparing";
  size_t label_width = model.preparing().has_value() ? kPreparing.size() : 0;
  for (const MethodProgress& method : model.methods()) {
    label_width = std::max(label_width, method.label.size());
  }
  Brevity brevity = Brevity::kAll;
  int room = 0;
  for (const Brevity next : kBrevities) {
    brevity = next;
    room = columns - static_cast<int>(label_width + WidestText(model, brevity)) - 6;
    if (room >= kNarrowestBar) break;
  }
  const int bar_width = std::clamp(room, kNarrowestBar, kWidestBar);
  std::vector<std::string> lines;
  const auto add = [&](absl::string_view label, double fraction, absl::string_view text) {
    std::string line = absl::StrCat(label, std::string(label_width - label.size() + 1, ' '),
                                    BarOf(fraction, bar_width), "  ", text);
    line.resize(std::min(line.size(), static_cast<size_t>(std::max(columns, 1))));
    lines.push_back(std::move(line));
  };
  if (model.preparing().has_value()) {
    const double share = std::clamp(model.preparing()->share(), 0.0, 1.0);
    add(kPreparing, share, absl::StrFormat("%.0f %%", 100 * share));
  }
  for (const MethodProgress& method : model.methods()) {
    add(method.label, FractionOf(method), TextOf(method, brevity));
  }
  return lines;
}

bool TenthSteps::IsDue(const std::string& what, double share) {
  constexpr double kRounding = 1e-9;  // 0.3 * 10 is 3
  const int tenth = static_cast<int>(std::clamp(share, 0.0, 1.0) * 10 + kRounding);
  const auto [last, is_new] = tenths_.try_emplace(what, tenth);
  if (!is_new && tenth <= last->second) return false;
  last->second = tenth;
  return true;
}

std::string PlainView::LineOf(const v1::JobEvent& event, const ProgressModel& model) {
  if (event.has_state_change()) return StateLine(event.state_change());
  if (!event.warning().empty()) return absl::StrCat("warning: ", event.warning());
  if (event.has_method_result()) {
    const v1::MethodResult& result = event.method_result();
    return absl::StrCat(result.method(), "  ", ResultText(result, Brevity::kAll));
  }
  if (event.has_phase()) return PhaseLine(event);
  if (!event.has_progress()) return "";
  const v1::Progress& progress = event.progress();
  const double share = static_cast<double>(progress.step()) / std::max(progress.steps(), 1);
  if (!methods_.IsDue(progress.method(), share)) return "";
  for (const MethodProgress& method : model.methods()) {
    if (method.label == progress.method() && method.latest.has_value()) {
      return absl::StrCat(method.label, "  ", FiguresText(method, Brevity::kAll));
    }
  }
  return "";
}

std::string PlainView::PhaseLine(const v1::JobEvent& event) {
  constexpr double kWorthALine = 1;  // seconds
  const v1::PhaseProgress& phase = event.phase();
  const std::string key = absl::StrCat(phase.method(), "\n", v1::Phase_Name(phase.phase()));
  if (phase.elapsed_seconds() < kWorthALine || !phases_.IsDue(key, phase.share())) return "";
  return phase.method().empty() ? PhaseText(phase)
                                : absl::StrCat(phase.method(), "  ", PhaseText(phase));
}

}  // namespace attnprune::cli
