#include "server/execution/job_spec.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "core/io/messages.h"
#include "core/problem/shape_check.h"
#include "server/execution/projection_options.h"

namespace attnprune {
namespace {

constexpr size_t kMaxMethodName = 63;

using TensorRefs = google::protobuf::RepeatedPtrField<v1::TensorRef>;

constexpr ProblemFields kFields = {
    .w = {"job.problem.fused.weight.shape", "weight"},
    .factor_q = {"job.problem.fused.q_factor.shape", "q_factor"},
    .factor_k = {"job.problem.fused.k_factor.shape", "k_factor"},
    .w_q = {"job.problem.projections.w_q.shape", "w_q"},
    .w_k = {"job.problem.projections.w_k.shape", "w_k"},
    .b_q = "job.problem.projections.b_q.shape",
    .b_k = "job.problem.projections.b_k.shape",
    .heads = "job.problem.projections.heads",
    .kv_heads = "job.problem.projections.kv_heads",
    .rope = "job.problem.projections.rope",
    .rope_scaling = "job.problem.projections.rope.scaling",
    .qk_norm = "job.problem.projections.qk_norm",
    .norm_shape = ".shape",
    .softcap = "job.problem.projections.softcap",
    .clip_qkv = "job.problem.projections.clip_qkv",
    .alibi = "job.problem.projections.alibi",
    .attention = "job.problem.attention",
    .scale = "job.problem.scale",
    .fraction = "job.sparsity.fraction",
    .n_of_m = "job.sparsity.n_of_m",
    .calibration = "job.calibration",
    .held_out = "job.held_out",
    .batch_shape = ".shape",
    .held_out_fraction = "job.held_out_fraction",
    .or_default_kv_heads = ", or 0 for as many as heads",
    .or_default_theta = ", or 0 for 10000",
};

absl::Status ShapeError(const JobTensor& tensor, absl::string_view rule) {
  return FieldError(absl::StrCat(tensor.field, ".shape"),
                    absl::StrCat("must ", rule, ", got ", ShapeText(tensor.extents)));
}

absl::StatusOr<AttentionMask> DecodeAttention(const v1::AttentionMask& attention) {
  switch (attention.kind()) {
    case v1::ATTENTION_KIND_UNSPECIFIED:
    case v1::CAUSAL:
      return AttentionMask{AttentionMask::Kind::kCausal, attention.size()};
    case v1::FULL:
      return AttentionMask{AttentionMask::Kind::kFull, attention.size()};
    case v1::BLOCK:
      return AttentionMask{AttentionMask::Kind::kBlock, attention.size()};
    case v1::WINDOW:
      return AttentionMask{AttentionMask::Kind::kWindow, attention.size()};
    default:
      return FieldError("job.problem.attention.kind",
                        absl::StrCat("must be CAUSAL, FULL, BLOCK or WINDOW, got ",
                                     static_cast<int>(attention.kind())));
  }
}

absl::StatusOr<Sparsity> DecodeSparsity(const v1::Sparsity& sparsity) {
  switch (sparsity.kind_case()) {
    case v1::Sparsity::kFraction:
      return Sparsity::Fraction(sparsity.fraction());
    case v1::Sparsity::kNOfM: {
      const int64_t n = sparsity.n_of_m().n(), m = sparsity.n_of_m().m();
      // Here already, since core's Sparsity takes an M of 0 for unstructured.
      ATTNPRUNE_RETURN_IF_ERROR(ValidateNOfM(n, m, kFields));
      return Sparsity::NOfM(n, m);
    }
    case v1::Sparsity::KIND_NOT_SET:
      break;
  }
  return FieldError("job.sparsity.kind", "must be fraction or n_of_m, got neither");
}

std::vector<JobMethod> DecodeMethods(const v1::Job& job) {
  std::vector<JobMethod> methods;
  for (const v1::Method& method : job.methods()) {
    methods.push_back(
        {.spec = {method.name(), {method.parameters().begin(), method.parameters().end()}},
         .label = method.label().empty() ? method.name() : method.label()});
  }
  return methods;
}

// Reads the tensors of a problem with their shapes.
class ProblemDecoder {
 public:
  ProblemDecoder(int64_t max_tensor_bytes, JobSpec* spec)
      : max_tensor_bytes_(max_tensor_bytes), spec_(*spec) {}

  absl::Status DecodeWeights(const v1::Problem& problem);
  absl::Status DecodeBatches(absl::string_view field, const TensorRefs& refs,
                             std::vector<JobTensor>* tensors,
                             std::vector<BatchGroup>* groups) const;

