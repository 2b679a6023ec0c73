// A matrix that need not fit in memory.
#ifndef ATTNPRUNE_CORE_IO_SPILLED_MATRIX_H_
#define ATTNPRUNE_CORE_IO_SPILLED_MATRIX_H_

#include <cstddef>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/io/mapped_file.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// float32, row-major, in a file without a name that is mapped read-only: the system drops its pages
// where memory is short and reads them again. The file goes with the last of its users, also when
// the process is killed. Move-only; concurrent reads are fine.
class SpilledMatrix {
 public:
  SpilledMatrix() = default;

  MatrixView view() const {
    return {reinterpret_cast<const float*>(file_.bytes().data()), rows_, cols_};
  }
  const std::string& folder() const { return folder_; }  // where the file is

 private:
  friend class SpilledMatrixWriter;
  SpilledMatrix(MappedFile file, std::string folder, Index rows, Index cols)
      : file_(std::move(file)), folder_(std::move(folder)), rows_(rows), cols_(cols) {}

  MappedFile file_;
  std::string folder_;
  Index rows_ = 0, cols_ = 0;
};

// Writes one, from its first entry to its last.
class SpilledMatrixWriter {
 public:
  // folder: on a disk; one that is itself memory (tmpfs) saves none. NOT_FOUND, PERMISSION_DENIED
  // or another error of the system names it.
  static absl::StatusOr<SpilledMatrixWriter> Create(const std::string& folder);

  SpilledMatrixWriter(SpilledMatrixWriter&& other) noexcept;
  SpilledMatrixWriter& operator=(SpilledMatrixWriter&&) = delete;
  ~SpilledMatrixWriter();

  // RESOURCE_EXHAUSTED where the disk is full.
  absl::Status Append(absl::Span<const float> entries);
  // What was appended: rows * cols entries, at least one. Call once, as the last function.
  absl::StatusOr<SpilledMatrix> Finish(Index rows, Index cols);

 private:
  SpilledMatrixWriter(int fd, std::string folder) : fd_(fd), folder_(std::move(folder)) {}

  int fd_;
  std::string folder_;
};

// A matrix to be written as well as read: in memory, or in a file without a name that is mapped.
// Move-only. Not thread-safe; concurrent work on different rows is fine.
class ScratchMatrix {
 public:
  // Zeros. folder: where the file is made; empty: in memory. Errors of SpilledMatrixWriter; and
  // RESOURCE_EXHAUSTED where the disk has no room for it. Throws std::bad_alloc.
  static absl::StatusOr<ScratchMatrix> Create(Index rows, Index cols, const std::string& folder);

  ScratchMatrix(ScratchMatrix&& other) noexcept;
  ScratchMatrix& operator=(ScratchMatrix&&) = delete;
  ~ScratchMatrix();

  MutableMatrixView view() { return {data_, rows_, cols_}; }

 private:
  ScratchMatrix() = default;

  Matrix memory_;
  float* data_ = nullptr;
  Index rows_ = 0, cols_ = 0;
  size_t mapped_bytes_ = 0;  // 0: in memory
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_IO_SPILLED_MATRIX_H_
