#include "core/objective/prepared_problem.h"

#include <vector>

#include "core/base/status_macros.h"
#include "core/kernels/blas.h"
#include "core/objective/hasher.h"

namespace attnprune {
namespace {

void AddRope(const Rope& rope, Hasher& hasher) {
  hasher.Real(rope.theta);
  hasher.Integer(static_cast<int64_t>(rope.layout));
  // What a layer has not leaves no trace, so that its digest is that of the version before.
  if (rope.dim > 0) {
    hasher.Text("dim");
    hasher.Integer(rope.dim);
  }
  if (rope.attention_factor != 1) {
    hasher.Text("attention_factor");
    hasher.Real(rope.attention_factor);
  }
  if (rope.scaling == RopeScaling::kDefault) return;
  hasher.Text("scaling");
  hasher.Integer(static_cast<int64_t>(rope.scaling));
  hasher.Integer(rope.original_max_positions);
  hasher.Integer(rope.max_positions);
  hasher.Integer(rope.truncate);
  for (const double value :
       {rope.factor, rope.low_freq_factor, rope.high_freq_factor, rope.beta_fast, rope.beta_slow}) {
    hasher.Real(value);
  }
  hasher.Reals(rope.short_factor);
  hasher.Reals(rope.long_factor);
}

// Likewise.
void AddOptions(const ProjectionWeights& layer, Hasher& hasher) {
  if (layer.qk_norm.has_value()) {
    const QkNorm& norm = *layer.qk_norm;
    hasher.Text("qk_norm");
    hasher.Integer(static_cast<int64_t>(norm.kind));
    hasher.Integer(static_cast<int64_t>(norm.group));
    hasher.Real(norm.eps);
    for (const auto* values : {&norm.q_weight, &norm.k_weight, &norm.q_bias, &norm.k_bias}) {
      hasher.Floats(*values);
    }
  }
  if (layer.softcap > 0) {
    hasher.Text("softcap");
    hasher.Real(layer.softcap);
  }
  if (layer.clip_qkv > 0) {
    hasher.Text("clip_qkv");
    hasher.Real(layer.clip_qkv);
  }
  if (layer.alibi != Alibi::kNone) {
    hasher.Text("alibi");
    hasher.Integer(static_cast<int64_t>(layer.alibi));
  }
}

void AddWeights(const Problem& problem, Hasher& hasher) {
  for (const NamedWeight& weight : AttentionWeights(problem)) {
    hasher.Text(weight.name);
    hasher.Rows(weight.dense);
  }
  if (problem.fused()) return;
  const ProjectionWeights& layer = problem.projections();
  hasher.Floats(layer.b_q);
  hasher.Floats(layer.b_k);
  hasher.Integer(layer.heads);
  hasher.Integer(layer.kv_heads);
  hasher.Integer(layer.rope.has_value());
  if (layer.rope.has_value()) AddRope(*layer.rope, hasher);
  AddOptions(layer, hasher);
}

std::shared_ptr<const XXH3_state_t> Digested(const Problem& problem) {
  Hasher hasher;
  hasher.Integer(kNumericsVersion);
  AddWeights(problem, hasher);
  hasher.Text(ToString(problem.attention));
  hasher.Real(static_cast<double>(problem.effective_scale()));
  hasher.Rows(problem.calibration.all());
  for (Index j = 0; j < problem.calibration.count(); ++j) {
    hasher.Integer(problem.calibration.length(j));
  }
  hasher.Real(problem.sparsity.fraction);
  hasher.Integer(problem.sparsity.pruned);
  hasher.Integer(problem.sparsity.group);
  return hasher.state();
}

}  // namespace

absl::StatusOr<std::unique_ptr<PreparedProblem>> PreparedProblem::Create(
    const Problem& problem, const PrepareOptions& options) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckThreads(options.threads));
  ATTNPRUNE_RETURN_IF_ERROR(Validate(problem));
  return OfValid(problem, options);
}

absl::StatusOr<std::unique_ptr<PreparedProblem>> PreparedProblem::OfValid(
    const Problem& problem, const PrepareOptions& options) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckThreads(options.threads));
  ATTNPRUNE_RETURN_IF_ERROR(InitializeBlas());
  return std::unique_ptr<PreparedProblem>(new PreparedProblem(problem, options));
}

absl::StatusOr<AttentionObjective*> PreparedProblem::Build(Side& side,
                                                           const ShareDone& share_done) {
  if (!side.objective.has_value()) {
    side.objective =
        AttentionObjective::Create(problem_, side.batches, side.field, pool_, options_, share_done);
  }
  ATTNPRUNE_RETURN_IF_ERROR(side.objective->status());
  return (**side.objective).get();
}

std::shared_ptr<const GramMatrix> PreparedProblem::GramOf(Side& side) {
  if (side.gram != nullptr) return side.gram;
  auto gram = std::make_shared<const GramMatrix>(Gram(side.batches.all(), pool_));
  if (options_.dense == DenseAttention::kKeep) side.gram = gram;
  return gram;
}

uint64_t PreparedProblem::Fingerprint(absl::string_view method, absl::Span<const double> parameters,
                                      absl::optional<uint64_t> seed) {
  if (digested_ == nullptr) digested_ = Digested(problem_);
  Hasher hasher(*digested_);
  hasher.Text(method);
  for (double value : parameters) hasher.Real(value);
  if (seed.has_value()) hasher.Integer(static_cast<int64_t>(*seed));
  return hasher.Digest();
}

}  // namespace attnprune