 private:
  absl::Status DecodeFused(const v1::FusedProblem& fused);
  absl::Status DecodeProjections(const v1::ProjectionProblem& layer);
  absl::Status DecodeNorm(const v1::QkNorm& norm, ProjectionShape* shape);
  // A norm's weight or bias for `outputs` outputs of so many features a head; `outputs` on success.
  absl::StatusOr<Index> DecodeNormTensor(const char* name, const v1::TensorRef& ref, Index outputs,
                                         Index head_dim, QkNormGroup group);
  // Any number of extents.
  absl::StatusOr<JobTensor> DecodeInput(absl::string_view field, const char* matrix,
                                        const v1::TensorRef& ref) const;
  // The extents of a weight with as many of them. matrix: its name in Problem.
  absl::StatusOr<std::vector<Index>> DecodeWeight(absl::string_view field, const char* matrix,
                                                  const v1::TensorRef& ref, size_t rank);
  absl::Status DecodeMatrix(absl::string_view field, const char* matrix, const v1::TensorRef& ref,
                            MatrixShape* shape);

  const int64_t max_tensor_bytes_;
  JobSpec& spec_;
};

absl::StatusOr<JobTensor> ProblemDecoder::DecodeInput(absl::string_view field, const char* matrix,
                                                      const v1::TensorRef& ref) const {
  ATTNPRUNE_ASSIGN_OR_RETURN(JobTensor tensor, DecodeTensor(field, ref, max_tensor_bytes_));
  tensor.matrix = matrix;
  return tensor;
}

absl::StatusOr<std::vector<Index>> ProblemDecoder::DecodeWeight(absl::string_view field,
                                                                const char* matrix,
                                                                const v1::TensorRef& ref,
                                                                size_t rank) {
  ATTNPRUNE_ASSIGN_OR_RETURN(JobTensor tensor, DecodeInput(field, matrix, ref));
  if (tensor.extents.size() != rank) {
    return ShapeError(tensor, rank == 1 ? "have 1 entry" : "have 2 entries");
  }
  return spec_.weights.emplace_back(std::move(tensor)).extents;
}

absl::Status ProblemDecoder::DecodeMatrix(absl::string_view field, const char* matrix,
                                          const v1::TensorRef& ref, MatrixShape* shape) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<Index> extents, DecodeWeight(field, matrix, ref, 2));
  *shape = {extents[0], extents[1]};
  return absl::OkStatus();
}

absl::Status ProblemDecoder::DecodeFused(const v1::FusedProblem& fused) {
  const bool factors = fused.has_q_factor() || fused.has_k_factor();
  const bool both = fused.has_q_factor() && fused.has_k_factor();
  if (fused.has_weight() ? factors : !both) {
    return FieldError("job.problem.fused",
                      absl::StrCat("must have either weight or both q_factor and k_factor, got ",
                                   fused.has_weight() ? "weight and a factor"
                                   : factors          ? "one factor"
                                                      : "none"));
  }
  FusedShape& shape = spec_.shape.weights.emplace<FusedShape>();
  if (!factors) return DecodeMatrix("job.problem.fused.weight", "w", fused.weight(), &shape.w);
  ATTNPRUNE_RETURN_IF_ERROR(
      DecodeMatrix("job.problem.fused.q_factor", "w_q", fused.q_factor(), &shape.w_q));
  shape.w = {shape.w_q.rows, shape.w_q.rows};
  return DecodeMatrix("job.problem.fused.k_factor", "w_k", fused.k_factor(), &shape.w_k);
}

absl::Status ProblemDecoder::DecodeProjections(const v1::ProjectionProblem& layer) {
  const std::string parent = "job.problem.projections.";
  ProjectionShape& shape = spec_.shape.weights.emplace<ProjectionShape>();
  ATTNPRUNE_RETURN_IF_ERROR(DecodeMatrix(parent + "w_q", "w_q", layer.w_q(), &shape.w_q));
  ATTNPRUNE_RETURN_IF_ERROR(DecodeMatrix(parent + "w_k", "w_k", layer.w_k(), &shape.w_k));
  if (layer.has_b_q()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const auto extents,
                               DecodeWeight(parent + "b_q", "b_q", layer.b_q(), 1));
    shape.b_q = extents[0];
  }
  if (layer.has_b_k()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const auto extents,
                               DecodeWeight(parent + "b_k", "b_k", layer.b_k(), 1));
    shape.b_k = extents[0];
  }
  shape.heads = layer.heads();
  shape.kv_heads = layer.kv_heads() == 0 ? layer.heads() : layer.kv_heads();
  shape.softcap = layer.softcap();
  shape.clip_qkv = layer.clip_qkv();
  ATTNPRUNE_ASSIGN_OR_RETURN(shape.alibi, DecodeAlibi(layer.alibi()));
  if (layer.has_rope()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(shape.rope, DecodeRope(layer.rope()));
  }
  return layer.has_qk_norm() ? DecodeNorm(layer.qk_norm(), &shape) : absl::OkStatus();
}

