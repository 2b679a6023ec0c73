#include "server/execution/run_curvature.h"

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "core/base/status_macros.h"
#include "core/io/messages.h"
#include "core/sequential/loss_allocation.h"
#include "server/execution/own_blobs.h"
#include "server/execution/run_checkpoint.h"
#include "server/execution/run_choice.h"
#include "server/execution/run_plan.h"

namespace attnprune {
namespace {

using Measuring = v1::RunCheckpoint::Measuring;

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

// The sparsities that a by_loss allocation gives the tensors that are pruned. Tensors that are
// pruned together count together.
class LossShares {
 public:
  explicit LossShares(const OpenRun& run) : run_(run) {}

  // Adds the scores of the block's pieces to `measured` too.
  void Add(Index block, const LayerWeights& weights, const LayerCurvature& curvature,
           ThreadPool& pool, Measuring& measured) {
    for (const Stretch::Piece& piece : PiecesOf(block)) {
      ScoreHistogram scores;
      for (const LinearMap map : piece.maps()) {
        scores.Add(weights.of(map).weight, curvature.squares[GroupOf(map)],
                   curvature.DiagonalOf(map), pool);
      }
      measured.add_scores()->mutable_counts()->Add(scores.counts().begin(), scores.counts().end());
      pieces_.push_back(piece);
      scores_.push_back(std::move(scores));
    }
  }

  // What was added of the last blocks, as many as have a curvature. False: it is damaged.
  bool TakeUp(const Measuring& measured) {
    const auto blocks = static_cast<Index>(run_.plan.blocks.size());
    for (Index block = blocks - 1; block >= blocks - measured.curvature_size(); --block) {
      for (const Stretch::Piece& piece : PiecesOf(block)) pieces_.push_back(piece);
    }
    for (const Measuring::Scores& saved : measured.scores()) {
      absl::optional<ScoreHistogram> scores = ScoreHistogram::Of(saved.counts());
      if (!scores.has_value()) return false;
      scores_.push_back(*std::move(scores));
    }
    return scores_.size() == pieces_.size();
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
  // Of the block, whose sparsity is the allocation's.
  std::vector<Stretch::Piece> PiecesOf(Index block) const {
    std::vector<Stretch::Piece> pieces;
    for (const Stretch& stretch : run_.plan.blocks[static_cast<size_t>(block)]) {
      for (const Stretch::Piece& piece : stretch.Pieces()) {
        const RunChoice* const choice = BaseChoiceOf(run_.spec, piece.tensors[0].what);
        if (choice != nullptr && !choice->own_sparsity) pieces.push_back(piece);
      }
    }
    return pieces;
  }

  const OpenRun& run_;
  std::vector<Stretch::Piece> pieces_;
  std::vector<ScoreHistogram> scores_;  // by piece
};

// The pass of a run from where an earlier attempt had it, to its end.
class Measurement {
 public:
  // All must outlive it. rows: that it is taken on.
  Measurement(ClaimedJob& job, OpenRun& run, const Tokens& rows)
      : job_(job), run_(run), rows_(rows), checkpoint_(job) {}

  absl::Status Run(RunProgress& progress);
  // With the digests of all blocks.
  v1::RunResult Result() const;
  // Once the result is stored.
  void Forget() { checkpoint_.Forget(); }

 private:
  absl::StatusOr<std::unique_ptr<CurvaturePass>> Open();
  absl::Status TakeUp();
  absl::Status Store(Index layer, const LayerWeights& weights, const LayerCurvature& curvature);
  int draws() const { return run_.spec.curvature->Draws(rows_.total()); }
  bool by_loss() const { return run_.spec.by_loss() != nullptr; }

