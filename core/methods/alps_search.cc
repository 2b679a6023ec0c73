#include "core/methods/alps_search.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/base/status_macros.h"
#include "core/base/sum.h"
#include "core/kernels/blas.h"
#include "core/kernels/finite.h"
#include "core/methods/linear_map.h"
#include "core/methods/solver_state.h"
#include "core/tensor/eigen.h"

namespace attnprune {
namespace {

// out = `matrix` with each column times `scale`, or over it, or 0 where that is 0.
void ScaleColumns(MatrixView matrix, const std::vector<float>& scale, bool divide,
                  MutableMatrixView out) {
  for (Index i = 0; i < matrix.rows(); ++i) {
    for (Index j = 0; j < matrix.cols(); ++j) {
      float by = scale[static_cast<size_t>(j)];
      if (divide && by != 0) by = 1 / by;
      out(i, j) = matrix(i, j) * by;
    }
  }
}

// Rows of conjugate gradients on D H = C, where `mask` is 1; d starts there too.
class MaskedGradients {
 public:
  MaskedGradients(const Matrix& h, MatrixView c, MatrixView mask, MutableMatrixView d)
      : h_(h),
        mask_(mask),
        d_(d),
        residual_(d.rows(), d.cols()),
        direction_(d.rows(), d.cols()),
        product_(d.rows(), d.cols()),
        norms_(static_cast<size_t>(d.rows())) {
    Gemm(Trans::kNo, Trans::kNo, 1.0f, d_, h_, 0.0f, product_);
    ArrayOf(residual_) = (ArrayOf(c) - ArrayOf(product_)) * ArrayOf(mask_);
    ArrayOf(direction_) = ArrayOf(residual_);
    for (Index i = 0; i < d_.rows(); ++i) norms_[static_cast<size_t>(i)] = SquaredNorm(i);
  }

  void Step() {
    Gemm(Trans::kNo, Trans::kNo, 1.0f, direction_, h_, 0.0f, product_);
    for (Index i = 0; i < d_.rows(); ++i) StepRow(i);
  }

 private:
  double SquaredNorm(Index row) const {
    double sum = 0;
    for (Index j = 0; j < residual_.cols(); ++j) {
      const auto value = static_cast<double>(residual_(row, j));
      sum += value * value;
    }
    return sum;
  }

  void StepRow(Index i) {
    double& norm = norms_[static_cast<size_t>(i)];
    double curvature = 0;
    for (Index j = 0; j < d_.cols(); ++j) {
      curvature += static_cast<double>(direction_(i, j)) * static_cast<double>(product_(i, j));
    }
    if (!(norm > 0) || !(curvature > 0)) return;  // solved, as far as float32 goes
    const auto step = static_cast<float>(norm / curvature);
    for (Index j = 0; j < d_.cols(); ++j) {
      d_(i, j) += step * direction_(i, j);
      residual_(i, j) -= step * product_(i, j) * mask_(i, j);
    }
    const double before = std::exchange(norm, SquaredNorm(i));
    const auto turn = static_cast<float>(norm / before);
    for (Index j = 0; j < d_.cols(); ++j) {
      direction_(i, j) = residual_(i, j) + turn * direction_(i, j);
    }
  }