absl::Status ProblemDecoder::DecodeNorm(const v1::QkNorm& norm, ProjectionShape* shape) {
  ATTNPRUNE_ASSIGN_OR_RETURN(QkNormShape decoded, DecodeQkNorm(norm));
  // Where there is no head_dim, Validate says so.
  if (shape->heads < 1 || shape->w_q.rows % shape->heads != 0) return absl::OkStatus();
  const Index head_dim = shape->w_q.rows / shape->heads;
  const auto decode = [&](const char* name, const v1::TensorRef& ref, Index outputs,
                          Index* entries) {
    ATTNPRUNE_ASSIGN_OR_RETURN(*entries,
                               DecodeNormTensor(name, ref, outputs, head_dim, decoded.group));
    return absl::OkStatus();
  };
  ATTNPRUNE_RETURN_IF_ERROR(
      decode("qk_norm.q_weight", norm.q_weight(), shape->w_q.rows, &decoded.q_weight));
  ATTNPRUNE_RETURN_IF_ERROR(
      decode("qk_norm.k_weight", norm.k_weight(), shape->w_k.rows, &decoded.k_weight));
  if (norm.has_q_bias()) {
    ATTNPRUNE_RETURN_IF_ERROR(
        decode("qk_norm.q_bias", norm.q_bias(), shape->w_q.rows, &decoded.q_bias));
  }
  if (norm.has_k_bias()) {
    ATTNPRUNE_RETURN_IF_ERROR(
        decode("qk_norm.k_bias", norm.k_bias(), shape->w_k.rows, &decoded.k_bias));
  }
  shape->qk_norm = decoded;
  spec_.norm_weight_offset = norm.weight_offset();
  return absl::OkStatus();
}

absl::StatusOr<Index> ProblemDecoder::DecodeNormTensor(const char* name, const v1::TensorRef& ref,
                                                       Index outputs, Index head_dim,
                                                       QkNormGroup group) {
  ATTNPRUNE_ASSIGN_OR_RETURN(
      JobTensor tensor, DecodeInput(absl::StrCat("job.problem.projections.", name), name, ref));
  const std::vector<Index>& extents = tensor.extents;
  const bool one_for_all = group == QkNormGroup::kHead && extents == std::vector<Index>{head_dim};
  const bool by_head = extents == std::vector<Index>{outputs / head_dim, head_dim};
  if (!one_for_all && !by_head && extents != std::vector<Index>{outputs}) {
    return ShapeError(
        tensor, absl::StrCat("be ", group == QkNormGroup::kHead ? absl::StrCat(head_dim, ", ") : "",
                             outputs, " or ", outputs / head_dim, " x ", head_dim));
  }
  spec_.weights.push_back(std::move(tensor));
  return outputs;
}

absl::Status ProblemDecoder::DecodeWeights(const v1::Problem& problem) {
  if (problem.has_fused()) return DecodeFused(problem.fused());
  if (problem.has_projections()) return DecodeProjections(problem.projections());
  return FieldError("job.problem.weights", "must be fused or projections, got neither");
}

absl::Status ProblemDecoder::DecodeBatches(absl::string_view field, const TensorRefs& refs,
                                           std::vector<JobTensor>* tensors,
                                           std::vector<BatchGroup>* groups) const {
  for (int i = 0; i < refs.size(); ++i) {
    ATTNPRUNE_ASSIGN_OR_RETURN(JobTensor tensor, DecodeTensor(absl::StrCat(field, "[", i, "]"),
                                                              refs[i], max_tensor_bytes_));
    const std::vector<Index>& extents = tensor.extents;
    const size_t rank = extents.size();
    if (rank != 2 && rank != 3) return ShapeError(tensor, "be (n, d) or (k, n, d)");
    groups->push_back({.batches = rank == 3 ? extents[0] : 1,
                       .length = extents[rank - 2],
                       .features = extents[rank - 1]});
    tensors->push_back(std::move(tensor));
  }
  return absl::OkStatus();
}

