// What tests do with a blob store, whichever it is.
#ifndef ATTNPRUNE_TESTS_SERVER_BLOBS_BLOB_STORE_OPS_H_
#define ATTNPRUNE_TESTS_SERVER_BLOBS_BLOB_STORE_OPS_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/base/field_error.h"
#include "core/io/sha256.h"
#include "server/blobs/blob_store.h"

namespace attnprune {

// Stands still until it is told to move.
class FakeClock final : public Clock {
 public:
  absl::Time Now() const override { return absl::FromUnixNanos(nanos_); }
  void Advance(absl::Duration by) { nanos_ += absl::ToInt64Nanoseconds(by); }

 private:
  std::atomic<int64_t> nanos_{1'700'000'000'000'000'000};
};

inline std::string RandomBytes(size_t size, unsigned seed) {
  std::mt19937 generator(seed);
  std::string bytes(size, '\0');
  for (char& byte : bytes) byte = static_cast<char>(generator());
  return bytes;
}

inline UploadSpec SpecOf(const std::string& upload_id, const std::string& bytes) {
  return {.upload_id = upload_id,
          .sha256 = Sha256Of(bytes),
          .size_bytes = static_cast<int64_t>(bytes.size()),
          .dtype = "BITMASK"};
}

class BlobStoreOps {
 public:
  virtual ~BlobStoreOps() = default;
  virtual BlobStore& store() = 0;

  // Of an upload that is to succeed in its first steps.
  std::unique_ptr<Upload> Start(const UploadSpec& spec, int64_t offset) {
    absl::StatusOr<std::unique_ptr<Upload>> upload = store().StartUpload(spec, offset);
    EXPECT_TRUE(upload.ok()) << upload.status();
    return upload.ok() ? *std::move(upload) : nullptr;
  }

  absl::Status UploadFrom(const UploadSpec& spec, const std::string& bytes, int64_t offset) {
    absl::StatusOr<std::unique_ptr<Upload>> upload = store().StartUpload(spec, offset);
    if (!upload.ok()) return upload.status();
    if ((*upload)->already_there()) return absl::OkStatus();
    const absl::Status appended = (*upload)->Append(absl::MakeConstSpan(bytes).subspan(offset));
    return appended.ok() ? (*upload)->Finish() : appended;
  }

  // Writes the first `count` bytes and leaves the upload.
  void UploadPart(const UploadSpec& spec, const std::string& bytes, size_t count) {
    const std::unique_ptr<Upload> upload = Start(spec, 0);
    ASSERT_TRUE(upload->Append(absl::MakeConstSpan(bytes).subspan(0, count)).ok());
  }

  bool IsThere(const std::string& sha256) {
    const absl::StatusOr<std::vector<std::string>> missing = store().FindMissing({sha256});
    EXPECT_TRUE(missing.ok()) << missing.status();
    return missing->empty();
  }

  std::string Stored(const std::string& sha256) {
    const absl::StatusOr<int64_t> size = store().SizeOf(sha256);
    if (!size.ok()) return "absent";
    const absl::StatusOr<MappedFile> file = store().Map(sha256, *size);
    if (!file.ok()) return file.status().ToString();
    return {file->bytes().begin(), file->bytes().end()};
  }

  int64_t Committed(const std::string& upload_id) { return *store().CommittedBytes(upload_id); }
};

MATCHER_P2(Refuses, code, field, "") {
  *result_listener << arg;
  return arg.code() == code && FieldAtFault(arg) == field;
}

MATCHER_P2(FailsWith, code, text, "") {
  *result_listener << arg;
  return arg.code() == code && std::string(arg.message()).find(text) != std::string::npos;
}

}  // namespace attnprune

#endif  // ATTNPRUNE_TESTS_SERVER_BLOBS_BLOB_STORE_OPS_H_
