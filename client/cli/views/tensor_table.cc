#include "client/cli/views/tensor_table.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cli/views/format.h"

namespace attnprune::cli {
namespace {

constexpr size_t kDigits = 12;
constexpr size_t kNameWidth = 40;

std::string NameCell(const v1::StoredTensor& stored) {
  if (stored.upload_id().empty()) return stored.tensor().name();
  const double share = stored.size_bytes() == 0
                           ? 0
                           : 100.0 * static_cast<double>(stored.committed_bytes()) /
                                 static_cast<double>(stored.size_bytes());
  return absl::StrFormat("upload %s, %.0f %%", Shortened(stored.upload_id(), kDigits + 3), share);
}

std::string DtypeCell(const v1::TensorRef& tensor) {
  if (tensor.dtype() == v1::DTYPE_UNSPECIFIED) return "";
  return v1::DType_IsValid(tensor.dtype()) ? v1::DType_Name(tensor.dtype()) : "?";
}

}  // namespace

std::string TensorListText(const std::vector<v1::StoredTensor>& tensors,
                           absl::optional<int> width) {
  Rows rows = {{"sha256", "name", "dtype", "shape", "size", "used by", "as", "time"}};
  for (const v1::StoredTensor& stored : tensors) {
    const v1::TensorRef& tensor = stored.tensor();
    rows.push_back({tensor.sha256().substr(0, kDigits), Shortened(NameCell(stored), kNameWidth),
                    DtypeCell(tensor), absl::StrJoin(tensor.shape(), "x"),
                    BytesText(stored.size_bytes()), stored.used_by(), stored.used_as(),
                    stored.has_time() ? TimeText(stored.time()) : ""});
  }
  return TableText(std::move(rows), width, {"as", "time", "dtype", "used by", "shape", "name"});
}

}  // namespace attnprune::cli