// W = q_factor k_factor' is made in float32, d x d, however thin the factors are.
absl::Status CheckProduct(const JobSpec& spec, int64_t max_tensor_bytes) {
  const Index features = spec.shape.features();
  const JobTensor* const q = InputWeight(spec.weights, "w_q");
  if (!spec.shape.fused() || q == nullptr ||
      features <= max_tensor_bytes / static_cast<int64_t>(sizeof(float)) / features) {
    return absl::OkStatus();
  }
  return ShapeError(
      *q, absl::StrCat("lead to a d x d product of at most ", max_tensor_bytes, " bytes"));
}

// core names "method" or "gd.lambda"; the client gets the path in its own message.
std::string MethodField(const MethodSpec& method, absl::string_view item,
                        absl::string_view core_field) {
  if (core_field == "method") return absl::StrCat(item, ".name");
  absl::string_view parameter = core_field;
  if (absl::ConsumePrefix(&parameter, absl::StrCat(method.name, "."))) {
    return absl::StrCat(item, ".parameters.", parameter);
  }
  return absl::StrCat(item, ".parameters");
}

}  // namespace

absl::StatusOr<ChosenMethod> DecodeMethod(const MethodSpec& method, absl::string_view field) {
  if (method.name.size() > kMaxMethodName) {
    return MustError(absl::StrCat(field, ".name"), "be the name of a method", Quoted(method.name));
  }
  for (const auto& [name, value] : method.parameters) {
    if (name.size() <= kMaxMethodName) continue;
    return FieldError(absl::StrCat(field, ".parameters"),
                      absl::StrCat("must be parameters of ", method.name, ", got ", Quoted(name)));
  }
  absl::StatusOr<ChosenMethod> chosen = ChooseMethod(method);
  if (chosen.ok()) return chosen;
  return WithField(chosen.status(), MethodField(method, field, FieldAtFault(chosen.status())));
}

absl::StatusOr<JobSpec> DecodeJob(const v1::Job& job, int64_t max_tensor_bytes) {
  JobSpec spec;
  ProblemDecoder decoder(max_tensor_bytes, &spec);
  ATTNPRUNE_RETURN_IF_ERROR(decoder.DecodeWeights(job.problem()));
  ATTNPRUNE_RETURN_IF_ERROR(CheckProduct(spec, max_tensor_bytes));
  ATTNPRUNE_ASSIGN_OR_RETURN(spec.shape.attention, DecodeAttention(job.problem().attention()));
  if (job.problem().has_scale()) spec.shape.scale = job.problem().scale();
  ATTNPRUNE_RETURN_IF_ERROR(decoder.DecodeBatches("job.calibration", job.calibration(),
                                                  &spec.calibration, &spec.shape.calibration));
  ATTNPRUNE_RETURN_IF_ERROR(
      decoder.DecodeBatches("job.held_out", job.held_out(), &spec.held_out, &spec.shape.held_out));
  spec.shape.held_out_fraction = job.held_out_fraction();
  ATTNPRUNE_ASSIGN_OR_RETURN(spec.shape.sparsity, DecodeSparsity(job.sparsity()));
  ATTNPRUNE_RETURN_IF_ERROR(Validate(spec.shape, kFields));
  spec.methods = DecodeMethods(job);
  spec.seed = job.seed();
  spec.evaluate_every = job.evaluate_every();
  return spec;
}

const JobTensor* InputWeight(absl::Span<const JobTensor> weights, absl::string_view matrix) {
  const auto found =
      std::find_if(weights.begin(), weights.end(),
                   [matrix](const JobTensor& tensor) { return tensor.matrix == matrix; });
  return found == weights.end() ? nullptr : &*found;
}

int EvaluateEvery(const JobSpec& job, int steps_at_most) {
  if (job.evaluate_every == 0) return DefaultEvaluateEvery(steps_at_most);
  return std::max(job.evaluate_every, 0);
}

DenseAttention WithinBudget(const v1::Estimate& estimate, int64_t budget) {
  if (budget == 0 || estimate.memory_keeping_attention_bytes() <= budget) {
    return DenseAttention::kKeep;
  }
  return estimate.memory_rebuilding_attention_bytes() <= budget ? DenseAttention::kRebuild
                                                                : DenseAttention::kRecompute;
}

}  // namespace attnprune
