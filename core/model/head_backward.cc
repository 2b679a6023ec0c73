#include "core/model/head_backward.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/functional/function_ref.h"
#include "core/base/status_macros.h"
#include "core/kernels/lanes.h"
#include "core/kernels/log_sum_exp.h"
#include "core/model/layer_parts.h"
#include "core/model/vocabulary_head.h"
#include "core/tensor/copy_rows.h"

namespace attnprune {
namespace {

constexpr Index kGroupRows = 4096;  // for which the vocabulary is passed

// One row of the last layer's output.
struct LabelledRow {
  bool predicts = false;
  Index label = -1;    // -1: not drawn yet
  double uniform = 0;  // by which it is drawn
  double reached = 0;  // sum of p over the tokens passed
  LogSumExp all;

  // The first token at which the sum of p exceeds `uniform`, if among these. Sums of p end within
  // 1e-5 of 1, which draws stay below; what is left after the last piece takes the last token.
  void Draw(const float* p, Index count, Index first, bool last_piece) {
    constexpr double kReached = 1 - 1e-5;
    const double bound = uniform * kReached;
    for (Index j = 0; j < count && label < 0; ++j) {
      reached += static_cast<double>(p[j]);
      if (reached > bound) label = first + j;
    }
    if (last_piece && label < 0) label = first + count - 1;
  }
};

// values <- e^(value - log_sum).
void ToProbabilities(double log_sum, float* values, Index count) {
  const auto shift = static_cast<float>(log_sum);
  const auto rest = static_cast<float>(std::exp(static_cast<double>(shift) - log_sum));
  const auto probability = [=](Lanes v) {
    const Lanes below = v - shift;
    return ExpNonPositive(below > 0.0f ? Lanes{} : below) * rest;
  };
  const Index whole = FloorToLanes(count);
  for (Index j = 0; j < whole; j += kLanes) {
    StoreLanes(values + j, probability(LoadLanes(values + j)));
  }
  Lanes tail{};
  for (Index j = whole; j < count; ++j) tail[j - whole] = values[j];
  tail = probability(tail);
  for (Index j = whole; j < count; ++j) values[j] = tail[j - whole];
}

// From x to what the head reads and back.
struct FinalMap {
  OptionalNorm norm;
  Matrix projection;  // empty: none

  static absl::StatusOr<FinalMap> Load(const ModelWeights& weights) {
    const ModelOptions& options = weights.options();
    FinalMap final;
    ATTNPRUNE_ASSIGN_OR_RETURN(final.norm, weights.Norm(options.names.final_norm));
    ATTNPRUNE_ASSIGN_OR_RETURN(
        const absl::optional<StoredMap> project,
        weights.Plain(options.names.project_out, options.embedding_width, options.hidden_size));
    if (!project.has_value()) return final;
    final.projection = Matrix(project->out, project->in);
    ATTNPRUNE_RETURN_IF_ERROR(ReadRows(*project, 0, final.projection));
    return final;
  }

  // d: at the head's input. gradient: at x.
  void Backward(ThreadPool& pool, MatrixView x, MatrixView d, MutableMatrixView gradient) const {
    if (projection.empty()) {
      CopyRows(d, gradient);
    } else {
      ApplyMapBackward(pool, projection, d, Into::kReplace, gradient);
    }
    ApplyNormBackward(pool, norm, x, gradient);
  }
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

  absl::Status Run(MatrixView x, std::vector<LabelledRow>& rows, MutableMatrixView gradient) {
    for (Index first = 0; first < x.rows(); first += kGroupRows) {
      const Index count = std::min(kGroupRows, x.rows() - first);
      before_ = static_cast<double>(first) / static_cast<double>(x.rows());
      share_ = static_cast<double>(count) / static_cast<double>(x.rows());
      ATTNPRUNE_RETURN_IF_ERROR(RunGroup(x.Rows(first, count),
                                         absl::MakeSpan(rows).subspan(static_cast<size_t>(first)),
                                         gradient.Rows(first, count)));
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
        row.Draw(d.row(i), d.cols(), head_.first(), last_piece);
        const Index place = row.label - head_.first();
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

uint64_t Scramble(uint64_t z) {  // SplitMix64: Steele, Lea and Flood, 2014
  z += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

}  // namespace

double UniformOfDraw(uint64_t seed, Index sequence, Index position) {
  const uint64_t of_sequence = Scramble(Scramble(seed) ^ static_cast<uint64_t>(sequence));
  const uint64_t bits = Scramble(of_sequence ^ static_cast<uint64_t>(position));
  return static_cast<double>(bits >> 11) * 0x1p-53;
}

absl::Status TokenLossGradient(Forward& forward, const Tokens& tokens, MatrixView x,
                               MutableMatrixView gradient, const HeadProgress& goes_on) {
  ATTNPRUNE_ASSIGN_OR_RETURN(HeadBackwardRun run, HeadBackwardRun::Open(forward, goes_on));
  std::vector<LabelledRow> rows(static_cast<size_t>(x.rows()));
  size_t row = 0;
  for (const Index length : tokens.lengths) {
    for (Index t = 0; t + 1 < length; ++t, ++row) {
      rows[row].predicts = true;
      rows[row].label = static_cast<Index>(tokens.ids[row + 1]);
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
      rows[row].uniform =
          UniformOfDraw(draws.seed, draws.first_sequence + static_cast<Index>(i), t);
    }
    ++row;
  }
  ATTNPRUNE_RETURN_IF_ERROR(run.Run(x, rows, gradient));
  std::vector<Index> labels;
  labels.reserve(rows.size());
  for (const LabelledRow& of : rows) labels.push_back(of.label);
  return labels;
}

}  // namespace attnprune
