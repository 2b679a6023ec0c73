#include "core/methods/sparsegpt.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "core/kernels/blas.h"
#include "core/kernels/cholesky.h"
#include "core/kernels/finite.h"
#include "core/kernels/select.h"
#include "core/methods/linear_map.h"
#include "core/methods/methods.h"
#include "core/methods/output_metric.h"

namespace attnprune {
namespace {

constexpr Index kRowsPerSweep = 64;

// Of a block of `size` entries, unstructured. See the header for the + 1.
Index PrunedOfBlock(Index size, double fraction) {
  if (fraction == 0) return 0;
  return std::min(Sparsity::Fraction(fraction).PrunedOf(size) + 1, size);
}

absl::Status CheckBlocksize(Index inputs, const Sparsity& sparsity, Index blocksize) {
  if (!sparsity.structured() || blocksize >= inputs || blocksize % sparsity.group == 0) {
    return absl::OkStatus();
  }
  return FieldError(
      "sparsegpt.blocksize",
      absl::StrCat("must be a multiple of the ", sparsity.group, " inputs of a group (sparsity ",
                   ToString(sparsity), ") or at least the ", inputs, " inputs of the matrix, got ",
                   blocksize));
}

// A run of consecutive inputs.
struct Block {
  Index begin, width;
  Index end() const { return begin + width; }
};

// Prunes a matrix block by block, from the first input to the last.
class BlockPruner {
 public:
  // u and pool must outlive the pruner. scales: of each row's scores; empty: 1.
  BlockPruner(Matrix weights, const Matrix& u, std::vector<float> scales, const Sparsity& sparsity,
              ThreadPool& pool)
      : u_(u),
        scales_(std::move(scales)),
        sparsity_(sparsity),
        pool_(pool),
        weights_(std::move(weights)),
        mask_(weights_.rows(), weights_.cols(), /*kept=*/true) {}

  void Prune(Block block);
  SparseGptResult Finish() && { return {std::move(mask_), std::move(weights_)}; }

 private:
  // The square root of the published score: the same order, and no overflow.
  float Score(float weight, Index input) const { return std::abs(weight) / u_(input, input); }
  float ScaleOf(Index row) const {
    return scales_.empty() ? 1.0f : scales_[static_cast<size_t>(row)];
  }
  void ForRowShards(absl::FunctionRef<void(Index begin, Index rows)> shard);
  void SelectOverAllRows(Block block);
  void SelectInGroup(float* weights, Block group, SmallestFinder& finder, float* kept) const;
  void PruneRow(Index row, Block block, SmallestFinder& finder);
  void CompensateAfter(Block block, Index begin, Index rows);
  void RecordMask(Block block, Index begin, Index rows);

  const Matrix& u_;
  const std::vector<float> scales_;
  const Sparsity sparsity_;
  ThreadPool& pool_;
  Matrix weights_;
  BitMask mask_;

