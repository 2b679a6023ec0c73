#include "server/api/problem_check.h"

#include <cmath>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "server/api/tensor_check.h"

namespace attnprune::api {
namespace {

constexpr int64_t kMaxTokens = std::numeric_limits<int>::max();  // OpenBLAS counts in 32 bits
constexpr char kFused[] = "job.problem.fused";
constexpr char kProjections[] = "job.problem.projections";

std::string Path(absl::string_view parent, absl::string_view child) {
  return absl::StrCat(parent, ".", child);
}

absl::Status ShapeError(absl::string_view tensor_field, absl::string_view rule,
                        const v1::TensorRef& tensor) {
  return FieldError(Path(tensor_field, "shape"),
                    absl::StrCat("must ", rule, ", got ", ShapeText(tensor)));
}

absl::Status CheckRank2(absl::string_view field, const v1::TensorRef& tensor) {
  if (tensor.shape_size() == 2) return absl::OkStatus();
  return ShapeError(field, "have 2 entries", tensor);
}

absl::Status CheckWeight(const v1::FusedProblem& fused, const CheckTensor& check_tensor) {
  const std::string field = Path(kFused, "weight");
  ATTNPRUNE_RETURN_IF_ERROR(check_tensor(field, fused.weight()));
  ATTNPRUNE_RETURN_IF_ERROR(CheckRank2(field, fused.weight()));
  if (fused.weight().shape(0) == fused.weight().shape(1)) return absl::OkStatus();
  return ShapeError(field, "be square", fused.weight());
}

// W = q_factor k_factor' is made in float32, d x d, however thin the factors are.
absl::Status CheckProduct(const v1::TensorRef& factor, int64_t max_tensor_bytes) {
  const int64_t features = factor.shape(0);
  if (features <= max_tensor_bytes / static_cast<int64_t>(sizeof(float)) / features) {
    return absl::OkStatus();
  }
  return ShapeError(Path(kFused, "q_factor"),
                    absl::StrCat("lead to a d x d product of at most ", max_tensor_bytes, " bytes"),
                    factor);
}

absl::Status CheckFactors(const v1::FusedProblem& fused, const CheckTensor& check_tensor,
                          int64_t max_tensor_bytes) {
  const std::string q = Path(kFused, "q_factor"), k = Path(kFused, "k_factor");
  ATTNPRUNE_RETURN_IF_ERROR(check_tensor(q, fused.q_factor()));
  ATTNPRUNE_RETURN_IF_ERROR(CheckRank2(q, fused.q_factor()));
  ATTNPRUNE_RETURN_IF_ERROR(check_tensor(k, fused.k_factor()));
  if (fused.k_factor().shape_size() == 2 &&
      fused.q_factor().shape(0) == fused.k_factor().shape(0) &&
      fused.q_factor().shape(1) == fused.k_factor().shape(1)) {
    return CheckProduct(fused.q_factor(), max_tensor_bytes);
  }
  return ShapeError(k, absl::StrCat("be that of q_factor, ", ShapeText(fused.q_factor())),
                    fused.k_factor());
}

absl::Status CheckFused(const v1::FusedProblem& fused, const CheckTensor& check_tensor,
                        int64_t max_tensor_bytes) {
  const bool factors = fused.has_q_factor() || fused.has_k_factor();
  if (fused.has_weight() && !factors) return CheckWeight(fused, check_tensor);
  if (!fused.has_weight() && fused.has_q_factor() && fused.has_k_factor()) {
    return CheckFactors(fused, check_tensor, max_tensor_bytes);
  }
  return FieldError(kFused,
                    absl::StrCat("must have either weight or both q_factor and k_factor, got ",
                                 fused.has_weight() ? "weight and a factor"
                                 : factors          ? "one factor"
                                                    : "none"));
}

absl::Status CheckHeads(const v1::ProjectionProblem& layer) {
  const int64_t rows = layer.w_q().shape(0), heads = layer.heads(), kv_heads = layer.kv_heads();
  if (heads < 1 || rows % heads != 0) {
    return FieldError(
        Path(kProjections, "heads"),
        absl::StrCat("must be at least 1 and divide the ", rows, " rows of w_q, got ", heads));
  }
  if (kv_heads < 0 || (kv_heads > 0 && heads % kv_heads != 0)) {
    return FieldError(Path(kProjections, "kv_heads"),
                      absl::StrCat("must be 0 or divide heads (", heads, "), got ", kv_heads));
  }
  return absl::OkStatus();
}

// The shape of w_k must follow from that of w_q.
absl::Status CheckKeys(const v1::ProjectionProblem& layer) {
  const int64_t head_dim = layer.w_q().shape(0) / layer.heads();
  const int64_t rows = head_dim * (layer.kv_heads() == 0 ? layer.heads() : layer.kv_heads());
  const int64_t columns = layer.w_q().shape(1);
  if (layer.w_k().shape(0) == rows && layer.w_k().shape(1) == columns) return absl::OkStatus();
  return ShapeError(Path(kProjections, "w_k"),
                    absl::StrCat("be kv_heads * head_dim x d = ", rows, " x ", columns),
                    layer.w_k());
}

absl::Status CheckBias(absl::string_view name, const v1::TensorRef& bias, int64_t entries,
                       const CheckTensor& check_tensor) {
  const std::string field = Path(kProjections, name);
  ATTNPRUNE_RETURN_IF_ERROR(check_tensor(field, bias));
  if (bias.shape_size() == 1 && bias.shape(0) == entries) return absl::OkStatus();
  return ShapeError(field, absl::StrCat("be that of one entry a row of its weight, ", entries),
                    bias);
}

absl::Status CheckRope(const v1::ProjectionProblem& layer) {
  const std::string field = Path(kProjections, "rope");
  const int64_t head_dim = layer.w_q().shape(0) / layer.heads();
  if (head_dim % 2 != 0) {
    return FieldError(field, absl::StrCat("must go with an even head_dim, got ", head_dim));
  }
  const double theta = layer.rope().theta();
  if (!std::isfinite(theta) || theta < 0) {
    return FieldError(Path(field, "theta"),
                      absl::StrCat("must be finite and above 0, or 0 for 10000, got ", theta));
  }
  if (v1::RopeLayout_IsValid(layer.rope().layout())) return absl::OkStatus();
  return FieldError(Path(field, "layout"), absl::StrCat("must be ROTATE_HALF or INTERLEAVED, got ",
                                                        static_cast<int>(layer.rope().layout())));
}

absl::Status CheckProjections(const v1::ProjectionProblem& layer, const CheckTensor& check_tensor) {
  const std::string q = Path(kProjections, "w_q"), k = Path(kProjections, "w_k");
  ATTNPRUNE_RETURN_IF_ERROR(check_tensor(q, layer.w_q()));
  ATTNPRUNE_RETURN_IF_ERROR(CheckRank2(q, layer.w_q()));
  ATTNPRUNE_RETURN_IF_ERROR(check_tensor(k, layer.w_k()));
  ATTNPRUNE_RETURN_IF_ERROR(CheckRank2(k, layer.w_k()));
  ATTNPRUNE_RETURN_IF_ERROR(CheckHeads(layer));
  ATTNPRUNE_RETURN_IF_ERROR(CheckKeys(layer));
  if (layer.has_b_q()) {
    ATTNPRUNE_RETURN_IF_ERROR(CheckBias("b_q", layer.b_q(), layer.w_q().shape(0), check_tensor));
  }
  if (layer.has_b_k()) {
    ATTNPRUNE_RETURN_IF_ERROR(CheckBias("b_k", layer.b_k(), layer.w_k().shape(0), check_tensor));
  }
  return layer.has_rope() ? CheckRope(layer) : absl::OkStatus();
}

absl::Status CheckWeights(const v1::Problem& problem, const CheckTensor& check_tensor,
                          int64_t max_tensor_bytes) {
  switch (problem.weights_case()) {
    case v1::Problem::kFused:
      return CheckFused(problem.fused(), check_tensor, max_tensor_bytes);
    case v1::Problem::kProjections:
      return CheckProjections(problem.projections(), check_tensor);
    case v1::Problem::WEIGHTS_NOT_SET:
      break;
  }
  return FieldError("job.problem.weights", "must be fused or projections, got neither");
}

absl::Status CheckAttention(const v1::AttentionMask& attention) {
  const bool has_size = attention.kind() == v1::BLOCK || attention.kind() == v1::WINDOW;
  if (!v1::AttentionKind_IsValid(attention.kind())) {
    return FieldError("job.problem.attention.kind",
                      absl::StrCat("must be CAUSAL, FULL, BLOCK or WINDOW, got ",
                                   static_cast<int>(attention.kind())));
  }
  if (has_size ? attention.size() >= 1 : attention.size() == 0) return absl::OkStatus();
  return FieldError(
      "job.problem.attention.size",
      absl::StrCat(has_size ? "must be at least 1 token" : "must be 0", " for ",
                   v1::AttentionKind_Name(attention.kind()), ", got ", attention.size()));
}

absl::Status CheckScale(const v1::Problem& problem) {
  if (!problem.has_scale()) return absl::OkStatus();
  const float used = static_cast<float>(problem.scale());
  if (std::isfinite(used) && used > 0) return absl::OkStatus();
  return FieldError("job.problem.scale",
                    absl::StrCat("must be above 0 and finite in float32, got ", problem.scale()));
}

// `field`: "job.calibration" or "job.held_out".
absl::Status CheckBatches(absl::string_view field,
                          const google::protobuf::RepeatedPtrField<v1::TensorRef>& batches,
                          int64_t features, const CheckTensor& check_tensor) {
  int64_t tokens = 0;
  for (int i = 0; i < batches.size(); ++i) {
    const v1::TensorRef& batch = batches[i];
    const std::string item = absl::StrCat(field, "[", i, "]");
    ATTNPRUNE_RETURN_IF_ERROR(check_tensor(item, batch));
    const int rank = batch.shape_size();
    if ((rank != 2 && rank != 3) || batch.shape(rank - 1) != features) {
      return ShapeError(item, absl::StrCat("be (n, d) or (k, n, d) with d = ", features), batch);
    }
    // Each factor passed the limit on bytes, so neither product nor sum overflows.
    tokens += batch.shape(0) * (rank == 3 ? batch.shape(1) : 1);
    if (tokens > kMaxTokens) {
      return FieldError(field, absl::StrCat("must have at most ", kMaxTokens, " tokens, got ",
                                            tokens, " or more"));
    }
  }
  return absl::OkStatus();
}

int64_t CountBatches(const google::protobuf::RepeatedPtrField<v1::TensorRef>& tensors) {
  int64_t count = 0;
  for (const v1::TensorRef& tensor : tensors) {
    count += tensor.shape_size() == 3 ? tensor.shape(0) : 1;
  }
  return count;
}

// After CheckBatches, so that the batches can be counted.
absl::Status CheckHeldOutFraction(const v1::Job& job) {
  const double fraction = job.held_out_fraction();
  if (fraction == 0) return absl::OkStatus();
  std::string rule;
  if (!(fraction > 0 && fraction < 1)) {  // written so that NaN fails too
    rule = "must be in [0, 1)";
  } else if (!job.held_out().empty()) {
    rule = "must be 0 where job.held_out is given";
  } else if (CountBatches(job.calibration()) < 2) {
    rule = "must be 0 with a single calibration batch, which cannot be split";
  } else {
    return absl::OkStatus();
  }
  return FieldError("job.held_out_fraction", absl::StrCat(rule, ", got ", fraction));
}

absl::Status CheckSparsity(const v1::Sparsity& sparsity, int64_t features) {
  switch (sparsity.kind_case()) {
    case v1::Sparsity::kFraction:
      // Written so that NaN fails too.
      if (sparsity.fraction() >= 0 && sparsity.fraction() < 1) return absl::OkStatus();
      return FieldError("job.sparsity.fraction",
                        absl::StrCat("must be in [0, 1), got ", sparsity.fraction()));
    case v1::Sparsity::kNOfM:
      break;
    case v1::Sparsity::KIND_NOT_SET:
      return FieldError("job.sparsity.kind", "must be fraction or n_of_m, got neither");
  }
  const int64_t n = sparsity.n_of_m().n(), m = sparsity.n_of_m().m();
  if (m >= 2 && n >= 0 && n < m && features % m == 0) return absl::OkStatus();
  return FieldError("job.sparsity.n_of_m",
                    absl::StrCat("must have 0 <= n < m and an m of at least 2 that divides the ",
                                 features, " inputs, got ", n, ":", m));
}

}  // namespace

absl::Status CheckProblem(const v1::Job& job, const CheckTensor& check_tensor,
                          int64_t max_tensor_bytes) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckWeights(job.problem(), check_tensor, max_tensor_bytes));
  ATTNPRUNE_RETURN_IF_ERROR(CheckAttention(job.problem().attention()));
  ATTNPRUNE_RETURN_IF_ERROR(CheckScale(job.problem()));
  const int64_t features = InputFeatures(job.problem());
  if (job.calibration().empty()) {
    return FieldError("job.calibration", "must have at least one tensor, got none");
  }
  ATTNPRUNE_RETURN_IF_ERROR(
      CheckBatches("job.calibration", job.calibration(), features, check_tensor));
  ATTNPRUNE_RETURN_IF_ERROR(CheckBatches("job.held_out", job.held_out(), features, check_tensor));
  ATTNPRUNE_RETURN_IF_ERROR(CheckHeldOutFraction(job));
  return CheckSparsity(job.sparsity(), features);
}

int64_t InputFeatures(const v1::Problem& problem) {
  if (problem.has_projections()) return problem.projections().w_q().shape(1);
  return problem.fused().has_weight() ? problem.fused().weight().shape(0)
                                      : problem.fused().q_factor().shape(0);
}

}  // namespace attnprune::api
