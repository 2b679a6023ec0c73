#include "server/execution/problem_builder.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "core/kernels/finite.h"
#include "core/methods/calibration_split.h"
#include "server/execution/job_tensor.h"
#include "server/execution/tensor_files.h"

namespace attnprune {
namespace {

// The rule of core's Validate, in the words of the API's fields.
absl::Status CheckRowsDiffer(absl::Span<const JobTensor> tensors,
                             absl::Span<const BatchGroup> groups, const Batches& batches) {
  Index first = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    for (Index j = 0; j < groups[i].batches; ++j) {
      const absl::optional<std::string> equal = EqualRows(batches.batch(first + j));
      if (!equal.has_value()) continue;
      return MustError(tensors[i].field, "have rows that differ",
                       absl::StrCat(*equal, " at batch ", j));
    }
    first += groups[i].batches;
  }
  return absl::OkStatus();
}

// Reads tensors one by one.
class TensorReader {
 public:
  TensorReader(BlobStore* tensors, absl::FunctionRef<bool()> stopped,
               const std::string& spill_folder)
      : tensors_(tensors), stopped_(stopped), spill_folder_(spill_folder) {}

  absl::StatusOr<Matrix> ReadMatrix(const JobTensor& tensor) {
    ATTNPRUNE_RETURN_IF_ERROR(Check(tensor));
    Matrix matrix(tensor.extents[0], tensor.extents[1]);
    ATTNPRUNE_RETURN_IF_ERROR(Read(tensor, matrix.flat()));
    return matrix;
  }

  // Empty without a tensor.
  absl::StatusOr<std::vector<float>> ReadVector(const JobTensor* tensor) {
    std::vector<float> vector;
    if (tensor == nullptr) return vector;
    ATTNPRUNE_RETURN_IF_ERROR(Check(*tensor));
    vector.resize(static_cast<size_t>(tensor->entries()));
    ATTNPRUNE_RETURN_IF_ERROR(Read(*tensor, absl::MakeSpan(vector)));
    return vector;
  }

  // groups: the batches of each tensor.
  absl::StatusOr<Batches> ReadBatches(absl::Span<const JobTensor> tensors,
                                      absl::Span<const BatchGroup> groups);

 private:
  // The stored size must be what shape and dtype say, before memory is taken for it.
  absl::Status Check(const JobTensor& tensor);
  absl::Status Read(const JobTensor& tensor, absl::Span<float> out);
  absl::Status Append(const JobTensor& tensor, BatchesBuilder& builder);
  // The bytes, hashed before they are used the first time.
  absl::StatusOr<MappedFile> Map(const JobTensor& tensor);

  BlobStore* const tensors_;
  const absl::FunctionRef<bool()> stopped_;
  const std::string spill_folder_;
  std::set<std::string> verified_;
};

absl::Status TensorReader::Check(const JobTensor& tensor) {
  if (stopped_()) return absl::CancelledError("the job is to stop");
  const absl::StatusOr<int64_t> stored = tensors_->SizeOf(tensor.sha256);
  if (!stored.ok()) return TensorError(tensor, stored.status());
  if (*stored == tensor.bytes()) return absl::OkStatus();
  return TensorError(tensor,
                     absl::DataLossError(absl::StrCat("tensor ", tensor.sha256, " must have ",
                                                      tensor.bytes(), " bytes, got ", *stored)));
}

absl::StatusOr<MappedFile> TensorReader::Map(const JobTensor& tensor) {
  if (verified_.insert(tensor.sha256).second) {
    ATTNPRUNE_RETURN_IF_ERROR(VerifyTensor(tensors_, tensor));
  }
  return MapTensor(*tensors_, tensor);
}

absl::Status TensorReader::Read(const JobTensor& tensor, absl::Span<float> out) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const MappedFile file, Map(tensor));
  ATTNPRUNE_RETURN_IF_ERROR(ToFloat32(tensor.dtype, file.bytes(), out));
  ATTNPRUNE_RETURN_IF_ERROR(CheckRead(tensor, file));
  return CheckFinite(tensor, out);
}

