#include "core/io/tensor_source.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/status_macros.h"
#include "core/io/mapping_guard.h"
#include "core/io/messages.h"

namespace attnprune {
namespace {

constexpr size_t kSuggestions = 3;
constexpr size_t kLongestComparedName = 200;  // keeps a hostile file from costing much

std::string Place(const TensorInfo& tensor) {
  return absl::StrCat(tensor.file, ": tensor ", Quoted(tensor.name));
}

size_t Elements(const TensorInfo& tensor) { return tensor.bytes.size() / SizeOf(tensor.dtype); }

absl::Status CheckRank(const TensorInfo& tensor, size_t least, size_t most,
                       absl::string_view form) {
  if (tensor.shape.size() >= least && tensor.shape.size() <= most) return absl::OkStatus();
  return Refuse(Place(tensor), ": shape must be ", form, ", got ", ShapeString(tensor.shape));
}

absl::StatusOr<Matrix> ToMatrixOf(const TensorInfo& tensor, Index rows, Index cols) {
  Matrix matrix(rows, cols);
  ATTNPRUNE_RETURN_IF_ERROR(
      Annotate(ToFloat32(tensor.dtype, tensor.bytes, matrix.flat()), Place(tensor)));
  ATTNPRUNE_RETURN_IF_ERROR(CheckMapped(tensor.bytes));
  return matrix;
}

// Levenshtein's.
size_t EditDistance(absl::string_view a, absl::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = std::exchange(row[0], i);
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t replaced = diagonal + (a[i - 1] != b[j - 1]);
      diagonal = row[j];
      row[j] = std::min({replaced, row[j] + 1, row[j - 1] + 1});
    }
  }
  return row[b.size()];
}

std::vector<std::string> Closest(absl::string_view name, absl::Span<const std::string> names) {
  std::vector<std::pair<size_t, std::string>> near;
  if (name.size() > kLongestComparedName) return {};
  for (const std::string& other : names) {
    if (other.size() > kLongestComparedName) continue;
    const size_t distance = EditDistance(name, other);
    if (distance <= name.size() / 3) near.emplace_back(distance, Quoted(other));
  }
  std::sort(near.begin(), near.end());
  near.resize(std::min(near.size(), kSuggestions));
  std::vector<std::string> quoted;
  quoted.reserve(near.size());
  for (auto& [distance, text] : near) quoted.push_back(std::move(text));
  return quoted;
}

}  // namespace

TensorInfo TensorOf(absl::string_view name, const Matrix& matrix) {
  TensorInfo tensor;
  tensor.name = std::string(name);
  tensor.dtype = DType::kF32;
  tensor.shape = {matrix.rows(), matrix.cols()};
  tensor.bytes = {reinterpret_cast<const char*>(matrix.data()),
                  matrix.flat().size() * sizeof(float)};
  return tensor;
}

std::string ShapeString(absl::Span<const Index> shape) {
  return absl::StrCat("[", absl::StrJoin(shape, ", "), "]");
}

absl::StatusOr<Index> ByteSize(DType dtype, absl::Span<const Index> shape) {
  const auto bits = static_cast<Index>(BitsOf(dtype));
  const Index of_byte = bits % 8 == 0 ? 1 : 8;  // counted are bytes, or the bits of packed types
  Index size = bits * of_byte / 8;
  for (const Index dimension : shape) {
    if (dimension < 0) {
      return Refuse("shape entries must be at least 0, got ", ShapeString(shape));
    }
    if (__builtin_mul_overflow(size, dimension, &size)) {
      return Refuse("shape ", ShapeString(shape), " of ", ToString(dtype),
                    " overflows 63 bits of bytes");
    }
  }
  if (size % of_byte == 0) return size / of_byte;
  return Refuse("shape ", ShapeString(shape), " of ", ToString(dtype),
                " must take whole bytes, got ", size, " bits");
}

absl::StatusOr<Matrix> ToMatrix(const TensorInfo& tensor) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckRank(tensor, 2, 2, "(rows, columns)"));
  return ToMatrixOf(tensor, tensor.shape[0], tensor.shape[1]);
}

absl::StatusOr<std::vector<float>> ToVector(const TensorInfo& tensor) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckRank(tensor, 1, 1, "(length)"));
  std::vector<float> values(Elements(tensor));
  ATTNPRUNE_RETURN_IF_ERROR(
      Annotate(ToFloat32(tensor.dtype, tensor.bytes, absl::MakeSpan(values)), Place(tensor)));
  ATTNPRUNE_RETURN_IF_ERROR(CheckMapped(tensor.bytes));
  return values;
}

absl::StatusOr<MatrixStack> ToStack(const TensorInfo& tensor) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckRank(tensor, 2, 3, "(n, d) or (k, n, d)"));
  const bool stacked = tensor.shape.size() == 3;
  MatrixStack stack;
  stack.count = stacked ? tensor.shape[0] : 1;
  stack.length = tensor.shape[tensor.shape.size() - 2];
  ATTNPRUNE_ASSIGN_OR_RETURN(stack.rows,
                             ToMatrixOf(tensor, stack.count * stack.length, tensor.shape.back()));
  return stack;
}

absl::StatusOr<std::vector<double>> ToDoubles(const TensorInfo& tensor) {
  std::vector<double> values(Elements(tensor));
  ATTNPRUNE_RETURN_IF_ERROR(
      Annotate(ToFloat64(tensor.dtype, tensor.bytes, absl::MakeSpan(values)), Place(tensor)));
  ATTNPRUNE_RETURN_IF_ERROR(CheckMapped(tensor.bytes));
  return values;
}

absl::StatusOr<Matrix> TensorSource::ReadMatrix(absl::string_view name) const {
  ATTNPRUNE_ASSIGN_OR_RETURN(const TensorInfo* tensor, Find(name));
  return ToMatrix(*tensor);
}

absl::StatusOr<std::vector<float>> TensorSource::ReadVector(absl::string_view name) const {
  ATTNPRUNE_ASSIGN_OR_RETURN(const TensorInfo* tensor, Find(name));
  return ToVector(*tensor);
}

absl::Status NoSuchTensor(absl::string_view file, absl::string_view name,
                          absl::Span<const std::string> names) {
  std::string message =
      absl::StrCat(file, ": no tensor ", Quoted(name), " among its ", names.size());
  const std::vector<std::string> closest = Closest(name, names);
  if (!closest.empty()) absl::StrAppend(&message, "; closest: ", absl::StrJoin(closest, ", "));
  return absl::NotFoundError(message);
}

}  // namespace attnprune
