#include <algorithm>

#include "absl/types/span.h"
#include "core/base/status_macros.h"
#include "core/io/mapping_guard.h"
#include "core/io/messages.h"
#include "core/model/model_weights.h"

namespace attnprune {
namespace {

// `count` entries of a tensor from the flat index `first` on.
absl::Status ReadEntries(const TensorInfo& tensor, Index first, Index count, float* out) {
  const size_t size = SizeOf(tensor.dtype);
  return ToFloat32(
      tensor.dtype,
      tensor.bytes.subspan(static_cast<size_t>(first) * size, static_cast<size_t>(count) * size),
      absl::MakeSpan(out, static_cast<size_t>(count)));
}

// Column `column` to `column + out.rows()` of an (in, out) tensor, as rows.
absl::Status ReadColumns(const TensorInfo& tensor, Index column, MutableMatrixView out) {
  std::vector<float> line(static_cast<size_t>(out.rows()));
  for (Index i = 0; i < out.cols(); ++i) {
    ATTNPRUNE_RETURN_IF_ERROR(
        ReadEntries(tensor, i * tensor.shape[1] + column, out.rows(), line.data()));
    for (Index j = 0; j < out.rows(); ++j) out(j, i) = line[static_cast<size_t>(j)];
  }
  return absl::OkStatus();
}

absl::Status ReadRun(const StoredMap& map, Index first, MutableMatrixView out) {
  if (map.transposed) {
    ATTNPRUNE_RETURN_IF_ERROR(ReadColumns(*map.weight, first, out));
    return CheckMapped(map.weight->bytes);
  }
  for (Index i = 0; i < out.rows(); ++i) {
    ATTNPRUNE_RETURN_IF_ERROR(ReadEntries(*map.weight, (first + i) * map.in, map.in, out.row(i)));
  }
  return CheckMapped(map.weight->bytes);
}

}  // namespace

absl::string_view ToString(LinearMap map) {
  constexpr absl::string_view kNames[kLinearMaps] = {"q", "k", "v", "o", "gate", "up", "down"};
  return kNames[static_cast<size_t>(map)];
}

bool StoredMap::whole() const {
  return !transposed && rows.size() == 1 && rows[0].count == weight->shape[0];
}

absl::Status ReadRows(const StoredMap& map, Index first, MutableMatrixView out) {
  Index done = 0;
  for (const RowRun& run : map.rows) {
    const Index skip = std::min(first, run.count);
    first -= skip;
    const Index count = std::min(run.count - skip, out.rows() - done);
    if (count > 0) {
      ATTNPRUNE_RETURN_IF_ERROR(
          Annotate(ReadRun(map, run.first + skip, out.Rows(done, count)),
                   absl::StrCat(map.weight->file, ": tensor ", Quoted(map.weight->name))));
      done += count;
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<float>> ReadBias(const StoredMap& map) {
  if (map.bias == nullptr) return std::vector<float>();
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<float> all, ToVector(*map.bias));
  std::vector<float> bias;
  for (const RowRun& run : map.rows) {
    bias.insert(bias.end(), all.begin() + run.first, all.begin() + run.first + run.count);
  }
  return bias;
}

}  // namespace attnprune