absl::Status TensorReader::Append(const JobTensor& tensor, BatchesBuilder& builder) {
  const size_t entry = SizeOf(tensor.dtype);
  ATTNPRUNE_ASSIGN_OR_RETURN(const MappedFile file, Map(tensor));
  const Index features = tensor.extents.back();
  const auto read = [&](Index first, MutableMatrixView out) -> absl::Status {
    if (stopped_()) return absl::CancelledError("the job is to stop");
    const int64_t begin = first * features;
    const absl::Span<float> values(out.data(), static_cast<size_t>(out.size()));
    ATTNPRUNE_RETURN_IF_ERROR(ToFloat32(
        tensor.dtype,
        file.bytes().subspan(static_cast<size_t>(begin) * entry, values.size() * entry), values));
    ATTNPRUNE_RETURN_IF_ERROR(CheckRead(tensor, file));
    return CheckFinite(tensor, values, begin);
  };
  return builder.Append(tensor.entries() / features, read);
}

absl::StatusOr<Batches> TensorReader::ReadBatches(absl::Span<const JobTensor> tensors,
                                                  absl::Span<const BatchGroup> groups) {
  if (tensors.empty()) return Batches();
  std::vector<Index> lengths;
  Index tokens = 0;
  for (size_t i = 0; i < tensors.size(); ++i) {
    ATTNPRUNE_RETURN_IF_ERROR(Check(tensors[i]));
    lengths.insert(lengths.end(), static_cast<size_t>(groups[i].batches), groups[i].length);
    tokens += groups[i].batches * groups[i].length;
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(
      BatchesBuilder builder,
      BatchesBuilder::Create(tokens, groups.front().features, spill_folder_));
  for (const JobTensor& tensor : tensors) ATTNPRUNE_RETURN_IF_ERROR(Append(tensor, builder));
  ATTNPRUNE_ASSIGN_OR_RETURN(Batches batches, builder.Finish(std::move(lengths)));
  ATTNPRUNE_RETURN_IF_ERROR(CheckRowsDiffer(tensors, groups, batches));
  return batches;
}

// The product of finite factors can overflow.
absl::StatusOr<FusedWeights> Multiply(Matrix q, Matrix k) {
  ATTNPRUNE_ASSIGN_OR_RETURN(FusedWeights weights, FusedFromFactors(std::move(q), std::move(k)));
  if (AllFinite(weights.w.flat())) return weights;
  return FieldError("job.problem.fused",
                    "must have factors whose product is finite in float32, got one that is not");
}

absl::StatusOr<FusedWeights> ReadFused(const JobSpec& job, TensorReader& reader) {
  if (const JobTensor* weight = InputWeight(job.weights, "w")) {
    FusedWeights weights;
    ATTNPRUNE_ASSIGN_OR_RETURN(weights.w, reader.ReadMatrix(*weight));
    return weights;
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(Matrix q, reader.ReadMatrix(*InputWeight(job.weights, "w_q")));
  ATTNPRUNE_ASSIGN_OR_RETURN(Matrix k, reader.ReadMatrix(*InputWeight(job.weights, "w_k")));
  return Multiply(std::move(q), std::move(k));
}

absl::StatusOr<QkNorm> ReadNorm(const JobSpec& job, const ProjectionShape& shape,
                                TensorReader& reader) {
  QkNorm norm = {
      .kind = shape.qk_norm->kind, .group = shape.qk_norm->group, .eps = shape.qk_norm->eps};
  const auto read = [&](const char* name, Index outputs,
                        double offset) -> absl::StatusOr<std::vector<float>> {
    ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<float> stored,
                               reader.ReadVector(InputWeight(job.weights, name)));
    return TileNorm(stored, outputs, offset);
  };
  const double offset = job.norm_weight_offset;
  ATTNPRUNE_ASSIGN_OR_RETURN(norm.q_weight, read("qk_norm.q_weight", shape.w_q.rows, offset));
  ATTNPRUNE_ASSIGN_OR_RETURN(norm.k_weight, read("qk_norm.k_weight", shape.w_k.rows, offset));
  ATTNPRUNE_ASSIGN_OR_RETURN(norm.q_bias, read("qk_norm.q_bias", shape.w_q.rows, 0));
  ATTNPRUNE_ASSIGN_OR_RETURN(norm.k_bias, read("qk_norm.k_bias", shape.w_k.rows, 0));
  return norm;
}

absl::StatusOr<ProjectionWeights> ReadProjections(const JobSpec& job, TensorReader& reader) {
  const ProjectionShape& shape = std::get<ProjectionShape>(job.shape.weights);
  ProjectionWeights weights;
  ATTNPRUNE_ASSIGN_OR_RETURN(weights.w_q, reader.ReadMatrix(*InputWeight(job.weights, "w_q")));
  ATTNPRUNE_ASSIGN_OR_RETURN(weights.w_k, reader.ReadMatrix(*InputWeight(job.weights, "w_k")));
  ATTNPRUNE_ASSIGN_OR_RETURN(weights.b_q, reader.ReadVector(InputWeight(job.weights, "b_q")));
  ATTNPRUNE_ASSIGN_OR_RETURN(weights.b_k, reader.ReadVector(InputWeight(job.weights, "b_k")));
  weights.heads = shape.heads;
  weights.kv_heads = shape.kv_heads;
  weights.rope = shape.rope;
  weights.softcap = shape.softcap;
  weights.clip_qkv = shape.clip_qkv;
  weights.alibi = shape.alibi;
  if (!shape.qk_norm.has_value()) return weights;
  ATTNPRUNE_ASSIGN_OR_RETURN(weights.qk_norm, ReadNorm(job, shape, reader));
  return weights;
}

absl::Status HoldOut(double fraction, Problem* problem) {
  const Batches& all = problem->calibration;
  const SplitIndices split = SplitBatches(all.count(), fraction, /*per_part=*/all.count());
  ATTNPRUNE_ASSIGN_OR_RETURN(Batches learned_from, all.Pick(split.fit[0]));
  ATTNPRUNE_ASSIGN_OR_RETURN(problem->held_out, all.Pick(split.validation));
  problem->calibration = std::move(learned_from);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Problem> BuildProblem(const JobSpec& job, BlobStore* tensors,
                                     absl::FunctionRef<bool()> stopped,
                                     const std::string& spill_folder) {
  TensorReader reader(tensors, stopped, spill_folder);
  Problem problem;
  if (job.shape.fused()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(problem.weights, ReadFused(job, reader));
  } else {
    ATTNPRUNE_ASSIGN_OR_RETURN(problem.weights, ReadProjections(job, reader));
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(problem.calibration,
                             reader.ReadBatches(job.calibration, job.shape.calibration));
  ATTNPRUNE_ASSIGN_OR_RETURN(problem.held_out,
                             reader.ReadBatches(job.held_out, job.shape.held_out));
  problem.attention = job.shape.attention;
  problem.scale = job.shape.scale;
  problem.sparsity = job.shape.sparsity;
  if (job.shape.held_out_fraction > 0) {
    ATTNPRUNE_RETURN_IF_ERROR(HoldOut(job.shape.held_out_fraction, &problem));
  }
  return problem;
}

int64_t SpilledBytes(const ProblemShape& shape) {
  constexpr double kMost = 1e18;
  const double entries = (CalibrationSize(shape).tokens + HeldOutSize(shape).tokens) *
                         static_cast<double>(shape.features());
  return static_cast<int64_t>(std::min(std::ceil(2 * sizeof(float) * entries), kMost));
}

v1::HeldOutSource HeldOutSourceOf(const JobSpec& job, const Problem& problem) {
  if (!job.held_out.empty()) return v1::HELD_OUT_GIVEN;
  return problem.held_out.count() > 0 ? v1::HELD_OUT_SPLIT : v1::HELD_OUT_NONE;
}

}  // namespace attnprune
