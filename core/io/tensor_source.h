// What every container of named tensors has in common: finding a tensor and reading it as numbers.
#ifndef ATTNPRUNE_CORE_IO_TENSOR_SOURCE_H_
#define ATTNPRUNE_CORE_IO_TENSOR_SOURCE_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/tensor/dtype.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// A named tensor and a window on its raw bytes: row-major, little-endian, of any alignment (never
// cast the pointer; use ToFloat32). Owns no bytes.
struct TensorInfo {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<Index> shape;  // empty: a scalar
  absl::Span<const char> bytes;
  std::string file;  // where it was read, for messages; the writer ignores it
};

// A float32 tensor of that name over the matrix's own storage, which must outlive it.
TensorInfo TensorOf(absl::string_view name, const Matrix& matrix);

// "[2, 3]"
std::string ShapeString(absl::Span<const Index> shape);

// The bytes a tensor of that dtype and shape takes. INVALID_ARGUMENT, with no file name, if a
// dimension is negative, the product does not fit 63 bits, or is no whole number of bytes.
absl::StatusOr<Index> ByteSize(DType dtype, absl::Span<const Index> shape);

// k sequences of n rows each, one below the other: (k * n) x d.
struct MatrixStack {
  Matrix rows;
  Index count = 0;   // k
  Index length = 0;  // n
};

// Conversions to float32 and double. INVALID_ARGUMENT, naming file and tensor, if the dtype is not
// a float type of IsConvertible or the rank is not the one asked for.
absl::StatusOr<Matrix> ToMatrix(const TensorInfo& tensor);              // rank 2
absl::StatusOr<std::vector<float>> ToVector(const TensorInfo& tensor);  // rank 1
absl::StatusOr<MatrixStack> ToStack(const TensorInfo& tensor);  // (k, n, d); (n, d) has k = 1
absl::StatusOr<std::vector<double>> ToDoubles(const TensorInfo& tensor);  // any rank; F64 is exact

// Immutable once opened; any number of threads may read.
class TensorSource {
 public:
  virtual ~TensorSource() = default;
  // Valid as long as the source. NOT_FOUND names the file, the tensor and the closest names there
  // are.
  virtual absl::StatusOr<const TensorInfo*> Find(absl::string_view name) const = 0;
  virtual bool Contains(absl::string_view name) const = 0;
  virtual std::vector<std::string> names() const = 0;  // sorted

  absl::StatusOr<Matrix> ReadMatrix(absl::string_view name) const;
  absl::StatusOr<std::vector<float>> ReadVector(absl::string_view name) const;

 protected:
  TensorSource() = default;
  TensorSource(const TensorSource&) = default;
  TensorSource(TensorSource&&) = default;
  TensorSource& operator=(const TensorSource&) = default;
  TensorSource& operator=(TensorSource&&) = default;
};

// The error of Find: file says where, names what there is.
absl::Status NoSuchTensor(absl::string_view file, absl::string_view name,
                          absl::Span<const std::string> names);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_IO_TENSOR_SOURCE_H_
