// How densely a mask keeps weights, as a picture of few cells.
#ifndef ATTNPRUNE_SERVER_WEB_DENSITY_H_
#define ATTNPRUNE_SERVER_WEB_DENSITY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "attnprune/v1/job.pb.h"
#include "server/blobs/blob_store.h"

namespace attnprune::web {

inline constexpr int kDefaultCells = 64, kMaxCells = 256;

struct Density {
  int rows = 0, columns = 0;  // of cells
  std::vector<double> kept;   // rows x columns, row-major: the share of the cell's weights kept
};

// mask: BITMASK (job.proto) of matrix_rows x matrix_columns bits, both at least 1. Cell (i, j) is
// made of rows floor(i R / r) … floor((i + 1) R / r) - 1 and of columns alike; there are `cells` of
// them along each side, or as many as the matrix has. O(bits / 8 + cells^2). Pure.
Density DensityOf(absl::Span<const uint8_t> mask, int64_t matrix_rows, int64_t matrix_columns,
                  int cells);

// Of a result's mask, as JSON. INVALID_ARGUMENT: `matrix` or `cells`; NOT_FOUND: no such result, or
// its mask is not stored; FAILED_PRECONDITION: the method failed. Waits for the disk.
absl::StatusOr<std::string> DensityJson(const v1::Job& job, absl::string_view index,
                                        absl::string_view matrix, int cells,
                                        const BlobStore& tensors);

}  // namespace attnprune::web

#endif  // ATTNPRUNE_SERVER_WEB_DENSITY_H_