  ClaimedJob& job_;
  OpenRun& run_;
  const Tokens& rows_;
  RunCheckpoint checkpoint_;
  std::unique_ptr<CurvaturePass> pass_;
  Measuring measured_;  // of the layers that the gradients are through
  absl::optional<LossShares> shares_;
};

absl::StatusOr<std::unique_ptr<CurvaturePass>> Measurement::Open() {
  return CurvaturePass::Create(*run_.forward, run_.pool, rows_,
                               {.seed = run_.spec.seed,
                                .draws = draws(),
                                .widest = run_.spec.curvature->widest,
                                .output = run_.spec.reconstruction.has_value()},
                               PassOptionsOf(run_.plan, job_.options()));
}

absl::Status Measurement::TakeUp() {
  checkpoint_.Read();
  ATTNPRUNE_ASSIGN_OR_RETURN(measured_, checkpoint_.TakeMeasuring(*pass_));
  shares_.emplace(run_);
  if (!by_loss() || shares_->TakeUp(measured_)) return absl::OkStatus();
  job_.writer().AddWarning("scores that were saved: they are damaged; that work starts over");
  checkpoint_.Forget();
  ATTNPRUNE_RETURN_IF_ERROR(pass_->SetPoint({}));
  measured_.Clear();
  shares_.emplace(run_);
  return absl::OkStatus();
}

absl::Status Measurement::Store(Index layer, const LayerWeights& weights,
                                const LayerCurvature& curvature) {
  if (by_loss()) shares_->Add(layer, weights, curvature, run_.pool, measured_);
  const std::vector<float> floats = ToFloats(curvature);
  ATTNPRUNE_ASSIGN_OR_RETURN(std::string digest,
                             job_.Put(BytesOf<float>(floats), TailOfCurvature(job_)));
  measured_.add_curvature(std::move(digest));
  // Those of the layers before begin their grace anew: no result names them yet.
  const std::vector<std::string> digests(measured_.curvature().begin(),
                                         measured_.curvature().end());
  return job_.tensors()->FindMissing(digests).status();
}

absl::Status Measurement::Run(RunProgress& progress) {
  ATTNPRUNE_ASSIGN_OR_RETURN(pass_, Open());
  ATTNPRUNE_RETURN_IF_ERROR(TakeUp());
  progress.Resume(pass_->share());
  const auto save = [this] { checkpoint_.SaveMeasuring(*pass_, measured_); };
  const auto store = [this](Index layer, const LayerWeights& weights,
                            const LayerCurvature& curvature) {
    return Store(layer, weights, curvature);
  };
  return pass_->Run(ListenerOf(job_, progress), store, save);
}

v1::RunResult Measurement::Result() const {
  v1::RunResult result;
  result.set_block(static_cast<int>(run_.plan.blocks.size()));
  *result.mutable_curvature() = {measured_.curvature().rbegin(), measured_.curvature().rend()};
  v1::MeasuredCurvature& measured = *result.mutable_measured_curvature();
  measured.set_rows(std::ssize(rows_.lengths));
  measured.set_tokens(rows_.total());
  measured.set_draws(draws());
  if (by_loss()) shares_->ShareOut(result);
  return result;
}

}  // namespace

absl::Status TakeCurvature(ClaimedJob& job, OpenRun& run, RunResults& results) {
  if (!results.curvature().empty() || results.FindBlock(0) != nullptr) return absl::OkStatus();
  RunPace pace;
  RunProgress progress(job, run.plan, pace);
  progress.Skip(run.plan.sample_operations + run.plan.allocate_operations);
  progress.Begin(v1::MEASURING, 0, run.plan.measure_operations, {});
  const Tokens rows = SomeRows(run.rows.calibration, run.spec.curvature->rows);
  Measurement measurement(job, run, rows);
  ATTNPRUNE_RETURN_IF_ERROR(measurement.Run(progress));
  progress.End();
  v1::RunResult result = measurement.Result();
  ATTNPRUNE_RETURN_IF_ERROR(results.Store(result, {}, StatesOf(result)));
  measurement.Forget();
  return absl::OkStatus();
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
