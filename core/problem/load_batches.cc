#include "core/problem/load_batches.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/types/span.h"
#include "core/base/status_macros.h"
#include "core/io/messages.h"
#include "core/io/npy.h"
#include "core/io/safetensors.h"

namespace attnprune {
namespace {

// `place` names the file and the tensor.
absl::Status CheckShape(absl::string_view place, absl::Span<const Index> shape) {
  const bool rank_fits = shape.size() == 2 || shape.size() == 3;
  const bool empty = std::find(shape.begin(), shape.end(), 0) != shape.end();
  if (rank_fits && !empty) return absl::OkStatus();
  return Refuse(place, " must have the shape (n, d) or (k, n, d), none of them 0, got ",
                ShapeString(shape));
}

// k sequences of n tokens, (k * n) x d below each other.
Batches SplitEvenly(Matrix rows, Index n) {
  const size_t k = static_cast<size_t>(rows.rows() / n);
  return Batches(std::move(rows), std::vector<Index>(k, n));
}

// The tensor of that name or, without one, the only one of a float type.
absl::StatusOr<const TensorInfo*> Choose(const SafetensorsFile& file, absl::string_view name,
                                         absl::string_view path) {
  if (!name.empty()) return file.Find(name);
  std::vector<const TensorInfo*> floats;
  for (const TensorInfo& tensor : file.tensors()) {
    if (IsConvertible(tensor.dtype)) floats.push_back(&tensor);
  }
  if (floats.size() == 1) return floats.front();
  constexpr size_t kListed = 20;
  const size_t listed = std::min(floats.size(), kListed);
  const auto quote = [](std::string* out, const TensorInfo* tensor) {
    absl::StrAppend(out, Quoted(tensor->name));
  };
  return Refuse(
      path, ": tensor must be named unless exactly one is of a float type, got ", floats.size(),
      listed > 0 ? ": " : "",
      absl::StrJoin(floats.begin(), floats.begin() + static_cast<Index>(listed), ", ", quote),
      listed < floats.size() ? ", ..." : "");
}

absl::StatusOr<Batches> LoadSafetensors(const std::string& path, absl::string_view name) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const SafetensorsFile file, SafetensorsFile::Open(path));
  ATTNPRUNE_ASSIGN_OR_RETURN(const TensorInfo* tensor, Choose(file, name, path));
  ATTNPRUNE_RETURN_IF_ERROR(
      CheckShape(absl::StrCat(path, ": tensor ", Quoted(tensor->name)), tensor->shape));
  ATTNPRUNE_ASSIGN_OR_RETURN(MatrixStack stack, ToStack(*tensor));
  return SplitEvenly(std::move(stack.rows), stack.length);
}

absl::StatusOr<Batches> LoadNpy(const std::string& path, absl::string_view name) {
  if (!name.empty()) {
    return Refuse(path, ": tensor must not be named, as a .npy file has one without a name, got ",
                  Quoted(name));
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(NpyArray array, ReadNpy(path));
  ATTNPRUNE_RETURN_IF_ERROR(CheckShape(absl::StrCat(path, ": array"), array.shape));
  return SplitEvenly(std::move(array.values), array.shape[array.shape.size() - 2]);
}

}  // namespace

absl::StatusOr<Batches> LoadBatches(const std::string& path, absl::string_view tensor) {
  if (absl::EndsWith(path, ".safetensors")) return LoadSafetensors(path, tensor);
  if (absl::EndsWith(path, ".npy")) return LoadNpy(path, tensor);
  return Refuse(Quoted(path), ": file name must end in .safetensors or .npy");
}

}  // namespace attnprune
