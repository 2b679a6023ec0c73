#include "server/execution/problem_builder.h"

#include <algorithm>
#include <cstdint>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "core/methods/calibration_split.h"
#include "server/execution/finite_check.h"

namespace attnprune {
namespace {

constexpr int64_t kMaxEntries = int64_t{1} << 44;  // of a tensor; times 8 bytes is no overflow

using TensorRefs = google::protobuf::RepeatedPtrField<v1::TensorRef>;

// A tensor that cannot be had is lost: the API checked that it was there, and the job keeps it from
// collection.
absl::Status TensorError(absl::string_view field, const v1::TensorRef& tensor,
                         const absl::Status& status) {
  if (absl::IsNotFound(status)) {
    return WithField(absl::DataLossError(
                         absl::StrCat(field, ": tensor ", tensor.sha256(), " is no longer stored")),
                     field);
  }
  return WithField(absl::Status(status.code(), absl::StrCat(field, ": ", status.message())), field);
}

// Entries of `tensor`, checked against the rank and against overflow.
absl::StatusOr<int64_t> CountEntries(absl::string_view field, const v1::TensorRef& tensor,
                                     int min_rank, int max_rank) {
  bool valid = tensor.shape_size() >= min_rank && tensor.shape_size() <= max_rank;
  int64_t count = 1;
  for (const int64_t extent : tensor.shape()) {
    valid = valid && extent >= 1 && count <= kMaxEntries / extent;
    if (valid) count *= extent;
  }
  if (valid) return count;
  return FieldError(absl::StrCat(field, ".shape"), "must be that of a tensor of the problem");
}

// Reads tensors one by one.
class TensorReader {
 public:
  TensorReader(BlobStore* tensors, absl::FunctionRef<bool()> stopped,
               const std::string& spill_folder)
      : tensors_(tensors), stopped_(stopped), spill_folder_(spill_folder) {}

  absl::StatusOr<Matrix> ReadMatrix(absl::string_view field, const v1::TensorRef& tensor) {
    ATTNPRUNE_RETURN_IF_ERROR(Check(field, tensor, 2, 2));
    Matrix matrix(tensor.shape(0), tensor.shape(1));
    ATTNPRUNE_RETURN_IF_ERROR(Read(field, tensor, matrix.flat()));
    return matrix;
  }

  absl::StatusOr<std::vector<float>> ReadVector(absl::string_view field,
                                                const v1::TensorRef& tensor) {
    ATTNPRUNE_RETURN_IF_ERROR(Check(field, tensor, 1, 1));
    std::vector<float> vector(static_cast<size_t>(tensor.shape(0)));
    ATTNPRUNE_RETURN_IF_ERROR(Read(field, tensor, absl::MakeSpan(vector)));
    return vector;
  }

  // Each tensor is one batch (n, d) or k of one length (k, n, d).
  absl::StatusOr<Batches> ReadBatches(absl::string_view field, const TensorRefs& refs);

 private:
  // The stored size must be what shape and dtype say, before memory is taken for it.
  absl::Status Check(absl::string_view field, const v1::TensorRef& tensor, int min_rank,
                     int max_rank);
  absl::Status Read(absl::string_view field, const v1::TensorRef& tensor, absl::Span<float> out);
  absl::Status Append(absl::string_view field, const v1::TensorRef& tensor,
                      BatchesBuilder& builder);
  // The bytes, hashed before they are used the first time.
  absl::StatusOr<MappedFile> Map(absl::string_view field, const v1::TensorRef& tensor,
                                 int64_t size);

