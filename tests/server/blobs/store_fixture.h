// A tensor store in a folder of its own, with a clock that stands still until it is told to move.
#ifndef ATTNPRUNE_TESTS_SERVER_BLOBS_STORE_FIXTURE_H_
#define ATTNPRUNE_TESTS_SERVER_BLOBS_STORE_FIXTURE_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <random>
#include <sstream>
#include <string>

#include "core/base/clock.h"
#include "core/base/field_error.h"
#include "server/blobs/blob_store.h"

namespace attnprune {

class FakeClock final : public Clock {
 public:
  absl::Time Now() const override { return absl::FromUnixNanos(nanos_); }
  void Advance(absl::Duration by) { nanos_ += absl::ToInt64Nanoseconds(by); }

 private:
  std::atomic<int64_t> nanos_{1'700'000'000'000'000'000};
};

// In memory where there is such a folder: nothing here depends on how long a sync takes.
class TempFolder {
 public:
  TempFolder() {
    const bool has_memory = std::filesystem::is_directory("/dev/shm");
    std::string pattern = (has_memory ? "/dev/shm" : testing::TempDir()) + "/attnprune-XXXXXX";
    if (mkdtemp(pattern.data()) == nullptr) std::abort();
    path_ = pattern;
  }
  ~TempFolder() { std::filesystem::remove_all(path_); }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
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

inline std::string ReadWhole(const std::string& path) {
  std::ostringstream out;
  out << std::ifstream(path, std::ios::binary).rdbuf();
  return out.str();
}

inline void WriteWhole(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

inline int FilesIn(const std::string& folder) {
  return static_cast<int>(std::distance(std::filesystem::directory_iterator(folder),
                                        std::filesystem::directory_iterator()));
}

class StoreTest : public testing::Test {
 protected:
  StoreTest() {
    options_.folder = folder_.path() + "/data";
    options_.min_free_disk_bytes = 0;
    Reopen();
  }

  void Reopen() {
    store_ = nullptr;
    absl::StatusOr<std::unique_ptr<BlobStore>> store = BlobStore::Open(options_, &clock_);
    if (!store.ok()) std::abort();
    store_ = *std::move(store);
  }

  // Of an upload that is to succeed in its first steps.
  std::unique_ptr<Upload> Start(const UploadSpec& spec, int64_t offset) {
    absl::StatusOr<std::unique_ptr<Upload>> upload = store_->StartUpload(spec, offset);
    EXPECT_TRUE(upload.ok()) << upload.status();
    return upload.ok() ? *std::move(upload) : nullptr;
  }

  absl::Status UploadFrom(const UploadSpec& spec, const std::string& bytes, int64_t offset) {
    absl::StatusOr<std::unique_ptr<Upload>> upload = store_->StartUpload(spec, offset);
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
    const absl::StatusOr<std::vector<std::string>> missing = store_->FindMissing({sha256});
    EXPECT_TRUE(missing.ok()) << missing.status();
    return missing->empty();
  }

  std::string Stored(const std::string& sha256) {
    const absl::StatusOr<int64_t> size = store_->SizeOf(sha256);
    if (!size.ok()) return "absent";
    const absl::StatusOr<MappedFile> file = store_->Map(sha256, *size);
    if (!file.ok()) return file.status().ToString();
    return {file->bytes().begin(), file->bytes().end()};
  }

  int64_t Committed(const std::string& upload_id) { return *store_->CommittedBytes(upload_id); }

  std::string BlobPath(const std::string& sha256) const {
    return options_.folder + "/tensors/sha256/" + sha256.substr(0, 2) + "/" + sha256;
  }
  std::string UploadsFolder() const { return options_.folder + "/uploads"; }

  TempFolder folder_;
  FakeClock clock_;
  BlobStoreOptions options_;
  std::unique_ptr<BlobStore> store_;
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

#endif  // ATTNPRUNE_TESTS_SERVER_BLOBS_STORE_FIXTURE_H_
