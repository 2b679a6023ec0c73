#include "server/queue/checkpoint_files.h"

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "core/base/status_macros.h"
#include "core/io/atomic_file.h"
#include "server/queue/checksum.h"

namespace attnprune {

absl::StatusOr<CheckpointRef> CheckpointFiles::Write(const std::string& name,
                                                     absl::string_view bytes) const {
  const absl::Span<const char> chunk(bytes.data(), bytes.size());
  ATTNPRUNE_RETURN_IF_ERROR(WriteFileAtomically(PathOf(name), {chunk}));
  return CheckpointRef{name, static_cast<int64_t>(bytes.size()), ChecksumOfBytes(bytes)};
}

absl::StatusOr<std::string> CheckpointFiles::Read(const CheckpointRef& ref) const {
  std::ifstream file(PathOf(ref.name), std::ios::binary | std::ios::ate);
  if (!file.is_open()) {
    return absl::DataLossError(absl::StrCat(PathOf(ref.name), ": checkpoint cannot be opened"));
  }
  const auto size = static_cast<int64_t>(file.tellg());
  if (size == ref.size) {
    std::string bytes(static_cast<size_t>(size), '\0');
    file.seekg(0);
    if (file.read(bytes.data(), size) && ChecksumOfBytes(bytes) == ref.checksum) return bytes;
  }
  return absl::DataLossError(absl::StrCat(PathOf(ref.name), ": checkpoint is damaged"));
}

void CheckpointFiles::Remove(const std::string& name) const {
  if (!name.empty()) unlink(PathOf(name).c_str());
}

void CheckpointFiles::RemoveAllBut(const std::set<std::string>& names) const {
  std::error_code ignored;
  std::set<std::string> unwanted;
  for (const auto& entry : std::filesystem::directory_iterator(folder_, ignored)) {
    std::string name = entry.path().filename();
    if (names.count(name) == 0) unwanted.insert(std::move(name));
  }
  for (const std::string& name : unwanted) Remove(name);
}

}  // namespace attnprune