  // Of the current block, rows x width. kept_: 1, or 0 where pruned.
  Matrix kept_, errors_;
};

void BlockPruner::ForRowShards(absl::FunctionRef<void(Index begin, Index rows)> shard) {
  const Index rows = weights_.rows();
  pool_.ParallelFor((rows + kRowsPerSweep - 1) / kRowsPerSweep, [&](Index i) {
    const Index begin = i * kRowsPerSweep;
    shard(begin, std::min(kRowsPerSweep, rows - begin));
  });
}

void BlockPruner::Prune(Block block) {
  kept_ = Matrix::Constant(weights_.rows(), block.width, 1.0f);
  errors_ = Matrix(weights_.rows(), block.width);
  if (!sparsity_.structured()) SelectOverAllRows(block);
  ForRowShards([&](Index begin, Index rows) {
    SmallestFinder finder;
    for (Index row = begin; row < begin + rows; ++row) PruneRow(row, block, finder);
    CompensateAfter(block, begin, rows);
    RecordMask(block, begin, rows);
  });
}

void BlockPruner::SelectOverAllRows(Block block) {
  Matrix scores(weights_.rows(), block.width);
  ForRowShards([&](Index begin, Index rows) {
    for (Index row = begin; row < begin + rows; ++row) {
      const float* weights = weights_.row(row) + block.begin;
      const float scale = ScaleOf(row);
      for (Index j = 0; j < block.width; ++j) {
        scores(row, j) = scale * Score(weights[j], block.begin + j);
      }
    }
  });
  const Index count = PrunedOfBlock(scores.size(), sparsity_.fraction);
  PruneSmallestInto(scores, count, pool_, kept_);
}

// `weights` and `kept` point at the group's first input.
void BlockPruner::SelectInGroup(float* weights, Block group, SmallestFinder& finder,
                                float* kept) const {
  std::vector<float> scores(static_cast<size_t>(group.width));
  for (Index j = 0; j < group.width; ++j) {
    scores[static_cast<size_t>(j)] = Score(weights[j], group.begin + j);
  }
  finder.ForEach(scores, sparsity_.pruned, [&](Index j) { kept[j] = 0.0f; });
}

// One row through one block: each pruned weight's error goes to the inputs after it in the block.
void BlockPruner::PruneRow(Index row, Block block, SmallestFinder& finder) {
  float* weights = weights_.row(row) + block.begin;
  float* errors = errors_.row(row);
  float* kept = kept_.row(row);
  for (Index j = 0; j < block.width; ++j) {
    const Index input = block.begin + j;
    if (sparsity_.structured() && j % sparsity_.group == 0) {
      SelectInGroup(weights + j, {input, sparsity_.group}, finder, kept + j);
    }
    if (kept[j] != 0.0f) continue;
    const float* u = u_.row(input) + block.begin;
    errors[j] = weights[j] / u[j];
    weights[j] = 0.0f;
    for (Index later = j + 1; later < block.width; ++later) weights[later] -= errors[j] * u[later];
  }
}

// The block's errors go to all inputs after the block, in one product.
void BlockPruner::CompensateAfter(Block block, Index begin, Index rows) {
  const Index later = weights_.cols() - block.end();
  if (later == 0) return;
  Gemm(Trans::kNo, Trans::kNo, -1.0f, MatrixView(errors_).Rows(begin, rows),
       MatrixView(u_).Block(block.begin, block.end(), block.width, later), 1.0f,
       MutableMatrixView(weights_).Block(begin, block.end(), rows, later));
}

// Shards of a multiple of 8 rows share no byte of the mask.
void BlockPruner::RecordMask(Block block, Index begin, Index rows) {
  static_assert(kRowsPerSweep % 8 == 0);
  for (Index row = begin; row < begin + rows; ++row) {
    const absl::Span<const float> kept(kept_.row(row), static_cast<size_t>(block.width));
    mask_.PruneUpTo(kept, 0.0f, row * weights_.cols() + block.begin);
  }
}

Matrix WithoutDeadInputs(MatrixView w, const std::vector<bool>& dead) {
  Matrix result = Matrix::CopyFrom(w);
  for (Index i = 0; i < w.rows(); ++i) {
    for (Index j = 0; j < w.cols(); ++j) {
      if (dead[static_cast<size_t>(j)]) result(i, j) = 0.0f;
    }
  }
  return result;
}

std::vector<float> SquareRoots(absl::Span<const double> values) {
  std::vector<float> roots;
  roots.reserve(values.size());
  for (const double value : values) roots.push_back(static_cast<float>(std::sqrt(value)));
  return roots;
}

}  // namespace

absl::StatusOr<SparseGptInputs> PrepareSparseGpt(GramMatrix h, double percdamp, ThreadPool& pool) {
  SparseGptInputs inputs;
  for (Index j = 0; j < h.size(); ++j) {
    inputs.dead.push_back(h(j, j) == 0);
    if (h(j, j) == 0) h(j, j) = 1;
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(DampedFactor factor, DampedInverseFactor(h, percdamp, pool));
  inputs.u = std::move(factor.u);
  inputs.damping_retries = factor.retries;
  return inputs;
}

absl::StatusOr<SparseGptResult> SparseGpt(MatrixView w, const SparseGptInputs& inputs,
                                          const Sparsity& sparsity, Index blocksize,
                                          ThreadPool& pool,
                                          absl::Span<const double> output_weights) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckBlocksize(w.cols(), sparsity, blocksize));
  if (SparseGptPrunedCount(w.rows(), w.cols(), sparsity, blocksize) == 0) {
    return SparseGptResult{BitMask(w.rows(), w.cols(), /*kept=*/true), Matrix::CopyFrom(w)};
  }
  BlockPruner pruner(WithoutDeadInputs(w, inputs.dead), inputs.u, SquareRoots(output_weights),
                     sparsity, pool);
  for (Index begin = 0; begin < w.cols(); begin += blocksize) {
    pruner.Prune({begin, std::min(blocksize, w.cols() - begin)});
  }
  SparseGptResult result = std::move(pruner).Finish();
  if (!AllFinite(result.weights.flat())) {
    return absl::FailedPreconditionError(
        "weights must stay finite in float32 while SparseGPT moves them; they are too large");
  }
  return result;
}

Index SparseGptPrunedCount(Index outputs, Index inputs, const Sparsity& sparsity, Index blocksize) {
  if (sparsity.structured()) return outputs * sparsity.PrunedOf(inputs);
  Index count = 0;
  for (Index begin = 0; begin < inputs; begin += blocksize) {
    count += PrunedOfBlock(outputs * std::min(blocksize, inputs - begin), sparsity.fraction);
  }
  return count;
}

