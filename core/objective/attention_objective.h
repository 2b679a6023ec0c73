// The attention loss of one problem on one set of batches, its gradient and relative error.
//
// Source: the paper's Definition 1.1, Definition C.1 and Theorem 5.3; Section 7 for projections.
#ifndef ATTNPRUNE_CORE_OBJECTIVE_ATTENTION_OBJECTIVE_H_
#define ATTNPRUNE_CORE_OBJECTIVE_ATTENTION_OBJECTIVE_H_

#include <functional>
#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/base/thread_pool.h"
#include "core/objective/chunks.h"
#include "core/problem/problem.h"
#include "core/problem/problem_shape.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// sum over batches of ||f~ - f||_F^2 and of ||f||_F^2, per query head.
struct AttentionError {
  std::vector<double> difference;  // numerator of equation (1), one a head
  std::vector<double> dense;       // its denominator
  // Natural logarithm of the smallest allowed entry of f~ (Theorem 4.1's delta), which is often far
  // below what a float can hold; 0 unless it was asked for.
  double smallest_log_attention = 0;

  double relative() const;  // over all heads
  double relative(Index head) const;
};

// What becomes of the dense attention f between two uses. No bit of any answer depends on it.
enum class DenseAttention {
  kKeep,
  // Made again at every use, from two numbers a query and head and the dense projections: slower.
  kRebuild,
  // The same, and the dense projections too are made again, a chunk of batches at a time: then
  // nothing that is kept grows with d times the tokens. Slower still.
  kRecompute,
};

// Told how much of a long call is done, in (0, 1], by the calling thread. Returns quickly.
using ShareDone = std::function<void(double share)>;
inline void NobodyListens(double) {}

struct ErrorOptions {
  bool smallest = false;  // whether smallest_log_attention is wanted
  ShareDone share_done = NobodyListens;
};

struct ObjectiveOptions {
  DenseAttention dense = DenseAttention::kKeep;
  // Projections and their gradients exist for this many floats of tokens at a time. A constant in
  // the product, because the gradient's sums over tokens are grouped by it.
  Index chunk_floats = Index{8} << 20;
  // For objectives of one problem and one pool that are used one at a time; null: one of its own.
  std::shared_ptr<Workspace> workspace = nullptr;
};

// The attention loss as a function of some weights. Not thread-safe: one caller at a time; it uses
// a pool's threads inside. The bits of every answer depend on the input and the CPU type only, not
// on the number of threads.
class LossFunction {
 public:
  virtual ~LossFunction() = default;

  // Attention loss sum_j 1/2 ||f~_j - f_j||_F^2 over batches and heads, f~ from `weights`, and its
  // gradient in those weights: gradients[i] has the shape of weights[i]
  // or is empty and is then made. The gradient in a mask is its Hadamard product with the dense
  // weight. Order of weights: AttentionWeights().
  // Not finite when `weights` lead to logits that AttentionObjective::Create would refuse.
  virtual double LossAndGradient(absl::Span<const MatrixView> weights,
                                 absl::Span<Matrix> gradients) = 0;

  // The error of `weights` (equation 1), per head.
  AttentionError Error(absl::Span<const MatrixView> weights, const ErrorOptions& options = {}) {
    return DoError(weights, options);
  }

  // sum ||f||_F^2 over batches and heads.
  virtual double dense_norm_squared() const = 0;

 private:
  virtual AttentionError DoError(absl::Span<const MatrixView> weights,
                                 const ErrorOptions& options) = 0;
};

// Holds the dense attention f of a problem on its batches, computed once, or what it takes to make
// it again.
class AttentionObjective : public LossFunction {
 public:
  // `problem`, `batches` and `pool` must outlive the objective. batches: some or all of
  // the problem's, not empty. The problem must be valid (Validate).
  // INVALID_ARGUMENT if a dense logit is NaN or +infinity in float32, or if all of one query's are
  // -infinity; `field` names the batches there. (One -infinity among finite logits is an attention
  // of 0, as in exact arithmetic.)
  // RESOURCE_EXHAUSTED where memory runs out.
  static absl::StatusOr<std::unique_ptr<AttentionObjective>> Create(
      const Problem& problem, const Batches& batches, const char* field, ThreadPool& pool,
      const ObjectiveOptions& options = {}, const ShareDone& share_done = NobodyListens);

 private:
  // Those of the two problems, without the dense attention; options with a workspace. Each in a
  // file of its own: fused_objective.cc, projection_objective.cc.
  static std::unique_ptr<AttentionObjective> OfFused(const Problem& problem, const Batches& batches,
                                                     ThreadPool& pool,
                                                     const ObjectiveOptions& options);
  static std::unique_ptr<AttentionObjective> OfProjections(const Problem& problem,
                                                           const Batches& batches, ThreadPool& pool,
                                                           const ObjectiveOptions& options);

  // Computes the dense attention: called once, by Create.
  virtual void FillDense(const ShareDone& share_done) = 0;
};

// LossFunction in the factors of a fused weight, W = W_Q W_K'. Takes the weights {W_Q, W_K}, both
// d x r, in place of {W}: with G = dL/dW of the fused objective, dL/dW_Q = G W_K and
// dL/dW_K = G' W_Q. Thread contract and bits: those of LossFunction.
class FactoredObjective final : public LossFunction {
 public:
  // fused: of a fused problem; must outlive this.
  explicit FactoredObjective(LossFunction& fused) : fused_(fused) {}

  double LossAndGradient(absl::Span<const MatrixView> factors,
                         absl::Span<Matrix> gradients) override;
  double dense_norm_squared() const override { return fused_.dense_norm_squared(); }

 private:
  AttentionError DoError(absl::Span<const MatrixView> factors,
                         const ErrorOptions& options) override;
  std::vector<MatrixView> Product(absl::Span<const MatrixView> factors);  // valid until the next

  LossFunction& fused_;
  Matrix product_;
  std::vector<Matrix> gradient_ = std::vector<Matrix>(1);  // in the product
};

// What the attention loss of a problem costs, from its shape alone: for estimates.

// Weights of the matrices that the attention uses. Real numbers throughout: they do not overflow.
double Entries(const ProblemShape& shape);

// Bytes of an objective on `data` at its peak, tokens included unless they are in a file. With d
// the input features, N the tokens, n the longest batch, R the outputs (rows of all weights; d when
// fused), H heads of width h (1 of d when fused) and A the entries that the attention mask allows,
// 4 bytes times
//   N d tokens
//   2 R min(N, 8 Mi / H h): projections and gradients of a chunk (chunks.h); 3 R with a norm or
//   clip H (A + 32 N): dense attention kept; or N (R + 2 H) to rebuild it; or, with the tokens in a
//   file, 2 H N, R min(N, 8 Mi / H h) and no tokens on each thread 4 n h of keys in panels and 136
//   n of a block's rows
double ObjectiveBytes(const ProblemShape& shape, const DataSize& data, DenseAttention dense,
                      int threads);

// With P the weights' entries, N the tokens of `data`, H heads of width h and A the entries that
// the attention mask allows:

// 2 N P + 2 A H h, and the softmax, counted as 100 an entry, a softcap 50 more. Where dense
// attention is rebuilt 2 A H h and the softmax once more; with the tokens in a file 2 N P too.
double LossOperations(const ProblemShape& shape, const DataSize& data, DenseAttention dense);
// Those, and 2 N P + 4 A H h.
double GradientOperations(const ProblemShape& shape, const DataSize& data, DenseAttention dense);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_OBJECTIVE_ATTENTION_OBJECTIVE_H_
