// A tensor that is a file, or has a copy in one.
#ifndef ATTNPRUNE_SERVER_BLOBS_FILE_READER_H_
#define ATTNPRUNE_SERVER_BLOBS_FILE_READER_H_

#include <cstdint>
#include <utility>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "core/io/file.h"
#include "server/blobs/blob_store.h"

namespace attnprune {

class FileReader final : public BlobReader {
 public:
  FileReader(File file, int64_t size) : file_(std::move(file)), size_(size) {}

  int64_t size() const override { return size_; }
  absl::Status ReadAt(int64_t offset, absl::Span<char> out) const override {
    return file_.ReadAt(offset, out);
  }

 private:
  const File file_;
  const int64_t size_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_BLOBS_FILE_READER_H_