namespace {

class SparseGptMethod : public Method {
 public:
  explicit SparseGptMethod(const ParameterValues& values)
      : percdamp_(values.Get("percdamp")),
        blocksize_(values.GetInt("blocksize")),
        metric_share_(values.Get("metric_share")),
        by_factors_(values.GetSwitch("factors")) {}

  absl::string_view name() const override { return "sparsegpt"; }

  Index PrunedCount(const NamedWeight& weight, const Sparsity& sparsity) const override {
    return SparseGptPrunedCount(Outputs(weight), Inputs(weight), sparsity, blocksize_);
  }

 private:
  absl::StatusOr<PruneResult> DoPrune(PreparedProblem& prepared, RunOptions& options,
                                      ProgressObserver&) const override {
    ATTNPRUNE_RETURN_IF_ERROR(CheckNothingToResume(name(), options));
    const Problem& problem = prepared.problem();
    ATTNPRUNE_RETURN_IF_ERROR(
        CheckBlocksize(prepared.CalibrationGram()->size(), problem.sparsity, blocksize_));
    ATTNPRUNE_ASSIGN_OR_RETURN(
        const SparseGptInputs inputs,
        PrepareSparseGpt(*prepared.CalibrationGram(), percdamp_, prepared.pool()));
    return PruneMaps(LinearMaps(problem, by_factors_), inputs, problem.sparsity, prepared.pool());
  }

  absl::StatusOr<PruneResult> DoPruneLinear(const LinearProblem& problem, ThreadPool& pool,
                                            RunOptions& options, ProgressObserver&) const override {
    ATTNPRUNE_RETURN_IF_ERROR(CheckNothingToResume(name(), options));
    ATTNPRUNE_RETURN_IF_ERROR(
        CheckBlocksize(problem.inputs.moments().size(), problem.sparsity, blocksize_));
    ATTNPRUNE_ASSIGN_OR_RETURN(const SparseGptInputs* const inputs,
                               problem.inputs.SparseGpt(percdamp_, pool));
    std::vector<double> output_weights;
    if (problem.curvature != nullptr) {
      output_weights = MetricDiagonal(*problem.curvature, metric_share_);
    }
    return PruneMaps(problem.maps, *inputs, problem.sparsity, pool, output_weights);
  }

  absl::StatusOr<PruneResult> PruneMaps(const std::vector<NamedWeight>& maps,
                                        const SparseGptInputs& inputs, const Sparsity& sparsity,
                                        ThreadPool& pool,
                                        absl::Span<const double> output_weights = {}) const {
    PruneResult result;
    result.damping_retries = inputs.damping_retries;
    for (const NamedWeight& weight : maps) {
      const Matrix w = OutIn(weight);
      ATTNPRUNE_ASSIGN_OR_RETURN(const SparseGptResult pruned,
                                 SparseGpt(w, inputs, sparsity, blocksize_, pool, output_weights));
      result.matrices.push_back({.name = weight.name,
                                 .mask = AsStored(weight, pruned.mask),
                                 .weights = AsStored(weight, pruned.weights),
                                 .soft_mask = Matrix()});
    }
    return result;
  }

  const double percdamp_;
  const Index blocksize_;
  const double metric_share_;
  const bool by_factors_;
};

std::vector<Parameter> SparseGptParameters() {
  return {
      {.name = "percdamp",
       .kind = Parameter::Kind::kReal,
       .default_value = 0.01,
       .min = 0,
       .max = 10,
       .help = "Damping as a fraction of the mean of X'X's diagonal; raised tenfold where that "
               "leaves X'X not positive definite"},
      {.name = "blocksize",
       .kind = Parameter::Kind::kInteger,
       .default_value = 128,
       .min = 1,
       .max = 1e6,
       .help = "Inputs that share one selection; a multiple of M for N:M sparsity"},
      {.name = "metric_share",
       .kind = Parameter::Kind::kReal,
       .default_value = 0.9,
       .min = 0,
       .max = 1,
       .help = "Where the curvature of the outputs is known: its share of the weight with which "
               "an output's errors count, unstructured; the rest counts all alike"},
      {.name = "factors",
       .kind = Parameter::Kind::kSwitch,
       .default_value = 1,
       .min = 0,
       .max = 1,
       .help = "1: prune W_Q and W_K apart where a fused problem has them, as the paper does; "
               "0: prune the fused W itself as the map x -> x W. No effect on projections."}};
}

}  // namespace

const MethodInfo& SparseGptInfo() {
  static const MethodInfo info = {
      .name = "sparsegpt",
      .summary = "Removes weights block by block and moves the others to make up for it",
      .parameters = SparseGptParameters(),
      .uses_moments = true,
      .linear = true,
      .reads_curvature = true,
      .create = [](const ParameterValues& values) -> std::unique_ptr<Method> {
        return std::make_unique<SparseGptMethod>(values);
      },
      .bytes = LinearBytes,
      .operations = LinearOperations};
  return info;
}

}  // namespace attnprune
