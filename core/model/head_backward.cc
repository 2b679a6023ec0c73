#include "core/model/head_backward.h"

#include <algorithm>
#include <utility>

#include "absl/functional/function_ref.h"
#include "core/base/status_macros.h"
#include "core/kernels/log_sum_exp.h"
#include "core/model/final_map.h"
#include "core/model/layer_parts.h"
#include "core/model/token_draw.h"
#include "core/model/vocabulary_head.h"

namespace attnprune {
namespace {

// One row of the last layer's output.
struct LabelledRow {
  bool predicts = false;
  TokenDraw label;
  LogSumExp all;
};

// The loop of both functions over groups of rows and pieces of the vocabulary.
class HeadBackwardRun {
 public:
  static absl::StatusOr<HeadBackwardRun> Open(Forward& forward, const HeadProgress& goes_on) {
    ATTNPRUNE_RETURN_IF_ERROR(forward.CheckPredicts());
    ATTNPRUNE_ASSIGN_OR_RETURN(
        VocabularyHead head,
        VocabularyHead::Open(forward.weights(), forward.pool(), Compute::kFloat32));
    ATTNPRUNE_ASSIGN_OR_RETURN(FinalMap final, FinalMap::Load(forward.weights()));
    return HeadBackwardRun(forward, std::move(head), std::move(final), goes_on);
  }

  absl::Status Run(MatrixView x, std::vector<LabelledRow>& rows, MutableMatrixView gradient,
                   Index done = 0, const std::function<void(Index rows)>& group_done = nullptr) {
    for (Index first = done; first < x.rows(); first += VocabularyHead::kGroup) {
      const Index count = std::min(VocabularyHead::kGroup, x.rows() - first);
      before_ = static_cast<double>(first) / static_cast<double>(x.rows());
      share_ = static_cast<double>(count) / static_cast<double>(x.rows());
      ATTNPRUNE_RETURN_IF_ERROR(RunGroup(x.Rows(first, count),
                                         absl::MakeSpan(rows).subspan(static_cast<size_t>(first)),
                                         gradient.Rows(first, count)));
      if (group_done) group_done(first + count);
    }
    return absl::OkStatus();
  }

 private:
  HeadBackwardRun(Forward& forward, VocabularyHead head, FinalMap final,
                  const HeadProgress& goes_on)
      : forward_(forward), head_(std::move(head)), final_(std::move(final)), goes_on_(goes_on) {}

  absl::Status RunGroup(MatrixView x, absl::Span<LabelledRow> rows, MutableMatrixView gradient) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const Matrix input, forward_.Final(x));
    Matrix d_input(input.rows(), input.cols());
    ATTNPRUNE_RETURN_IF_ERROR(ForPieces(input, 0, [&](Index row, MutableMatrixView logits) {
      ForRows(forward_.pool(), logits.rows(), [&](Index first, Index count) {
        for (Index i = first; i < first + count; ++i) {
          LabelledRow& of = rows[static_cast<size_t>(row + i)];
          if (of.predicts) of.all.Add(logits.row(i), logits.cols());
        }
      });
    }));
    ATTNPRUNE_RETURN_IF_ERROR(ForPieces(input, 1, [&](Index row, MutableMatrixView logits) {
      ToGradient(rows.subspan(static_cast<size_t>(row)), logits);
      ApplyMapBackward(forward_.pool(), head_.weight(), logits, Into::kAdd,
                       MutableMatrixView(d_input).Rows(row, logits.rows()));
    }));
    final_.Backward(forward_.pool(), x, d_input, gradient);
    return absl::OkStatus();
  }

