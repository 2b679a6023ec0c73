#include "client/cli/files/text_file.h"

#include <filesystem>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "core/base/status_macros.h"
#include "core/io/atomic_file.h"

namespace attnprune::cli {

absl::Status MakeFolderOf(const std::string& file) {
  const std::filesystem::path folder = std::filesystem::path(file).parent_path();
  std::error_code error;
  if (!folder.empty()) std::filesystem::create_directories(folder, error);
  if (!error) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("cannot make the folder ", folder.string(), ": ", error.message()));
}

absl::Status WriteText(const std::string& path, const std::string& text) {
  ATTNPRUNE_RETURN_IF_ERROR(MakeFolderOf(path));
  const absl::Span<const char> bytes = text;
  return WriteFileAtomically(path, {bytes});
}

}  // namespace attnprune::cli