  const Matrix& h_;
  const MatrixView mask_;
  const MutableMatrixView d_;
  Matrix residual_, direction_, product_;
  std::vector<double> norms_;  // of the residual's rows, squared
};

}  // namespace

AlpsSearch::AlpsSearch(const std::vector<NamedWeight>& maps, const AlpsInputs& inputs,
                       const Sparsity& sparsity, ThreadPool& pool, uint64_t fingerprint,
                       const OutputMetric* outputs)
    : inputs_(inputs), sparsity_(sparsity), pool_(pool), fingerprint_(fingerprint) {
  if (outputs != nullptr) coupled_.emplace(inputs, *outputs, pool);
  for (const NamedWeight& stored : maps) {
    Map& map = maps_.emplace_back(Map{.stored = stored, .w = OutIn(stored)});
    Aim(map);
    map.admm = AdmmState(map.w.rows(), map.w.cols(), sparsity_);
    map.admm.Begin(map.w, sparsity_, pool_);
  }
}

void AlpsSearch::Aim(Map& map) {
  const Index outputs = map.w.rows();
  map.c = Matrix(outputs, map.w.cols());
  if (coupled_.has_value()) {
    coupled_->Scale(map.w, map.w);
    coupled_->Multiply(map.w, map.c);
    return;
  }
  ScaleColumns(map.w, inputs_.scale, /*divide=*/false, map.w);
  ForRowShards(outputs, pool_, [&](ShardRows rows, size_t) {
    Gemm(Trans::kNo, Trans::kNo, 1.0f, MatrixView(map.w).Rows(rows.first, rows.count), inputs_.h,
         0.0f, MutableMatrixView(map.c).Rows(rows.first, rows.count));
  });
}

BitMask AlpsSearch::Largest(const Matrix& magnitudes) const {
  return Binarize(magnitudes, /*inputs_are_rows=*/false, sparsity_, pool_);
}

bool AlpsSearch::settled() const {
  return std::all_of(maps_.begin(), maps_.end(), [](const Map& map) { return map.admm.settled; });
}

bool AlpsSearch::finite() const {
  return std::all_of(maps_.begin(), maps_.end(), [](const Map& map) { return map.admm.finite(); });
}

double AlpsSearch::Step() {
  ++steps_taken_;
  double loss = 0;
  for (Map& map : maps_) {
    if (!map.admm.settled) StepOf(map);
    loss += map.loss;
  }
  return loss;
}

void AlpsSearch::StepOf(Map& map) {
  if (!SameShape(scores_, map.w)) scores_ = Matrix(map.w.rows(), map.w.cols());
  map.loss = coupled_.has_value() ? SolveCoupled(map) : Solve(map);
  // What is not finite has no order.
  if (!AllFinite(scores_.flat())) {
    map.admm.settled = true;
    return;
  }
  const BitMask support = Largest(scores_);
  map.admm.Project(support, pool_);
  if (map.admm.Look(support, steps_taken_)) map.admm.Begin(map.w, sparsity_, pool_);
}

// (H + r I) U' = (C - V + r D)', so that the gradient at U is C - V + r D - r U less C.
double AlpsSearch::Solve(Map& map) {
  const Index d = map.w.cols();
  const auto r = static_cast<float>(map.admm.r);
  std::vector<double> losses(RowShards(map.w.rows()));
  ForRowShards(map.w.rows(), pool_, [&](ShardRows rows, size_t shard) {
    const auto of = [&](const Matrix& m) {
      return ArrayOf(MatrixView(m).Rows(rows.first, rows.count));
    };
    const MutableMatrixView u = MutableMatrixView(map.admm.u).Rows(rows.first, rows.count);
    Matrix target(rows.count, d), turned(rows.count, d);
    ArrayOf(target) = of(map.c) - of(map.admm.v) + r * of(map.admm.d);
    Gemm(Trans::kNo, Trans::kYes, 1.0f, target, inputs_.vectors, 0.0f, turned);
    for (Index i = 0; i < rows.count; ++i) {
      for (Index j = 0; j < d; ++j) turned(i, j) /= inputs_.values[static_cast<size_t>(j)] + r;
    }
    Gemm(Trans::kNo, Trans::kNo, 1.0f, turned, inputs_.vectors, 0.0f, u);
    ArrayOf(target) = (ArrayOf(MatrixView(u)) - of(map.w)) *
                      (ArrayOf(target) - of(map.c) - r * ArrayOf(MatrixView(u)));
    for (const float value : target.flat()) losses[shard] += 0.5 * static_cast<double>(value);
    ArrayOf(MutableMatrixView(scores_).Rows(rows.first, rows.count)) =
        (ArrayOf(MatrixView(u)) + of(map.admm.v) / r).abs();
  });
  return Sum(losses);
}

// The gradient at U is C - V + r D - r U less C here too.
double AlpsSearch::SolveCoupled(Map& map) {
  const auto r = static_cast<float>(map.admm.r);
  ForRowShards(map.w.rows(), pool_, [&](ShardRows rows, size_t) {
    const auto of = [&](const Matrix& m) {
      return ArrayOf(MatrixView(m).Rows(rows.first, rows.count));
    };
    ArrayOf(MutableMatrixView(scores_).Rows(rows.first, rows.count)) =
        of(map.c) - of(map.admm.v) + r * of(map.admm.d);
  });
  coupled_->Solve(scores_, r, map.admm.u);
  std::vector<double> losses(RowShards(map.w.rows()));
  ForRowShards(map.w.rows(), pool_, [&](ShardRows rows, size_t shard) {
    for (Index i = rows.first; i < rows.first + rows.count; ++i) {
      const float *const u = map.admm.u.row(i), *const v = map.admm.v.row(i);
      float* const target = scores_.row(i);
      for (Index j = 0; j < map.w.cols(); ++j) {
        const float gradient = target[j] - r * u[j] - map.c(i, j);
        losses[shard] += 0.5 * static_cast<double>((u[j] - map.w(i, j)) * gradient);
        target[j] = std::abs(u[j] + v[j] / r);
      }
    }
  });
  return Sum(losses);
}

Matrix AlpsSearch::Refined(const Map& map, const BitMask& support, int steps) {
  Matrix result(map.w.rows(), map.w.cols());
  support.ApplyInto(map.admm.u, result);
  if (steps == 0) return result;
  const Matrix mask = support.ToMatrix();
  if (coupled_.has_value()) {
    coupled_->Refine(map.c, mask, steps, result);
    return result;
  }
  ForRowShards(map.w.rows(), pool_, [&](ShardRows rows, size_t) {
    const auto of = [&](const Matrix& m) { return MatrixView(m).Rows(rows.first, rows.count); };
    MaskedGradients gradients(inputs_.h, of(map.c), of(mask),
                              MutableMatrixView(result).Rows(rows.first, rows.count));
    for (int step = 0; step < steps; ++step) gradients.Step();
  });
  return result;
}

Matrix AlpsSearch::Unscaled(const Map& map, const Matrix& scaled) const {
  Matrix weights(scaled.rows(), scaled.cols());
  if (coupled_.has_value()) {
    coupled_->Unscale(scaled, weights);
  } else {
    ScaleColumns(scaled, inputs_.scale, /*divide=*/true, weights);
  }
  return AsStored(map.stored, weights);
}

std::vector<Matrix> AlpsSearch::Weights() const {
  std::vector<Matrix> weights;
  for (const Map& map : maps_) weights.push_back(Unscaled(map, map.admm.d));
  return weights;
}

std::vector<PrunedMatrix> AlpsSearch::Result(int refine_steps) {
  std::vector<PrunedMatrix> result;
  for (const Map& map : maps_) {
    if (sparsity_.PrunedOf(map.w.size()) == 0) {
      BitMask all(map.stored.dense.rows(), map.stored.dense.cols(), /*kept=*/true);
      result.push_back(MaskedMatrix(map.stored, std::move(all)));
      continue;
    }
    const BitMask support = Largest(Magnitudes(map.admm.u));
    result.push_back({.name = map.stored.name,
                      .mask = AsStored(map.stored, support),
                      .weights = Unscaled(map, Refined(map, support, refine_steps)),
                      .soft_mask = Matrix()});
  }
  return result;
}

void AlpsSearch::AppendState(std::string* out) const {
  SolverStateView state;
  state.fingerprint = fingerprint_;
  state.step = steps_taken_;
  for (const Map& map : maps_) {
    const char* const name = map.stored.name;
    state.numbers.insert(state.numbers.end(), {map.admm.r, map.admm.moving ? 1.0 : 0.0,
                                               map.admm.settled ? 1.0 : 0.0, map.loss});
    state.matrices[StateKey(name, "u")] = &map.admm.u;
    state.matrices[StateKey(name, "v")] = &map.admm.v;
    state.matrices[StateKey(name, "d")] = &map.admm.d;
    state.masks[StateKey(name, "last_look")] = &map.admm.last_look;
  }
  AppendSolverState(state, out);
}

absl::Status AlpsSearch::Restore(const std::string& bytes, int max_steps) {
  constexpr size_t kNumbers = 4;  // of a map
  ATTNPRUNE_ASSIGN_OR_RETURN(SolverState state, ParseState(bytes, fingerprint_, max_steps));
  bool complete = state.numbers.size() == kNumbers * maps_.size();
  for (size_t m = 0; complete && m < maps_.size(); ++m) {
    Map& map = maps_[m];
    const char* const name = map.stored.name;
    complete = state.Take(StateKey(name, "u"), map.admm.u) &&
               state.Take(StateKey(name, "v"), map.admm.v) &&
               state.Take(StateKey(name, "d"), map.admm.d);
    const auto mask =
        BitMask::FromBytes(map.w.rows(), map.w.cols(), state.masks[StateKey(name, "last_look")]);
    if (!complete || !mask.ok()) return ResumeRefused("must hold every matrix of the run, finite");
    map.admm.last_look = *mask;
    const double* const numbers = &state.numbers[kNumbers * m];
    map.admm.r = numbers[0];
    map.admm.moving = numbers[1] != 0;
    map.admm.settled = numbers[2] != 0;
    map.loss = numbers[3];
  }
  if (!complete) return ResumeRefused("must hold every matrix of the run, finite");
  steps_taken_ = state.step;
  return absl::OkStatus();
}

}  // namespace attnprune
