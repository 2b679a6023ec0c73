#include "core/model/head_divergence.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "core/base/status_macros.h"
#include "core/kernels/log_sum_exp.h"
#include "core/model/final_map.h"
#include "core/model/layer_parts.h"
#include "core/model/vocabulary_head.h"
#include "core/tensor/copy_rows.h"

namespace attnprune {
namespace {

class DivergenceRun {
 public:
  static absl::StatusOr<DivergenceRun> Open(Forward& forward, const HeadProgress& goes_on) {
    ATTNPRUNE_RETURN_IF_ERROR(forward.CheckPredicts());
    ATTNPRUNE_ASSIGN_OR_RETURN(
        VocabularyHead head,
        VocabularyHead::Open(forward.weights(), forward.pool(), Compute::kFloat32));
    ATTNPRUNE_ASSIGN_OR_RETURN(FinalMap final, FinalMap::Load(forward.weights()));
    return DivergenceRun(forward, std::move(head), std::move(final), goes_on);
  }

  absl::StatusOr<double> Run(MatrixView dense, MatrixView x,
                             const absl::optional<MutableMatrixView>& gradient) {
    double sum = 0;
    for (Index first = 0; first < x.rows(); first += VocabularyHead::kGroup) {
      const Index count = std::min(VocabularyHead::kGroup, x.rows() - first);
      before_ = static_cast<double>(first) / static_cast<double>(x.rows());
      share_ = static_cast<double>(count) / static_cast<double>(x.rows());
      absl::optional<MutableMatrixView> of_group;
      if (gradient.has_value()) of_group = gradient->Rows(first, count);
      ATTNPRUNE_ASSIGN_OR_RETURN(
          const double of_rows, RunGroup(dense.Rows(first, count), x.Rows(first, count), of_group));
      sum += of_rows;
    }
    return sum;
  }

 private:
  // What a row's logits come to: of the dense model's, of the other's.
  struct Row {
    LogSumExp dense, other;
    double divergence = 0;
  };

  DivergenceRun(Forward& forward, VocabularyHead head, FinalMap final, const HeadProgress& goes_on)
      : forward_(forward), head_(std::move(head)), final_(std::move(final)), goes_on_(goes_on) {}

  absl::StatusOr<double> RunGroup(MatrixView dense, MatrixView x,
                                  const absl::optional<MutableMatrixView>& gradient) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const Matrix dense_input, forward_.Final(dense));
    ATTNPRUNE_ASSIGN_OR_RETURN(const Matrix input, forward_.Final(x));
    rows_.assign(static_cast<size_t>(x.rows()), Row());
    for (Index first = 0; first < head_.vocabulary(); first += head_.count()) {
      ATTNPRUNE_RETURN_IF_ERROR(head_.Load(first));
      AddLogits(dense_input, &Row::dense);
      AddLogits(input, &Row::other);
      if (!Tell(0)) return absl::CancelledError("interrupted");
    }
    Matrix d_input;
    if (gradient.has_value()) d_input = Matrix(input.rows(), input.cols());
    for (Index first = 0; first < head_.vocabulary(); first += head_.count()) {
      ATTNPRUNE_RETURN_IF_ERROR(head_.Load(first));
      for (Index row = 0; row < input.rows(); row += VocabularyHead::kRows) {
        Compare(dense_input, input, row, d_input);
      }
      if (!Tell(1)) return absl::CancelledError("interrupted");
    }
    if (gradient.has_value()) final_.Backward(forward_.pool(), x, d_input, *gradient);
    double sum = 0;
    for (const Row& row : rows_) sum += row.divergence;
    return sum;
  }

  // That the piece that is held is done, in pass 0 or 1 over the vocabulary.
  bool Tell(int pass) const {
    const double of_pass = static_cast<double>(head_.first() + head_.count()) /
                           static_cast<double>(head_.vocabulary());
    return !goes_on_ || goes_on_(before_ + share_ * 0.5 * (static_cast<double>(pass) + of_pass));
  }

  void AddLogits(MatrixView input, LogSumExp Row::*sum) {
    head_.ForLogits(input, [&](Index row, MutableMatrixView logits) {
      ForRows(forward_.pool(), logits.rows(), [&](Index first, Index count) {
        for (Index i = first; i < first + count; ++i) {
          (rows_[static_cast<size_t>(row + i)].*sum).Add(logits.row(i), logits.cols());
        }
      });
    });
  }

  // Of some rows from `row` on, and of the piece that is held: adds up the divergence, and the
  // gradient unless d_input is empty.
  void Compare(MatrixView dense_input, MatrixView input, Index row, Matrix& d_input) {
    const Index count = std::min(VocabularyHead::kRows, input.rows() - row);
    const MutableMatrixView dense = Room(dense_logits_, count, head_.count());
    head_.ForLogits(dense_input.Rows(row, count),
                    [&](Index, MutableMatrixView logits) { CopyRows(logits, dense); });
    head_.ForLogits(input.Rows(row, count), [&](Index, MutableMatrixView logits) {
      CompareLogits(absl::MakeSpan(rows_).subspan(static_cast<size_t>(row)), dense, logits);
      if (d_input.empty()) return;
      ApplyMapBackward(forward_.pool(), head_.weight(), dense, Into::kAdd,
                       MutableMatrixView(d_input).Rows(row, count));
    });
  }

  // dense: logits on entry, on return the gradient at the head's output before scale and softcap.
  void CompareLogits(absl::Span<Row> rows, MutableMatrixView dense, MutableMatrixView logits) {
    ForRows(forward_.pool(), logits.rows(), [&](Index first, Index count) {
      std::vector<float> p(static_cast<size_t>(logits.cols())), q(p.size());
      for (Index i = first; i < first + count; ++i) {
        Row& row = rows[static_cast<size_t>(i)];
        const double log_p = row.dense.value(), log_q = row.other.value();
        std::copy_n(dense.row(i), p.size(), p.begin());
        std::copy_n(logits.row(i), q.size(), q.begin());
        ToProbabilities(log_p, p.data(), logits.cols());
        ToProbabilities(log_q, q.data(), logits.cols());
        double sum = 0;
        for (Index j = 0; j < logits.cols(); ++j) {
          const auto at = static_cast<size_t>(j);
          const double of_dense = dense(i, j), of_other = logits(i, j);
          sum += static_cast<double>(p[at]) * ((of_dense - log_p) - (of_other - log_q));
          dense(i, j) = q[at] - p[at];
        }
        row.divergence += sum;
      }
      const MutableMatrixView d = dense.Rows(first, count);
      head_.ThroughScaleAndSoftcap(logits.Rows(first, count), d);
    });
  }

  Forward& forward_;
  VocabularyHead head_;
  FinalMap final_;
  const HeadProgress& goes_on_;
  std::vector<Row> rows_;  // of a group
  Matrix dense_logits_;
  double before_ = 0, share_ = 1;  // of all rows: before the group, in it
};

}  // namespace

absl::StatusOr<double> LogitDivergence(Forward& forward, MatrixView dense, MatrixView x,
                                       const absl::optional<MutableMatrixView>& gradient,
                                       const HeadProgress& goes_on) {
  ATTNPRUNE_ASSIGN_OR_RETURN(DivergenceRun run, DivergenceRun::Open(forward, goes_on));
  return run.Run(dense, x, gradient);
}

}  // namespace attnprune
