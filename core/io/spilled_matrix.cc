#include "core/io/spilled_matrix.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "core/base/status_macros.h"
#include "core/io/file.h"
#include "core/io/messages.h"

namespace attnprune {
namespace {

// A file without a name; -1 and errno where there can be none.
int OpenNameless(const std::string& folder) {
  const int fd = open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR)) return fd;
  // Not every file system can make one; unlinked at once it is the same but for a kill in between.
  // In between the suffix tells the tensor store, if it is its folder, to remove the file.
  constexpr absl::string_view kSuffix = ".put";
  std::string name = absl::StrCat(folder, "/spilled-XXXXXX", kSuffix);
  const int named = mkostemps(name.data(), static_cast<int>(kSuffix.size()), O_CLOEXEC);
  if (named >= 0) unlink(name.c_str());
  return named;
}

}  // namespace

absl::StatusOr<SpilledMatrixWriter> SpilledMatrixWriter::Create(const std::string& folder) {
  const int fd = OpenNameless(folder);
  if (fd < 0) return ErrnoError(errno, folder, "make a temporary file in it");
  return SpilledMatrixWriter(fd, folder);
}

SpilledMatrixWriter::SpilledMatrixWriter(SpilledMatrixWriter&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), folder_(std::move(other.folder_)) {}

SpilledMatrixWriter::~SpilledMatrixWriter() {
  if (fd_ >= 0) close(fd_);
}

absl::Status SpilledMatrixWriter::Append(absl::Span<const float> entries) {
  const absl::Span<const char> bytes(reinterpret_cast<const char*>(entries.data()),
                                     entries.size() * sizeof(float));
  const int error = WriteAll(fd_, bytes);
  if (error == 0) return absl::OkStatus();
  return ErrnoError(error, folder_, "write a temporary file in it");
}

absl::StatusOr<SpilledMatrix> SpilledMatrixWriter::Finish(Index rows, Index cols) {
  ATTNPRUNE_ASSIGN_OR_RETURN(MappedFile file, MappedFile::Map(fd_, folder_));
  const size_t bytes = static_cast<size_t>(rows * cols) * sizeof(float);
  if (file.bytes().size() != bytes) {
    return absl::InternalError(absl::StrCat(folder_, ": a temporary file must have ", bytes,
                                            " bytes, got ", file.bytes().size()));
  }
  return SpilledMatrix(std::move(file), std::move(folder_), rows, cols);
}

}  // namespace attnprune
