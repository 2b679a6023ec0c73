#include "client/cli/views/pass_view.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "client/cli/views/format.h"
#include "core/kernels/gemm_rate.h"
#include "core/model/bf16_products.h"
#include "core/model/pass_estimate.h"

namespace attnprune::cli {
namespace {

constexpr absl::Duration kOnTerminal = absl::Milliseconds(200);
constexpr absl::Duration kInLog = absl::Seconds(10);
constexpr double kEnoughToGuess = 0.02;  // share of the work

}  // namespace

void TellPassEstimate(const Shell& shell, const std::string& what, const Forward& forward,
                      ThreadPool& pool, absl::Span<const Index> lengths, Index layers,
                      int64_t memory_budget) {
  const Compute compute = forward.compute();
  const PassEstimate estimate =
      EstimatePass(forward.options(), compute, lengths, layers, memory_budget);
  const double rate = MeasureGemmRate(pool);
  const double map_rate = compute == Compute::kBf16 ? MeasureBf16GemmRate(pool) : rate;
  const Index tokens = std::accumulate(lengths.begin(), lengths.end(), Index{0});
  *shell.err << what << ": " << tokens << " tokens through " << layers
             << (layers == 1 ? " layer" : " layers") << ", about "
             << SecondsText(estimate.Seconds(map_rate, rate)) << ", "
             << BytesText(static_cast<int64_t>(estimate.bytes)) << std::endl;
}

PassView::PassView(const Shell& shell, std::string what)
    : shell_(shell), what_(std::move(what)), began_(absl::Now()), shown_(began_) {}

PassView::~PassView() {
  if (open_line_) *shell_.err << "\r\x1b[K" << std::flush;
}

PassOptions PassView::Options() {
  PassOptions options;
  options.progress = [this](const PassProgress& progress) { Show(progress); };
  options.stopped = [this] { return shell_.interrupt.stop_requested(); };
  return options;
}

void PassView::Show(const PassProgress& progress) {
  const bool terminal = shell_.err_columns.has_value();
  const absl::Time now = absl::Now();
  if (now - shown_ < (terminal ? kOnTerminal : kInLog)) return;
  shown_ = now;
  std::string line = absl::StrFormat("%s  ", what_);
  if (progress.layer < progress.layers) {
    absl::StrAppendFormat(&line, "layer %d", progress.layer);
  } else {
    absl::StrAppendFormat(&line, "head");
  }
  absl::StrAppendFormat(&line, "  %.0f %%", 100 * progress.share);
  if (progress.share > kEnoughToGuess) {
    const double spent = absl::ToDoubleSeconds(now - began_);
    absl::StrAppendFormat(&line, "  %s left",
                          SecondsText(spent * (1 - progress.share) / progress.share));
  }
  if (!terminal) {
    *shell_.err << line << std::endl;
    return;
  }
  line.resize(std::min<size_t>(line.size(), static_cast<size_t>(*shell_.err_columns)));
  *shell_.err << "\r\x1b[K" << line << std::flush;
  open_line_ = true;
}

}  // namespace attnprune::cli
