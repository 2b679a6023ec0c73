#include "server/execution/run_curvature.h"

#include <algorithm>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/io/messages.h"
#include "core/sequential/loss_allocation.h"
#include "server/execution/own_blobs.h"
#include "server/execution/run_choice.h"
#include "server/execution/run_plan.h"

namespace attnprune {
namespace {

std::string TailOfCurvature(const ClaimedJob& job) {
  return absl::StrCat(job.record().id, ".curvature");
}

// Calls visit(moments) for every block of every map, in their order, and of the layer's output.
template <typename Curvature, typename Visit>
void ForMoments(Curvature& curvature, const Visit& visit) {
  for (auto& map : curvature.maps) {
    for (auto& block : map.blocks) visit(block.moments);
  }
  for (auto& block : curvature.output.blocks) visit(block.moments);
}

std::vector<float> ToFloats(const LayerCurvature& curvature) {
  std::vector<float> floats;
  ForMoments(curvature, [&floats](const GramMatrix& moments) {
    for (const double value : moments.flat()) floats.push_back(static_cast<float>(value));
  });
  return floats;
}

void FromFloats(const std::vector<float>& floats, LayerCurvature& curvature) {
  auto next = floats.begin();
  ForMoments(curvature, [&next](GramMatrix& moments) {
    for (Index i = 0; i < moments.size(); ++i) {
      for (Index j = 0; j < moments.size(); ++j) moments(i, j) = static_cast<double>(*next++);
    }
  });
}

size_t CountOf(const LayerCurvature& curvature) {
  size_t count = 0;
  ForMoments(curvature, [&count](const GramMatrix& moments) { count += moments.flat().size(); });
  return count;
}

// The sparsities that a by_loss allocation gives the tensors that are pruned.
class LossShares {
 public:
  explicit LossShares(const OpenRun& run) : run_(run) {}

  // Tensors that are pruned together count together.
  void Add(Index block, const LayerWeights& weights, const LayerCurvature& curvature,
           ThreadPool& pool) {
    for (const Stretch& stretch : run_.plan.blocks[static_cast<size_t>(block)]) {
      for (const Stretch::Piece& piece : stretch.Pieces()) {
        const RunChoice* const choice = BaseChoiceOf(run_.spec, piece.tensors[0].what);
        if (choice == nullptr || choice->own_sparsity) continue;
        pieces_.push_back(piece);
        ScoreHistogram& scores = scores_.emplace_back();
        for (const LinearMap map : piece.maps()) {
          scores.Add(weights.of(map).weight, curvature.squares[GroupOf(map)],
                     curvature.DiagonalOf(map), pool);
        }
      }
    }
  }

  void ShareOut(v1::RunResult& result) const {
    const std::vector<double> sparsities =
        SparsitiesByLoss(scores_, run_.spec.choice.sparsity.fraction, run_.spec.by_loss()->range);
    for (size_t i = 0; i < pieces_.size(); ++i) {
      for (const Stretch::Tensor& tensor : pieces_[i].tensors) {
        (*result.mutable_tensor_sparsities())[tensor.what.stored->name] = sparsities[i];
      }
    }
  }

 private:
  const OpenRun& run_;
  std::vector<Stretch::Piece> pieces_;
  std::vector<ScoreHistogram> scores_;  // by piece
};

}  // namespace

absl::Status TakeCurvature(ClaimedJob& job, OpenRun& run, RunResults& results) {
  if (!results.curvature().empty() || results.FindBlock(0) != nullptr) return absl::OkStatus();
  const CurvatureChoice& choice = *run.spec.curvature;
  RunPace pace;
  RunProgress progress(job, run.plan, pace);
  progress.Skip(run.plan.sample_operations + run.plan.allocate_operations);
  progress.Begin(v1::MEASURING, 0, run.plan.measure_operations, {});
  std::vector<std::string> digests(run.plan.blocks.size());
  LossShares shares(run);
  const auto store = [&](Index layer, const LayerWeights& weights,
                         const LayerCurvature& curvature) -> absl::Status {
    if (run.spec.by_loss() != nullptr) shares.Add(layer, weights, curvature, run.pool);
    const std::vector<float> floats = ToFloats(curvature);
    ATTNPRUNE_ASSIGN_OR_RETURN(digests[static_cast<size_t>(layer)],
                               job.Put(BytesOf<float>(floats), TailOfCurvature(job)));
    return absl::OkStatus();
  };
  const Tokens rows = SomeRows(run.rows.calibration, choice.rows);
  const int draws = choice.Draws(rows.total());
  ATTNPRUNE_RETURN_IF_ERROR(MeasureCurvature(*run.forward, run.pool, rows,
                                             {.seed = run.spec.seed,
                                              .draws = draws,
                                              .widest = choice.widest,
                                              .output = run.spec.reconstruction.has_value()},
                                             PassOptionsOf(run.plan, job.options()),
                                             ListenerOf(job, progress), store));
  progress.End();
  v1::RunResult result;
  result.set_block(static_cast<int>(run.plan.blocks.size()));
  for (const std::string& digest : digests) result.add_curvature(digest);
  v1::MeasuredCurvature& measured = *result.mutable_measured_curvature();
  measured.set_rows(std::ssize(rows.lengths));
  measured.set_tokens(rows.total());
  measured.set_draws(draws);
  if (run.spec.by_loss() != nullptr) shares.ShareOut(result);
  return results.Store(result, {}, StatesOf(result));
}

absl::StatusOr<LayerCurvature> ReadCurvature(RunTools& tools, Index block,
                                             const LayerWeights& layer) {
  const auto blocks = static_cast<Index>(tools.run.plan.blocks.size());
  LayerCurvature curvature = NoCurvature(layer, tools.run.spec.curvature->widest,
                                         tools.run.spec.reconstruction.has_value());
  std::vector<float> floats(CountOf(curvature));
  const std::string digest = tools.results.CurvatureOf(block, blocks);
  const absl::Status status = ReadOwnBlob(tools.job, digest, TailOfCurvature(tools.job),
                                          MutableBytesOf(absl::MakeSpan(floats)));
  if (absl::IsCancelled(status)) return status;
  if (!status.ok()) {
    return absl::DataLossError(absl::StrCat("curvature of block ", block, ": ", status.message()));
  }
  FromFloats(floats, curvature);
  return curvature;
}

void KeepCurvature(const RunTools& tools, Index block, v1::RunResult& result) {
  const auto blocks = static_cast<Index>(tools.run.plan.blocks.size());
  if (!tools.run.spec.curvature.has_value()) return;
  for (Index later = block + 1; later < blocks; ++later) {
    result.add_curvature(tools.results.CurvatureOf(later, blocks));
  }
}

}  // namespace attnprune
