// ALPS (Meng et al., "ALPS: Improved Optimization for Highly Sparse One-Shot Pruning for Large
// Language Models", 2024, arXiv 2406.07831): which weights of a linear map stay, and how large, by
// ADMM; then conjugate gradients on the weights that stay.
//
//   min ||X W' - X D'||^2 + lambda ||W - D||^2 over D with so many entries that are not 0
//
// In the inputs' own scale (alps_inputs.h), H = Q diag(l) Q', C = W H, all outputs x inputs:
//
//   U <- (C - V + r D) Q diag(1 / (l + r)) Q';   D <- P(U + V / r);   V <- V + r (U - D)
//
// The last two, P, r and when a map is settled: admm.h.
//
// Where the loss's curvature at the map's outputs is known, B = P diag(b) P' (output_metric.h),
// what is minimised is tr(B (W - D) H (W - D)'), in both sides' scale, with C = B W H:
//
//   U <- P [(P' (C - V + r D) Q) / (b l' + r)] Q'
//
// and the conjugate gradients are coupled through B. B = I is ALPS itself.
#ifndef ATTNPRUNE_CORE_METHODS_ALPS_SEARCH_H_
#define ATTNPRUNE_CORE_METHODS_ALPS_SEARCH_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/optional.h"
#include "core/base/thread_pool.h"
#include "core/methods/admm.h"
#include "core/methods/alps_inputs.h"
#include "core/methods/coupled_system.h"
#include "core/methods/method.h"
#include "core/methods/output_metric.h"
#include "core/problem/problem.h"
#include "core/problem/sparsity.h"
#include "core/tensor/bit_mask.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// One run on linear maps that share their inputs, each with an r of its own. One caller at a time.
class AlpsSearch final : public Resumable {
 public:
  // Everything borrowed must outlive the run. outputs: of the one map; null: B = I.
  AlpsSearch(const std::vector<NamedWeight>& maps, const AlpsInputs& inputs,
             const Sparsity& sparsity, ThreadPool& pool, uint64_t fingerprint,
             const OutputMetric* outputs = nullptr);

  // Whether no map moves any more.
  bool settled() const;
  int steps_taken() const { return steps_taken_; }

  // A step of every map that is not settled. Returns the sum over all maps of
  // 1/2 ||X (W - U)'||^2 + 1/2 lambda ||W - U||^2 of the real-valued U of their last steps; with a
  // metric of 1/2 tr(B (W - U) H (W - U)').
  double Step();
  // Whether every number is finite; else there is no result.
  bool finite() const;

  // D of every map in the weights' own scale, as stored.
  std::vector<Matrix> Weights() const;
  // P(U) with `refine_steps` of conjugate gradients on the weights that stay, each output alone or,
  // with a metric, each block of it.
  std::vector<PrunedMatrix> Result(int refine_steps);

  void AppendState(std::string* out) const override;
  // Takes over what AppendState wrote after at most `max_steps` steps. ResumeRefused.
  absl::Status Restore(const std::string& bytes, int max_steps);

 private:
  // outputs x inputs, in the inputs' own scale.
  struct Map {
    NamedWeight stored;
    Matrix w, c;
    AdmmState admm;
    double loss = 0;
  };

  // Into the scale, and C.
  void Aim(Map& map);
  void StepOf(Map& map);
  // Solves for U; scores_ = |U + V / r|.
  double Solve(Map& map);
  double SolveCoupled(Map& map);
  BitMask Largest(const Matrix& magnitudes) const;
  Matrix Refined(const Map& map, const BitMask& support, int steps);
  Matrix Unscaled(const Map& map, const Matrix& scaled) const;

  const AlpsInputs& inputs_;
  const Sparsity sparsity_;
  ThreadPool& pool_;
  const uint64_t fingerprint_;
  std::vector<Map> maps_;
  absl::optional<CoupledSystem> coupled_;
  Matrix scores_;
  int steps_taken_ = 0;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_METHODS_ALPS_SEARCH_H_
