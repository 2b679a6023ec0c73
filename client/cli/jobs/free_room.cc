#include "client/cli/jobs/free_room.h"

#include <filesystem>
#include <fstream>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "client/cli/views/format.h"
#include "core/io/file.h"

namespace attnprune::cli {

absl::optional<int64_t> FreeMemory(const std::string& root) {
  std::ifstream file(root + "/proc/meminfo");
  for (std::string name, unit; file >> name;) {
    int64_t kibibytes = 0;
    if (name == "MemAvailable:" && file >> kibibytes) return kibibytes << 10;
    std::getline(file, unit);
  }
  return absl::nullopt;
}

absl::Status CheckMemoryRoom(int64_t bytes, absl::optional<int64_t> free) {
  if (!free.has_value() || bytes <= *free) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("the work needs about ", BytesText(bytes), " of memory, and ", BytesText(*free),
                   " are free; --memory-budget BYTES says how much it may take all the same"));
}

absl::Status CheckRoomAt(const std::string& path, int64_t bytes) {
  std::error_code error;
  std::filesystem::path there = std::filesystem::absolute(path, error);
  while (!std::filesystem::exists(there, error) && there.has_relative_path()) {
    there = there.parent_path();
  }
  if (!std::filesystem::is_directory(there, error)) there = there.parent_path();
  return CheckDiskRoom(there.string(), bytes, /*kept=*/0, "");
}

int64_t BytesOf(const JobTensors& tensors) {
  int64_t bytes = 0;
  for (const client::LocalTensor& tensor : tensors.all()) {
    bytes += static_cast<int64_t>(tensor.bytes.size());
  }
  return bytes;
}

int64_t BytesOf(const std::string& source) {
  std::error_code error;
  if (!std::filesystem::is_directory(source, error)) {
    const auto size = std::filesystem::file_size(source, error);
    return error ? 0 : static_cast<int64_t>(size);
  }
  int64_t bytes = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(source, error)) {
    const auto size = entry.is_regular_file(error) ? entry.file_size(error) : 0;
    if (!error) bytes += static_cast<int64_t>(size);
  }
  return bytes;
}

}  // namespace attnprune::cli
