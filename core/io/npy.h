// Reader of NumPy's .npy files, versions 1.0, 2.0 and 3.0:
//
//   6 bytes   0x93 "NUMPY"
//   2 bytes   version, major then minor
//   2 bytes   (4 from version 2 on) header length, little-endian
//   header    a Python dict literal with exactly the keys descr, fortran_order and shape, spaces,
//   '\n' the rest  the elements
//
// Little-endian ("<", "=" or "|"), in C or Fortran order: f8, f4 and f2 of rank 1 to 3 as a real
// array, whole numbers of 1, 2, 4 or 8 bytes (i, u) and b1 of rank 1 to 2 as an array of them.
#ifndef ATTNPRUNE_CORE_IO_NPY_H_
#define ATTNPRUNE_CORE_IO_NPY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/tensor/dtype.h"
#include "core/tensor/matrix.h"

namespace attnprune {

struct NpyArray {
  DType dtype = DType::kF32;  // as stored
  std::vector<Index> shape;   // 1 to 3 dimensions
  // In C order whatever the file's: (product of all dimensions but the last) x last.
  Matrix values;
};

// INVALID_ARGUMENT names label, rule and value. The elements must fill the rest exactly.
absl::StatusOr<NpyArray> ParseNpy(absl::Span<const char> bytes, absl::string_view label);

// ParseNpy's and MappedFile's errors.
absl::StatusOr<NpyArray> ReadNpy(const std::string& path);

// Whole numbers.
struct NpyIntegers {
  DType dtype = DType::kI64;    // as stored
  std::vector<Index> shape;     // 1 or 2 dimensions
  std::vector<int64_t> values;  // in C order
};

// The same errors; and one for a u8 value above the largest i8.
absl::StatusOr<NpyIntegers> ParseNpyIntegers(absl::Span<const char> bytes, absl::string_view label);
absl::StatusOr<NpyIntegers> ReadNpyIntegers(const std::string& path);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_IO_NPY_H_
