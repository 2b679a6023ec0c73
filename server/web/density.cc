#include "server/web/density.h"

#include <algorithm>

#include "absl/numeric/bits.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "nlohmann/json.hpp"
#include "server/web/result_file.h"

namespace attnprune::web {
namespace {

// Ones among the bits [begin, end), least significant of each byte first.
int64_t CountOnes(absl::Span<const uint8_t> bytes, int64_t begin, int64_t end) {
  int64_t ones = 0;
  while (begin < end) {
    const int64_t in_byte = begin % 8, take = std::min<int64_t>(8 - in_byte, end - begin);
    const auto bits = static_cast<uint8_t>(bytes[static_cast<size_t>(begin / 8)] >> in_byte);
    ones += absl::popcount(static_cast<uint8_t>(bits & ((1 << take) - 1)));
    begin += take;
  }
  return ones;
}

int64_t Bound(int64_t cell, int64_t size, int cells) { return cell * size / cells; }

absl::StatusOr<const v1::MatrixResult*> FindMatrix(const v1::MethodResult& result,
                                                   absl::string_view name) {
  std::vector<std::string> names;
  for (const v1::MatrixResult& matrix : result.matrices()) {
    if (matrix.name() == name && matrix.mask().shape_size() == 2) return &matrix;
    names.push_back(matrix.name());
  }
  return MustError("matrix", absl::StrCat("be one of ", absl::StrJoin(names, ", ")),
                   absl::StrCat("\"", name, "\""));
}

}  // namespace

Density DensityOf(absl::Span<const uint8_t> mask, int64_t matrix_rows, int64_t matrix_columns,
                  int cells) {
  Density density;
  density.rows = static_cast<int>(std::min<int64_t>(cells, matrix_rows));
  density.columns = static_cast<int>(std::min<int64_t>(cells, matrix_columns));
  for (int i = 0; i < density.rows; ++i) {
    const int64_t top = Bound(i, matrix_rows, density.rows);
    const int64_t bottom = Bound(i + 1, matrix_rows, density.rows);
    for (int j = 0; j < density.columns; ++j) {
      const int64_t left = Bound(j, matrix_columns, density.columns);
      const int64_t right = Bound(j + 1, matrix_columns, density.columns);
      int64_t ones = 0;
      for (int64_t row = top; row < bottom; ++row) {
        ones += CountOnes(mask, row * matrix_columns + left, row * matrix_columns + right);
      }
      density.kept.push_back(static_cast<double>(ones) /
                             static_cast<double>((bottom - top) * (right - left)));
    }
  }
  return density;
}

absl::StatusOr<std::string> DensityJson(const v1::Job& job, absl::string_view index,
                                        absl::string_view matrix, int cells,
                                        const BlobStore& tensors) {
  if (cells < 1 || cells > kMaxCells) {
    return MustError("cells", absl::StrCat("be in [1, ", kMaxCells, "]"), cells);
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(const v1::MethodResult* const result, FindResult(job, index));
  ATTNPRUNE_ASSIGN_OR_RETURN(const v1::MatrixResult* const found, FindMatrix(*result, matrix));
  const int64_t rows = found->mask().shape(0), columns = found->mask().shape(1);
  ATTNPRUNE_ASSIGN_OR_RETURN(const MappedFile file,
                             tensors.Map(found->mask().sha256(), (rows * columns + 7) / 8));
  const absl::Span<const uint8_t> bits(reinterpret_cast<const uint8_t*>(file.bytes().data()),
                                       file.bytes().size());
  const Density density = DensityOf(bits, rows, columns, cells);
  ATTNPRUNE_RETURN_IF_ERROR(CheckMapped(file.bytes()));
  const nlohmann::json json = {{"matrix", found->name()},    {"matrixRows", rows},
                               {"matrixColumns", columns},   {"rows", density.rows},
                               {"columns", density.columns}, {"kept", density.kept}};
  return json.dump() + "\n";
}

}  // namespace attnprune::web
