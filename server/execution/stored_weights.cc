#include "server/execution/stored_weights.h"

#include <utility>

#include "core/base/status_macros.h"
#include "core/kernels/stored_values.h"
#include "core/tensor/dtype.h"
#include "server/execution/tensor_files.h"

namespace attnprune {
namespace {

absl::StatusOr<std::vector<char>> Round(const JobTensor* input, const BlobStore& tensors,
                                        PrunedMatrix* matrix) {
  const DType dtype = input == nullptr ? DType::kF32 : input->dtype;
  MappedFile dense;
  if (dtype == DType::kF64) {
    ATTNPRUNE_ASSIGN_OR_RETURN(
        dense,
        tensors.Map(input->sha256, matrix->weights.size() * static_cast<Index>(sizeof(double))));
  }
  absl::StatusOr<std::vector<char>> rounded =
      RoundToStored(matrix->name, dtype, matrix->mask, dense.bytes(), matrix->weights.flat());
  if (input != nullptr) ATTNPRUNE_RETURN_IF_ERROR(CheckRead(*input, dense));
  return rounded;
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