  BlobStore* const tensors_;
  const absl::FunctionRef<bool()> stopped_;
  const std::string spill_folder_;
  std::set<std::string> verified_;
};

absl::Status TensorReader::Check(absl::string_view field, const v1::TensorRef& tensor, int min_rank,
                                 int max_rank) {
  if (stopped_()) return absl::CancelledError("the job is to stop");
  const absl::optional<DType> dtype = ToCore(tensor.dtype());
  if (!dtype.has_value()) {
    return FieldError(
        absl::StrCat(field, ".dtype"),
        absl::StrCat("must be F64, F32, F16 or BF16, got ", static_cast<int>(tensor.dtype())));
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(const int64_t count, CountEntries(field, tensor, min_rank, max_rank));
  const absl::StatusOr<int64_t> stored = tensors_->SizeOf(tensor.sha256());
  if (!stored.ok()) return TensorError(field, tensor, stored.status());
  const int64_t expected = count * static_cast<int64_t>(SizeOf(*dtype));
  if (*stored == expected) return absl::OkStatus();
  return TensorError(field, tensor,
                     absl::DataLossError(absl::StrCat("tensor ", tensor.sha256(), " must have ",
                                                      expected, " bytes, got ", *stored)));
}

absl::StatusOr<MappedFile> TensorReader::Map(absl::string_view field, const v1::TensorRef& tensor,
                                             int64_t size) {
  if (verified_.insert(tensor.sha256()).second) {
    const absl::Status status = tensors_->Verify(tensor.sha256());
    if (!status.ok()) return TensorError(field, tensor, status);
  }
  absl::StatusOr<MappedFile> file = tensors_->Map(tensor.sha256(), size);
  if (!file.ok()) return TensorError(field, tensor, file.status());
  return file;
}

absl::Status TensorReader::Read(absl::string_view field, const v1::TensorRef& tensor,
                                absl::Span<float> out) {
  const DType dtype = *ToCore(tensor.dtype());  // Check has seen it
  const auto size = static_cast<int64_t>(out.size() * SizeOf(dtype));
  ATTNPRUNE_ASSIGN_OR_RETURN(const MappedFile file, Map(field, tensor, size));
  ATTNPRUNE_RETURN_IF_ERROR(ToFloat32(dtype, file.bytes(), out));
  return CheckFinite(field, tensor, out);
}

absl::Status TensorReader::Append(absl::string_view field, const v1::TensorRef& tensor,
                                  BatchesBuilder& builder) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const int64_t count, CountEntries(field, tensor, 2, 3));
  const DType dtype = *ToCore(tensor.dtype());
  const size_t entry = SizeOf(dtype);
  ATTNPRUNE_ASSIGN_OR_RETURN(const MappedFile file,
                             Map(field, tensor, count * static_cast<int64_t>(entry)));
  const int64_t features = *tensor.shape().rbegin();
  const auto read = [&](Index first, MutableMatrixView out) -> absl::Status {
    if (stopped_()) return absl::CancelledError("the job is to stop");
    const int64_t begin = first * features;
    const absl::Span<float> values(out.data(), static_cast<size_t>(out.size()));
    ATTNPRUNE_RETURN_IF_ERROR(ToFloat32(
        dtype, file.bytes().subspan(static_cast<size_t>(begin) * entry, values.size() * entry),
        values));
    return CheckFinite(field, tensor, values, begin);
  };
  return builder.Append(count / features, read);
}

absl::StatusOr<Batches> TensorReader::ReadBatches(absl::string_view field, const TensorRefs& refs) {
  if (refs.empty()) return Batches();
  std::vector<Index> lengths;
  Index tokens = 0;
  for (int i = 0; i < refs.size(); ++i) {
    const std::string item = absl::StrCat(field, "[", i, "]");
    ATTNPRUNE_RETURN_IF_ERROR(Check(item, refs[i], 2, 3));
    const auto& shape = refs[i].shape();
    if (*shape.rbegin() != *refs[0].shape().rbegin()) {
      return FieldError(absl::StrCat(item, ".shape"), "must end in the features of the first one");
    }
    const Index batches = shape.size() == 3 ? shape[0] : 1, length = shape[shape.size() - 2];
    lengths.insert(lengths.end(), static_cast<size_t>(batches), length);
    tokens += batches * length;
  }
  const Index features = *refs[0].shape().rbegin();
  ATTNPRUNE_ASSIGN_OR_RETURN(BatchesBuilder builder,
                             BatchesBuilder::Create(tokens, features, spill_folder_));
  for (int i = 0; i < refs.size(); ++i) {
    ATTNPRUNE_RETURN_IF_ERROR(Append(absl::StrCat(field, "[", i, "]"), refs[i], builder));
  }
  return builder.Finish(std::move(lengths));
}

absl::StatusOr<FusedWeights> ReadFused(const v1::FusedProblem& fused, TensorReader& reader) {
  const std::string parent = "job.problem.fused";
  if (fused.has_weight()) {
    FusedWeights weights;
    ATTNPRUNE_ASSIGN_OR_RETURN(weights.w, reader.ReadMatrix(parent + ".weight", fused.weight()));
    return weights;
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(Matrix q, reader.ReadMatrix(parent + ".q_factor", fused.q_factor()));
  ATTNPRUNE_ASSIGN_OR_RETURN(Matrix k, reader.ReadMatrix(parent + ".k_factor", fused.k_factor()));
  return FusedFromFactors(std::move(q), std::move(k));
}

absl::optional<Rope> RopeOf(const v1::ProjectionProblem& layer) {
  if (!layer.has_rope()) return absl::nullopt;
  Rope rope;
  if (layer.rope().theta() != 0) rope.theta = layer.rope().theta();
  if (layer.rope().layout() == v1::INTERLEAVED) rope.layout = RopeLayout::kInterleaved;
  return rope;
}

absl::StatusOr<ProjectionWeights> ReadProjections(const v1::ProjectionProblem& layer,
                                                  TensorReader& reader) {
  const std::string parent = "job.problem.projections";
  ProjectionWeights weights;
  ATTNPRUNE_ASSIGN_OR_RETURN(weights.w_q, reader.ReadMatrix(parent + ".w_q", layer.w_q()));
  ATTNPRUNE_ASSIGN_OR_RETURN(weights.w_k, reader.ReadMatrix(parent + ".w_k", layer.w_k()));
  if (layer.has_b_q()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(weights.b_q, reader.ReadVector(parent + ".b_q", layer.b_q()));
  }
  if (layer.has_b_k()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(weights.b_k, reader.ReadVector(parent + ".b_k", layer.b_k()));
  }
  weights.heads = layer.heads();
  weights.kv_heads = layer.kv_heads() == 0 ? layer.heads() : layer.kv_heads();
  weights.rope = RopeOf(layer);
  return weights;
}

AttentionMask ToCore(const v1::AttentionMask& attention) {
  switch (attention.kind()) {
    case v1::FULL:
      return {AttentionMask::Kind::kFull, 0};
    case v1::BLOCK:
      return {AttentionMask::Kind::kBlock, attention.size()};
    case v1::WINDOW:
      return {AttentionMask::Kind::kWindow, attention.size()};
    default:
      return {AttentionMask::Kind::kCausal, 0};
  }
}

Sparsity ToCore(const v1::Sparsity& sparsity) {
  if (!sparsity.has_n_of_m()) return Sparsity::Fraction(sparsity.fraction());
  return Sparsity::NOfM(sparsity.n_of_m().n(), sparsity.n_of_m().m());
}

// core/ names its own fields. What is checked of the job and of its tensors never gets there, a
// product of two factors that overflows does.
absl::Status ValidateAsField(const Problem& problem) {
  absl::Status status = Validate(problem);
  if (status.ok()) return status;
  return WithField(absl::Status(status.code(), absl::StrCat("job.problem: ", status.message())),
                   "job.problem");
}

absl::Status HoldOut(double fraction, Problem* problem) {
  const Index all = problem->calibration.count();
  ATTNPRUNE_ASSIGN_OR_RETURN(CalibrationSplit split,
                             SplitCalibration(problem->calibration, fraction, all));
  problem->calibration = std::move(split.fit[0]);
  problem->held_out = std::move(split.validation);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Problem> BuildProblem(const v1::Job& job, BlobStore* tensors,
                                     absl::FunctionRef<bool()> stopped,
                                     const std::string& spill_folder) {
  TensorReader reader(tensors, stopped, spill_folder);
  Problem problem;
  if (job.problem().has_projections()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(problem.weights,
                               ReadProjections(job.problem().projections(), reader));
  } else {
    ATTNPRUNE_ASSIGN_OR_RETURN(problem.weights, ReadFused(job.problem().fused(), reader));
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(problem.calibration,
                             reader.ReadBatches("job.calibration", job.calibration()));
  ATTNPRUNE_ASSIGN_OR_RETURN(problem.held_out, reader.ReadBatches("job.held_out", job.held_out()));
  problem.attention = ToCore(job.problem().attention());
  if (job.problem().has_scale()) problem.scale = job.problem().scale();
  problem.sparsity = ToCore(job.sparsity());
  ATTNPRUNE_RETURN_IF_ERROR(ValidateAsField(problem));
  if (job.held_out_fraction() > 0) {
    ATTNPRUNE_RETURN_IF_ERROR(HoldOut(job.held_out_fraction(), &problem));
  }
  return problem;
}

int64_t SpilledBytes(const v1::Job& job) {
  constexpr double kMost = 1e18;
  double entries = 0;
  for (const auto* tensors : {&job.calibration(), &job.held_out()}) {
    for (const v1::TensorRef& tensor : *tensors) {
      double size = 1;
      for (const int64_t extent : tensor.shape()) size *= static_cast<double>(extent);
      entries += size;
    }
  }
  return static_cast<int64_t>(std::min(2 * sizeof(float) * entries, kMost));
}

v1::HeldOutSource HeldOutSourceOf(const v1::Job& job, const Problem& problem) {
  if (!job.held_out().empty()) return v1::HELD_OUT_GIVEN;
  return problem.held_out.count() > 0 ? v1::HELD_OUT_SPLIT : v1::HELD_OUT_NONE;
}

const v1::TensorRef* InputWeight(const v1::Problem& problem, absl::string_view matrix) {
  if (problem.has_projections()) {
    return matrix == "w_q" ? &problem.projections().w_q() : &problem.projections().w_k();
  }
  const v1::FusedProblem& fused = problem.fused();
  if (matrix == "w_q") return &fused.q_factor();
  if (matrix == "w_k") return &fused.k_factor();
  return fused.has_weight() ? &fused.weight() : nullptr;
}

absl::optional<DType> ToCore(v1::DType dtype) {
  switch (dtype) {
    case v1::F64:
      return DType::kF64;
    case v1::F32:
      return DType::kF32;
    case v1::F16:
      return DType::kF16;
    case v1::BF16:
      return DType::kBF16;
    default:
      return absl::nullopt;
  }
}

}  // namespace attnprune