  // Pass 0 or 1 over the vocabulary.
  absl::Status ForPieces(MatrixView input, int pass,
                         absl::FunctionRef<void(Index row, MutableMatrixView logits)> visit) {
    for (Index first = 0; first < head_.vocabulary(); first += head_.count()) {
      ATTNPRUNE_RETURN_IF_ERROR(head_.Load(first));
      head_.ForLogits(input, visit);
      const double of_pass =
          static_cast<double>(first + head_.count()) / static_cast<double>(head_.vocabulary());
      const double done = before_ + share_ * 0.5 * (static_cast<double>(pass) + of_pass);
      if (goes_on_ && !goes_on_(done)) return absl::CancelledError("interrupted");
    }
    return absl::OkStatus();
  }

  // The logits of a piece become the loss's gradient at input W' + b; labels are drawn on the way.
  void ToGradient(absl::Span<LabelledRow> rows, MutableMatrixView logits) {
    const bool last_piece = head_.first() + head_.count() == head_.vocabulary();
    const bool capped = forward_.options().logit_softcap > 0;
    ForRows(forward_.pool(), logits.rows(), [&](Index first, Index count) {
      Matrix kept;  // the logits, which the softcap's slope needs
      if (capped) kept = Matrix::CopyFrom(logits.Rows(first, count));
      const MutableMatrixView d = logits.Rows(first, count);
      for (Index i = 0; i < count; ++i) {
        LabelledRow& row = rows[static_cast<size_t>(first + i)];
        if (!row.predicts) {
          std::fill_n(d.row(i), d.cols(), 0.0f);
          continue;
        }
        ToProbabilities(row.all.value(), d.row(i), d.cols());
        row.label.Pass(d.row(i), d.cols(), head_.first(), last_piece);
        const Index place = row.label.token - head_.first();
        if (place >= 0 && place < d.cols()) d(i, place) -= 1.0f;  // the label may be elsewhere
      }
      head_.ThroughScaleAndSoftcap(capped ? MatrixView(kept) : MatrixView(d), d);
    });
  }

  Forward& forward_;
  VocabularyHead head_;
  FinalMap final_;
  const HeadProgress& goes_on_;
  double before_ = 0, share_ = 1;  // of all rows: before the group, in it
};

}  // namespace

absl::Status TokenLossGradient(Forward& forward, const Tokens& tokens, MatrixView x,
                               MutableMatrixView gradient, const HeadProgress& goes_on) {
  ATTNPRUNE_ASSIGN_OR_RETURN(HeadBackwardRun run, HeadBackwardRun::Open(forward, goes_on));
  std::vector<LabelledRow> rows(static_cast<size_t>(x.rows()));
  size_t row = 0;
  for (const Index length : tokens.lengths) {
    for (Index t = 0; t + 1 < length; ++t, ++row) {
      rows[row].predicts = true;
      rows[row].label.token = static_cast<Index>(tokens.ids[row + 1]);
    }
    ++row;
  }
  return run.Run(x, rows, gradient);
}

absl::StatusOr<std::vector<Index>> SampledLabelGradient(Forward& forward,
                                                        absl::Span<const Index> lengths,
                                                        const LabelDraws& draws, MatrixView x,
                                                        MutableMatrixView gradient,
                                                        const HeadProgress& goes_on) {
  ATTNPRUNE_ASSIGN_OR_RETURN(HeadBackwardRun run, HeadBackwardRun::Open(forward, goes_on));
  std::vector<LabelledRow> rows(static_cast<size_t>(x.rows()));
  size_t row = 0;
  for (size_t i = 0; i < lengths.size(); ++i) {
    for (Index t = 0; t + 1 < lengths[i]; ++t, ++row) {
      rows[row].predicts = true;
      rows[row].label.uniform =
          UniformOfDraw(draws.seed, draws.first_sequence + static_cast<Index>(i), t);
    }
    ++row;
  }
  ATTNPRUNE_RETURN_IF_ERROR(run.Run(x, rows, gradient, draws.done, draws.group_done));
  std::vector<Index> labels;
  labels.reserve(rows.size());
  for (const LabelledRow& of : rows) labels.push_back(of.label.token);
  return labels;
}

}  // namespace attnprune
