#include "server/execution/job_spec.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "core/problem/shape_check.h"

namespace attnprune {
namespace {

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

absl::StatusOr<Rope> DecodeRope(const v1::Rope& rope) {
  Rope decoded;
  if (rope.theta() != 0) decoded.theta = rope.theta();
  switch (rope.layout()) {
    case v1::ROPE_LAYOUT_UNSPECIFIED:
    case v1::ROTATE_HALF:
      return decoded;
    case v1::INTERLEAVED:
      decoded.layout = RopeLayout::kInterleaved;
      return decoded;
    default:
      return FieldError("job.problem.projections.rope.layout",
                        absl::StrCat("must be ROTATE_HALF or INTERLEAVED, got ",
                                     static_cast<int>(rope.layout())));
  }
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
  // The extents of a weight with as many of them. matrix: its name in Problem.
  absl::StatusOr<std::vector<Index>> DecodeWeight(absl::string_view field, const char* matrix,
                                                  const v1::TensorRef& ref, size_t rank);
  absl::Status DecodeMatrix(absl::string_view field, const char* matrix, const v1::TensorRef& ref,
                            MatrixShape* shape);

  const int64_t max_tensor_bytes_;
  JobSpec& spec_;
};

absl::StatusOr<std::vector<Index>> ProblemDecoder::DecodeWeight(absl::string_view field,
                                                                const char* matrix,
                                                                const v1::TensorRef& ref,
                                                                size_t rank) {
  ATTNPRUNE_ASSIGN_OR_RETURN(JobTensor tensor, DecodeTensor(field, ref, max_tensor_bytes_));
  if (tensor.extents.size() != rank) {
    return ShapeError(tensor, rank == 1 ? "have 1 entry" : "have 2 entries");
  }
  tensor.matrix = matrix;
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
  if (!layer.has_rope()) return absl::OkStatus();
  ATTNPRUNE_ASSIGN_OR_RETURN(shape.rope, DecodeRope(layer.rope()));
  return absl::OkStatus();
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

}  // namespace

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
