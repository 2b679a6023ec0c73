#include "core/model/capture.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/clock.h"
#include "core/base/status_macros.h"
#include "core/io/messages.h"
#include "core/kernels/finite.h"
#include "core/model/capture_files.h"

namespace attnprune {
namespace {

constexpr Index kWriteRows = 1024;  // normed and written at a time

absl::Status WriteInput(const Forward& forward, Index layer, MatrixView x, CaptureFiles& files) {
  Matrix normed(std::min(kWriteRows, x.rows()), x.cols());
  for (Index first = 0; first < x.rows(); first += kWriteRows) {
    const Index rows = std::min(kWriteRows, x.rows() - first);
    const MutableMatrixView out = MutableMatrixView(normed).Rows(0, rows);
    ATTNPRUNE_RETURN_IF_ERROR(forward.AttentionInput(layer, x.Rows(first, rows), out));
    if (!AllFinite({out.data(), static_cast<size_t>(out.size())})) {
      return Refuse("layer ", layer, ": the input of its attention is not finite between tokens ",
                    first, " and ", first + rows - 1,
                    ": a weight before it is NaN or infinite, or too large");
    }
    ATTNPRUNE_RETURN_IF_ERROR(files.Write(layer, first, out));
  }
  return absl::OkStatus();
}

absl::Status CheckLayer(const ModelOptions& model, Index layer) {
  if (layer >= 0 && layer < model.layer_count()) return absl::OkStatus();
  return Refuse("layer must be in [0, ", model.layer_count(), "), the layers of the model, got ",
                layer);
}

}  // namespace

std::string AttentionInputName(Index layer) {
  return absl::StrCat("model.layers.", layer, ".self_attn.input");
}

absl::StatusOr<CaptureResult> Capture(Forward& forward, const TokenRows& rows,
                                      const CaptureOptions& options) {
  const ModelOptions& model = forward.options();
  for (const Index layer : options.layers) ATTNPRUNE_RETURN_IF_ERROR(CheckLayer(model, layer));
  ATTNPRUNE_RETURN_IF_ERROR(forward.Check(rows.tokens));
  ATTNPRUNE_ASSIGN_OR_RETURN(CaptureFiles files,
                             CaptureFiles::Open(rows, model.hidden_size, options));
  ATTNPRUNE_ASSIGN_OR_RETURN(ScratchMatrix hidden,
                             MakeHiddenStates(model, rows.tokens.total(), options.pass));
  const MutableMatrixView x = hidden.view();
  CaptureResult result;
  result.resumed_at = files.next_layer();
  ATTNPRUNE_RETURN_IF_ERROR(result.resumed_at > 0 ? files.LoadHidden(x)
                                                  : forward.Embed(rows.tokens, x));
  const Index last = options.layers.back();
  absl::Time saved = SteadyNow();
  for (Index layer = result.resumed_at; layer <= last; ++layer) {
    if (std::binary_search(options.layers.begin(), options.layers.end(), layer)) {
      ATTNPRUNE_RETURN_IF_ERROR(WriteInput(forward, layer, x, files));
    }
    if (layer == last) break;
    const LayerHooks hooks = PassHooks(options.pass, layer, last, rows.tokens.total());
    ATTNPRUNE_RETURN_IF_ERROR(forward.RunLayer(layer, rows.tokens.lengths, x, hooks));
    if (SteadyNow() - saved < options.save_every) continue;
    ATTNPRUNE_RETURN_IF_ERROR(files.Save(layer + 1, x));
    saved = SteadyNow();
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(result.files, files.Finish());
  return result;
}

}  // namespace attnprune
