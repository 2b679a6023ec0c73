#include "server/queue/folder_id.h"

#include <algorithm>
#include <cstdint>
#include <random>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "core/base/status_macros.h"
#include "core/io/atomic_file.h"
#include "core/io/file.h"

namespace attnprune {
namespace {

constexpr char kFile[] = "/folder-id";
constexpr size_t kDigits = 16;

bool IsFolderId(const std::string& text) {
  return text.size() == kDigits && std::all_of(text.begin(), text.end(), [](char c) {
           return absl::ascii_isxdigit(static_cast<unsigned char>(c));
         });
}

}  // namespace

bool HasFolderId(const std::string& folder) { return LookUp(folder + kFile).has_value(); }

absl::StatusOr<std::string> FolderId(const FolderLock& lock) {
  const std::string path = lock.folder() + kFile;
  std::string id(kDigits, '\0');
  const absl::StatusOr<File> file = File::OpenForReading(path);
  if (file.ok()) {
    ATTNPRUNE_RETURN_IF_ERROR(file->ReadAt(0, absl::MakeSpan(id)));
    if (IsFolderId(id)) return id;
    return absl::DataLossError(absl::StrCat(path, ": damaged: must be ", kDigits, " hex digits"));
  }
  if (!absl::IsNotFound(file.status())) return file.status();
  std::random_device random;
  const uint64_t drawn = uint64_t{random()} << 32 | random();
  id = absl::StrCat(absl::Hex(drawn, absl::kZeroPad16));
  const std::string line = id + "\n";
  ATTNPRUNE_RETURN_IF_ERROR(
      WriteFileAtomically(path, {absl::Span<const char>(line)}, Readers::kOwner));
  return id;
}

}  // namespace attnprune
