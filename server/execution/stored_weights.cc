#include "server/execution/stored_weights.h"

#include <cstdint>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/kernels/finite.h"
#include "core/tensor/dtype.h"

namespace attnprune {
namespace {

// Where float32 cannot tell a kept weight from its input, the input's bits stay.
absl::Status KeepDoubles(const PrunedMatrix& matrix, const JobTensor& input,
                         const BlobStore& tensors, std::vector<char>* bytes) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const MappedFile file,
                             tensors.Map(input.sha256, static_cast<int64_t>(bytes->size())));
  for (Index i = 0; i < matrix.weights.size(); ++i) {
    if (!matrix.mask.kept(i)) continue;
    const auto offset = static_cast<size_t>(i) * sizeof(double);
    double before;
    std::memcpy(&before, file.bytes().data() + offset, sizeof(double));
    if (static_cast<float>(before) != matrix.weights.data()[i]) continue;
    std::memcpy(bytes->data() + offset, &before, sizeof(double));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<char>> Round(const JobTensor* input, const BlobStore& tensors,
                                        PrunedMatrix* matrix) {
  const DType dtype = input == nullptr ? DType::kF32 : input->dtype;
  std::vector<char> bytes(static_cast<size_t>(matrix->weights.size()) * SizeOf(dtype));
  ATTNPRUNE_RETURN_IF_ERROR(FromFloat32(matrix->weights.flat(), dtype, absl::MakeSpan(bytes)));
  if (dtype == DType::kF64) {
    ATTNPRUNE_RETURN_IF_ERROR(KeepDoubles(*matrix, *input, tensors, &bytes));
  }
  ATTNPRUNE_RETURN_IF_ERROR(ToFloat32(dtype, bytes, matrix->weights.flat()));
  if (AllFinite(matrix->weights.flat())) return bytes;
  return absl::OutOfRangeError(
      absl::StrCat("a pruned weight of ", matrix->name, " is too large for ", ToString(dtype)));
}

}  // namespace

absl::StatusOr<std::vector<std::vector<char>>> RoundToStored(absl::Span<const JobTensor> inputs,
                                                             const BlobStore& tensors,
                                                             PruneResult* result) {
  std::vector<std::vector<char>> all;
  for (PrunedMatrix& matrix : result->matrices) {
    ATTNPRUNE_ASSIGN_OR_RETURN(std::vector<char> bytes,
                               Round(InputWeight(inputs, matrix.name), tensors, &matrix));
    all.push_back(std::move(bytes));
  }
  return all;
}

}  // namespace attnprune
