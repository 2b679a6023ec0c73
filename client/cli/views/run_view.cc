#include "client/cli/views/run_view.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cli/views/format.h"
#include "client/cli/views/run_table.h"

namespace attnprune::cli {
namespace {

constexpr int kWidestRunBar = 30, kNarrowestRunBar = 5;
constexpr double kLargestLoss = 1e300;

std::string PlaceText(const v1::RunProgress& progress) {
  switch (progress.phase()) {
    case v1::READING:
      return "reading the model";
    case v1::ALLOCATING:
      return "sharing the sparsity out";
    case v1::SAMPLING:
      return "writing rows";
    case v1::MEASURING:
      return "taking the curvature";
    case v1::DISTILLING:
      return "distilling";
    case v1::SCORING:
      return progress.block() < progress.blocks() ? "scoring" : "taking the losses";
    default:
      return absl::StrCat("block ", progress.block(), " of ", progress.blocks());
  }
}

// What is done to which maps.
std::string WorkText(const v1::RunProgress& progress) {
  const std::string maps = absl::StrJoin(progress.maps(), ", ");
  switch (progress.phase()) {
    case v1::COLLECTING:
      return absl::StrCat(maps, "  inputs");
    case v1::PRUNING:
      return absl::StrCat(
          maps, "  ", progress.method(),
          progress.step() > 0 ? absl::StrCat(" ", progress.step(), "/", progress.steps()) : "");
    case v1::ADVANCING:
      return "on to the next";
    case v1::RECONSTRUCTING:
    case v1::DISTILLING:
      return absl::StrCat(
          progress.phase() == v1::RECONSTRUCTING ? "reconstruction  " : "",
          progress.step() > 0 ? absl::StrCat("step ", progress.step(), "/", progress.steps()) : "");
    default:
      return "";
  }
}

std::string LossText(const v1::RunProgress& progress) {
  const bool steps = progress.phase() == v1::PRUNING || progress.phase() == v1::RECONSTRUCTING ||
                     progress.phase() == v1::DISTILLING;
  const bool has = steps && progress.step() > 0 && progress.loss() < kLargestLoss;
  return has ? absl::StrFormat("loss %.5g", progress.loss()) : "";
}

std::string TimeLeftText(const v1::RunProgress& progress) {
  if (progress.remaining_seconds() <= 0) return "";
  return absl::StrCat(SecondsText(progress.remaining_seconds()), " left");
}

std::string SpacedText(const std::vector<std::string>& parts) {
  std::string text;
  for (const std::string& part : parts) {
    if (!part.empty()) absl::StrAppend(&text, "  ", part);
  }
  return text;
}

// What goes first where the line is too long for the terminal: the loss, the work, the place.
enum class Detail { kAll, kNoLoss, kNoWork, kTimeOnly };
constexpr Detail kDetails[] = {Detail::kAll, Detail::kNoLoss, Detail::kNoWork, Detail::kTimeOnly};

std::string ProgressText(const RunProgressModel& model, Detail detail) {
  const absl::optional<v1::RunProgress>& latest = model.latest();
  const std::string share = absl::StrFormat("%3.0f %%", 100 * model.share());
  if (!latest.has_value()) return absl::StrCat(share, "  ", StateText(model.state()));
  return absl::StrCat(share, SpacedText({detail < Detail::kTimeOnly ? PlaceText(*latest) : "",
                                         detail < Detail::kNoWork ? WorkText(*latest) : "",
                                         detail < Detail::kNoLoss ? LossText(*latest) : "",
                                         TimeLeftText(*latest)}));
}

std::string RunBar(double share, int width) {
  const int filled = static_cast<int>(share * width);
  return absl::StrCat("[", std::string(static_cast<size_t>(filled), '#'),
                      std::string(static_cast<size_t>(width - filled), '.'), "]");
}

std::string ChangeLine(const v1::StateChange& change) {
  std::string text = StateText(change.state());
  if (change.attempt() > 1) absl::StrAppend(&text, ", attempt ", change.attempt());
  if (!change.reason().empty()) absl::StrAppend(&text, ": ", change.reason());
  return text;
}

std::string TensorLine(int block, const v1::PrunedTensor& tensor) {
  std::string line = absl::StrFormat("block %d  %-5s  %s  %.2f %%  error %.5f", block,
                                     absl::StrJoin(tensor.maps(), ","), tensor.method(),
                                     100 * tensor.sparsity(), tensor.calibration_error());
  if (tensor.has_held_out_error()) {
    absl::StrAppendFormat(&line, "  held out %.5f", tensor.held_out_error());
  }
  if (tensor.has_attention_calibration_error()) {
    absl::StrAppendFormat(&line, "  attention %.5f", AttentionErrorOf(tensor));
  }
  return absl::StrCat(line, "  ", SecondsText(tensor.seconds()));
}

}  // namespace

RunProgressModel::RunProgressModel(const v1::Run& run)
    : state_(run.state()), results_done_(run.results_done()), results_total_(run.results_total()) {}

void RunProgressModel::Apply(const v1::JobEvent& event) {
  if (event.has_run_progress()) {
    state_ = v1::RUNNING;
    latest_ = event.run_progress();
  } else if (event.has_state_change()) {
    state_ = event.state_change().state();
    latest_.reset();
  } else if (event.has_run_terminal()) {
    state_ = event.run_terminal().state();
    results_done_ = event.run_terminal().results_done();
    results_total_ = event.run_terminal().results_total();
    latest_.reset();
  }
}

double RunProgressModel::share() const {
  if (state_ == v1::SUCCEEDED) return 1;
  if (latest_.has_value()) return std::clamp(latest_->share(), 0.0, 1.0);
  return ShareOf(results_done_, results_total_);
}

std::string RunBarLine(const RunProgressModel& model, int columns) {
  constexpr int kAroundBar = 3;  // its brackets and a space
  std::string text;
  int room = 0;
  for (const Detail detail : kDetails) {
    text = ProgressText(model, detail);
    room = columns - static_cast<int>(text.size()) - kAroundBar;
    if (room >= kNarrowestRunBar) break;
  }
  const int width = std::clamp(room, kNarrowestRunBar, kWidestRunBar);
  std::string line = absl::StrCat(RunBar(model.share(), width), " ", text);
  line.resize(std::min(line.size(), static_cast<size_t>(std::max(columns, 1))));
  return line;
}

std::vector<std::string> RunResultLines(const v1::RunResult& result) {
  std::vector<std::string> lines;
  if (result.block_sparsities_size() > 0) {
    lines.push_back(absl::StrCat("sparsities by block  ", BlockSparsitiesText(result)));
  }
  if (result.has_measured_curvature()) {
    const v1::MeasuredCurvature& measured = result.measured_curvature();
    lines.push_back(absl::StrCat("curvature  of ", measured.rows(), " rows, ", measured.tokens(),
                                 " tokens, draws ", measured.draws()));
  }
  if (result.has_sampled_rows()) {
    lines.push_back(absl::StrCat("sampled  ", result.sampled_rows().shape(0),
                                 " tokens, which the dense model wrote"));
  }
  for (const v1::PrunedTensor& tensor : result.tensors()) {
    lines.push_back(TensorLine(result.block(), tensor));
  }
  if (result.has_block_score() && result.block_score().has_output_error()) {
    lines.push_back(absl::StrFormat("block %d  output error %.5f", result.block(),
                                    result.block_score().output_error()));
  }
  if (const std::string line = TrainedText(result); !line.empty()) lines.push_back(line);
  if (result.has_model_score()) lines.push_back(ScoreText(result.model_score()));
  return lines;
}

std::vector<std::string> PlainRunView::LinesOf(const v1::JobEvent& event,
                                               const RunProgressModel& model) {
  if (event.has_state_change()) return {ChangeLine(event.state_change())};
  if (!event.warning().empty()) return {absl::StrCat("warning: ", event.warning())};
  if (event.has_run_result()) return RunResultLines(event.run_result());
  if (!event.has_run_progress()) return {};
  if (!progress_.IsDue("", model.share())) return {};
  return {ProgressText(model, Detail::kAll)};
}

}  // namespace attnprune::cli
