#include "core/sequential/block_reconstruction.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <utility>

#include "core/base/status_macros.h"
#include "core/model/layer_parts.h"
#include "core/model/pass_estimate.h"
#include "core/objective/sharded_gemm.h"
#include "core/tensor/copy_rows.h"

namespace attnprune {
namespace {

constexpr double kCurvatureShare = 0.9;   // of L L', the rest I
constexpr double kAttentionWeight = 0.1;  // of its term

double MeanDiagonal(const OutputCurvature& curvature) {
  double sum = 0, outputs = 0;
  for (const OutputCurvature::Block& block : curvature.blocks) {
    for (Index i = 0; i < block.moments.size(); ++i) sum += block.moments(i, i);
    outputs += static_cast<double>(block.moments.size());
  }
  return sum / outputs;
}

// L L', by block; of I where R is 0.
std::vector<Matrix> MetricOf(const OutputCurvature& curvature) {
  const double mean = MeanDiagonal(curvature);
  const double share = mean > 0 ? kCurvatureShare : 0;
  std::vector<Matrix> metric;
  metric.reserve(curvature.blocks.size());
  for (const OutputCurvature::Block& block : curvature.blocks) {
    const Index n = block.moments.size();
    Matrix& m = metric.emplace_back(n, n);
    for (Index i = 0; i < n; ++i) {
      for (Index j = 0; j < n; ++j) {
        const double scaled = share > 0 ? share * block.moments(i, j) / mean : 0;
        m(i, j) = static_cast<float>(scaled + (i == j ? 1 - share : 0));
      }
    }
  }
  return metric;
}

// to = (1 - share) to + share from.
void Mix(ThreadPool& pool, MatrixView from, double share, MutableMatrixView to) {
  const auto own = static_cast<float>(1 - share), other = static_cast<float>(share);
  ForRows(pool, to.rows(), [&](Index first, Index rows) {
    for (Index i = first; i < first + rows; ++i) {
      for (Index j = 0; j < to.cols(); ++j) to(i, j) = own * to(i, j) + other * from(i, j);
    }
  });
}

void Subtract(ThreadPool& pool, MatrixView a, MatrixView b, MutableMatrixView out) {
  ForRows(pool, out.rows(), [&](Index first, Index rows) {
    for (Index i = first; i < first + rows; ++i) {
      for (Index j = 0; j < out.cols(); ++j) out(i, j) = a(i, j) - b(i, j);
    }
  });
}

double Dot(MatrixView a, MatrixView b) {
  double sum = 0;
  for (Index i = 0; i < a.rows(); ++i) {
    for (Index j = 0; j < a.cols(); ++j) {
      sum += static_cast<double>(a(i, j)) * static_cast<double>(b(i, j));
    }
  }
  return sum;
}

absl::Status TrainingEnded() { return absl::CancelledError("interrupted"); }

}  // namespace

absl::StatusOr<std::unique_ptr<BlockReconstruction>> BlockReconstruction::Create(
    const Forward& forward, ThreadPool& pool, ReconstructionProblem problem, LayerWeights weights,
    std::vector<LinearMap> maps, const TrainingOptions& options) {
  if (!problem.metric.blocks.empty()) {
    ATTNPRUNE_RETURN_IF_ERROR(Validate(problem.metric, forward.options().hidden_size));
  }
  LayerWeights dense;
  ATTNPRUNE_RETURN_IF_ERROR(forward.weights().LoadLayer(problem.layer, pool, dense));
  TrainedLayer trained(std::move(weights), std::move(maps), dense);
  return std::unique_ptr<BlockReconstruction>(new BlockReconstruction(
      forward, pool, std::move(problem), std::move(dense), std::move(trained), options));
}

BlockReconstruction::BlockReconstruction(const Forward& forward, ThreadPool& pool,
                                         ReconstructionProblem problem, LayerWeights dense,
                                         TrainedLayer trained, const TrainingOptions& options)
    : Training(problem.inputs.lengths, problem.decides, options),
      forward_(forward),
      pool_(pool),
      problem_(std::move(problem)),
      metric_(MetricOf(problem_.metric)),
      dense_(std::move(dense)),
      trained_(std::move(trained)),
      layer_forward_(forward.options(), pool),
      layer_backward_(forward.options(), pool),
      gradients_(pool) {}

std::vector<absl::Span<float>> BlockReconstruction::Values(Index) { return trained_.Values(); }

// --- Progress ---

// With its share of the looks, which run backwards too. Passes of the dense layer's attention, up
// to its softmax, are not counted.
double BlockReconstruction::StepPasses() const {
  const Index rows = std::min(this->options().rows, training_rows());
  const double share = static_cast<double>(rows) / static_cast<double>(training_rows());
  return (1 + kBackwardPasses) *
         (share * training_tokens() + (kTrainingLooks + 2) * validation_tokens() / options().steps);
}

bool BlockReconstruction::Tell(double token_passes) {
  done_ += token_passes;
  const auto rows = static_cast<double>(problem_.inputs.hidden.rows());
  const double all = (problem_.dense_share > 0 ? 2 : 1) * rows + options().steps * StepPasses();
  return !*listener_ || (*listener_)(std::min(done_ / all, 1.0));
}

// --- What is wanted ---

// Chunk by chunk, so that the dense model's side takes little room.
absl::Status BlockReconstruction::TakeTargets(const PassOptions& places) {
  const TokenStates& inputs = problem_.inputs;
  ATTNPRUNE_ASSIGN_OR_RETURN(ScratchMatrix targets,
                             MakeHiddenStates(forward_.options(), inputs.hidden.rows(), places));
  targets_.emplace(std::move(targets));
  const bool whole = ForChunks(inputs.lengths, [&](Index first, absl::Span<const Index> lengths) {
    const Index rows = std::accumulate(lengths.begin(), lengths.end(), Index{0});
    const MutableMatrixView y = targets_->view().Rows(first, rows);
    CopyRows(inputs.hidden.Rows(first, rows), y);
    layer_forward_.Run(problem_.layer, dense_, lengths, y);
    if (problem_.dense_share > 0) {
      const MutableMatrixView beside = Room(x_, rows, y.cols());
      CopyRows(problem_.dense.hidden.Rows(first, rows), beside);
      layer_forward_.Run(problem_.layer, dense_, lengths, beside);
      Mix(pool_, beside, problem_.dense_share, y);
    }
    return Tell((problem_.dense_share > 0 ? 2 : 1) * static_cast<double>(rows));
  });
  return whole ? absl::OkStatus() : TrainingEnded();
}

// By the validation rows: constants, so that every step is on the same scale.
absl::Status BlockReconstruction::TakeScales() {
  Terms all;
  const auto of_rows = [&](const RowBatch& rows) -> absl::Status {
    ATTNPRUNE_ASSIGN_OR_RETURN(const Terms terms, Run(rows, /*train=*/false));
    all.output_size += terms.output_size;
    all.attention_size += terms.attention_size;
    return absl::OkStatus();
  };
  ATTNPRUNE_RETURN_IF_ERROR(ForValidationRows(of_rows));
  if (all.output_size > 0) output_scale_ = validation_tokens() / all.output_size;
  if (all.attention_size > 0) {
    attention_scale_ = kAttentionWeight * validation_tokens() / all.attention_size;
  }
  return absl::OkStatus();
}

AttentionPull BlockReconstruction::PullOf(const RowBatch& rows) {
  const ModelOptions& model = forward_.options();
  const Index tokens = rows.tokens();
  const MutableMatrixView x = Room(mixed_, tokens, model.hidden_size);
  CopyRowsOf(rows, problem_.inputs.hidden, x);
  if (problem_.dense_share > 0) {
    const MutableMatrixView beside = Room(y_, tokens, model.hidden_size);
    CopyRowsOf(rows, problem_.dense.hidden, beside);
    Mix(pool_, beside, problem_.dense_share, x);
  }
  const MutableMatrixView q = Room(q_, tokens, model.heads * model.head_dim);
  const MutableMatrixView k = Room(k_, tokens, model.kv_heads * model.head_dim);
  LayerHooks hooks;
  hooks.until = LayerHooks::Until::kOutputInput;
  hooks.queries_and_keys = [&](Index first, MatrixView queries, MatrixView keys) {
    CopyRows(queries, q.Rows(first, queries.rows()));
    CopyRows(keys, k.Rows(first, keys.rows()));
  };
  layer_forward_.Run(problem_.layer, dense_, rows.lengths, x, hooks);
  return {q, k, static_cast<float>(attention_scale_ / step_tokens_)};
}

// --- The loss ---

// to = from L L'.
void BlockReconstruction::ApplyMetric(MatrixView from, MutableMatrixView to) {
  if (metric_.empty()) CopyRows(from, to);
  for (size_t b = 0; b < metric_.size(); ++b) {
    const Index first = problem_.metric.blocks[b].first, outputs = metric_[b].rows();
    ShardedGemm(pool_, from.Cols(first, outputs), Trans::kNo, metric_[b], to.Cols(first, outputs));
  }
}

void BlockReconstruction::AddOutputTerm(const RowBatch& rows, MatrixView x, MatrixView out,
                                        bool with_size, MutableMatrixView gradient, Terms& terms) {
  const MutableMatrixView y = Room(y_, x.rows(), x.cols());
  const MutableMatrixView weighted = Room(weighted_, x.rows(), x.cols());
  CopyRowsOf(rows, targets_->view(), y);
  if (with_size) {
    Subtract(pool_, y, x, gradient);
    ApplyMetric(gradient, weighted);
    terms.output_size = Dot(gradient, weighted);
  }
  Subtract(pool_, out, y, gradient);
  ApplyMetric(gradient, weighted);
  terms.output = Dot(gradient, weighted);
  const auto factor = static_cast<float>(2 * output_scale_ / step_tokens_);
  ForRows(pool_, x.rows(), [&](Index first, Index count) {
    for (Index i = first; i < first + count; ++i) {
      for (Index j = 0; j < x.cols(); ++j) gradient(i, j) = factor * weighted(i, j);
    }
  });
}

absl::StatusOr<BlockReconstruction::Terms> BlockReconstruction::Run(const RowBatch& rows,
                                                                    bool train) {
  const Index tokens = rows.tokens(), hidden = forward_.options().hidden_size;
  step_tokens_ = static_cast<double>(tokens);
  const MutableMatrixView x = Room(x_, tokens, hidden), out = Room(out_, tokens, hidden);
  const MutableMatrixView gradient = Room(gradient_, tokens, hidden);
  CopyRowsOf(rows, problem_.inputs.hidden, x);
  CopyRows(x, out);
  layer_forward_.Run(problem_.layer, weights(), rows.lengths, out);
  Terms terms;
  AddOutputTerm(rows, x, out, /*with_size=*/!train, gradient, terms);
  const AttentionPull pull = PullOf(rows);
  AttentionDistance distance;
  BackwardHooks hooks;
  hooks.pull = &pull;
  hooks.distance = &distance;
  hooks.goes_on = [&](Index) { return Tell(0); };
  if (train) {
    hooks.map_gradient = [&](LinearMap map, Index, MatrixView input, MatrixView of_output) {
      gradients_.Add(map, input, of_output);
    };
  }
  if (!layer_backward_.Run(problem_.layer, weights(), rows.lengths, x, gradient, hooks) ||
      !Tell((1 + kBackwardPasses) * step_tokens_)) {
    return TrainingEnded();
  }
  terms.attention = distance.squared;
  terms.attention_size = distance.target;
  return terms;
}

double BlockReconstruction::LossOf(const Terms& terms, double tokens) const {
  return (output_scale_ * terms.output + attention_scale_ * terms.attention) / tokens;
}

absl::StatusOr<double> BlockReconstruction::Step(const RowBatch& rows) {
  gradients_.Begin(trained_.weights(), trained_.maps());
  ATTNPRUNE_ASSIGN_OR_RETURN(const Terms terms, Run(rows, /*train=*/true));
  const double loss = LossOf(terms, static_cast<double>(rows.tokens()));
  if (std::isfinite(loss)) trained_.Step(pool_, Rate(), point().steps + 1, gradients_);
  return loss;
}

absl::StatusOr<double> BlockReconstruction::ValidationLoss() {
  Terms all;
  const auto of_rows = [&](const RowBatch& rows) -> absl::Status {
    ATTNPRUNE_ASSIGN_OR_RETURN(const Terms terms, Run(rows, /*train=*/false));
    all.output += terms.output;
    all.attention += terms.attention;
    return absl::OkStatus();
  };
  ATTNPRUNE_RETURN_IF_ERROR(ForValidationRows(of_rows));
  return LossOf(all, validation_tokens());
}

absl::Status BlockReconstruction::Run(const PassOptions& places, const PassListener& listener,
                                      const TrainingObserver& observer) {
  listener_ = &listener;
  done_ = StepPasses() * point().steps;
  ATTNPRUNE_RETURN_IF_ERROR(TakeTargets(places));
  ATTNPRUNE_RETURN_IF_ERROR(TakeScales());
  return RunSteps(observer);
}

ReconstructionEstimate EstimateReconstruction(const ModelOptions& model, double entries,
                                              absl::Span<const Index> lengths, bool dense,
                                              const TrainingOptions& options) {
  constexpr double kFloat = sizeof(float);
  constexpr double kCopies = 4;  // weights, two moments, the best weights
  const auto hidden = static_cast<double>(model.hidden_size);
  const double tokens = std::accumulate(lengths.begin(), lengths.end(), 0.0);
  const PassEstimate pass = EstimatePass(model, Compute::kFloat32, lengths, 1, /*memory_budget=*/1);
  const double forward = pass.map_operations + pass.attention_operations;
  const auto rows = static_cast<double>(lengths.size());
  const double share = std::min(static_cast<double>(options.rows) / rows, 1.0);
  const double looks = (kTrainingLooks + 2) * kTrainingValidation;
  ReconstructionEstimate estimate;
  estimate.operations =
      forward * ((dense ? 2 : 1) + (options.steps * share + looks) * (1 + kBackwardPasses));
  estimate.values_bytes = kCopies * kFloat * entries;
  estimate.bytes = estimate.values_bytes + 2 * kFloat * entries +  // gradients, the dense layer
                   2 * pass.bytes + 8 * kFloat * tokens * share * hidden;
  estimate.state_bytes = kFloat * tokens * hidden;
  return estimate;
}

}  // namespace attnprune
