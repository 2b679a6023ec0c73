#include "server/blobs/shared/spool_file.h"

#include <atomic>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace attnprune {

// What a kill leaves between the two is removed by the next start, as all names that end so.
absl::Status SpoolFile::Open() {
  static std::atomic<int64_t> next{0};
  const std::string path = absl::StrCat(folder_, "/spool-", next++, ".put");
  ATTNPRUNE_ASSIGN_OR_RETURN(file_, File::OpenForWriting(path, Readers::kOwner));
  RemoveFile(path);
  return absl::OkStatus();
}

absl::Status SpoolFile::Append(absl::Span<const char> bytes) {
  if (file_.fd() < 0) ATTNPRUNE_RETURN_IF_ERROR(Open());
  ATTNPRUNE_RETURN_IF_ERROR(file_.WriteAt(size_, bytes));
  size_ += static_cast<int64_t>(bytes.size());
  return absl::OkStatus();
}

absl::StatusOr<MappedFile> SpoolFile::Map() const {
  return MappedFile::Map(file_.fd(), file_.path());
}

absl::Status SpoolFile::Clear() {
  size_ = 0;
  return file_.fd() < 0 ? absl::OkStatus() : file_.Truncate(0);
}

}  // namespace attnprune
