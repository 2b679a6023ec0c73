#include "core/io/spilled_matrix.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
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

absl::StatusOr<ScratchMatrix> ScratchMatrix::Create(Index rows, Index cols,
                                                    const std::string& folder) {
  ScratchMatrix out;
  out.rows_ = rows;
  out.cols_ = cols;
  if (folder.empty()) {
    out.memory_ = Matrix(rows, cols);
    out.data_ = out.memory_.data();
    return out;
  }
  const int fd = OpenNameless(folder);
  if (fd < 0) return ErrnoError(errno, folder, "make a temporary file in it");
  const size_t bytes = static_cast<size_t>(std::max<Index>(rows * cols, 1)) * sizeof(float);
  void* data = MAP_FAILED;
  int error = posix_fallocate(fd, 0, static_cast<off_t>(bytes));
  if (error == 0) {
    data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED) error = errno;
  }
  close(fd);
  if (error != 0) return ErrnoError(error, folder, "map a temporary file in it");
  out.data_ = static_cast<float*>(data);
  out.mapped_bytes_ = bytes;
  return out;
}

ScratchMatrix::ScratchMatrix(ScratchMatrix&& other) noexcept
    : memory_(std::move(other.memory_)),
      data_(std::exchange(other.data_, nullptr)),
      rows_(other.rows_),
      cols_(other.cols_),
      mapped_bytes_(std::exchange(other.mapped_bytes_, 0)) {}

ScratchMatrix::~ScratchMatrix() {
  if (mapped_bytes_ > 0) munmap(data_, mapped_bytes_);
}

}  // namespace attnprune
