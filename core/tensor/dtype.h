// Element types of stored tensors and their conversion to the float32 and double used here.
#ifndef ATTNPRUNE_CORE_TENSOR_DTYPE_H_
#define ATTNPRUNE_CORE_TENSOR_DTYPE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"

namespace attnprune {

// Every dtype of the safetensors format, huggingface/safetensors 0.8. All are little-endian in
// files. Those below 8 bits are packed.
enum class DType {
  kF4,
  kF6E2M3,
  kF6E3M2,
  kBool,
  kU8,
  kI8,
  kF8E5M2,
  kF8E4M3,
  kF8E8M0,
  kF8E4M3Fnuz,
  kF8E5M2Fnuz,
  kI16,
  kU16,
  kF16,
  kBF16,
  kI32,
  kU32,
  kF32,
  kF64,
  kI64,
  kU64,
  kC64,
};

size_t BitsOf(DType dtype);               // of one element: 4, 6, 8, 16, 32 or 64
size_t SizeOf(DType dtype);               // bytes that hold one element: 1, 2, 4 or 8
absl::string_view ToString(DType dtype);  // the safetensors name: "F8_E4M3", "BF16", ...
absl::optional<DType> ParseDType(absl::string_view name);  // nullopt: no such name
bool IsConvertible(DType dtype);  // F64, F32, F16 or BF16: what the functions below take

// Converts bytes (any alignment; bytes.size() = out.size() * SizeOf(dtype)) to float32 or double.
// Widening is exact; F64 to float32 rounds once, to nearest even, overflowing to infinity. NaN
// stays NaN of the same sign; its payload may change. INVALID_ARGUMENT on other dtypes or sizes.
absl::Status ToFloat32(DType dtype, absl::Span<const char> bytes, absl::Span<float> out);
absl::Status ToFloat64(DType dtype, absl::Span<const char> bytes, absl::Span<double> out);

// Whole numbers of any width and sign, and BOOL as 0 and 1. INVALID_ARGUMENT on a float type, a
// size that is no multiple of the element's, and a U64 value of 2^63 or more.
absl::StatusOr<std::vector<int64_t>> ToIntegers(DType dtype, absl::Span<const char> bytes);

// The way back: rounds to nearest even, subnormals included, overflowing to infinity.
absl::Status FromFloat32(absl::Span<const float> values, DType dtype, absl::Span<char> bytes);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_TENSOR_DTYPE_H_
