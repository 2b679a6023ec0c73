// A POSIX blob store in a folder of its own, with a clock that stands still until it is told to
// move.
#ifndef ATTNPRUNE_TESTS_SERVER_BLOBS_STORE_FIXTURE_H_
#define ATTNPRUNE_TESTS_SERVER_BLOBS_STORE_FIXTURE_H_

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <sstream>
#include <string>

#include "server/blobs/posix_blob_store.h"
#include "tests/server/blobs/blob_store_ops.h"

namespace attnprune {

// In memory where there is such a folder: nothing here depends on how long a sync takes.
class TempFolder {
 public:
  TempFolder() {
    const bool has_memory = std::filesystem::is_directory("/dev/shm");
    std::string pattern = (has_memory ? "/dev/shm" : ::testing::TempDir()) + "/attnprune-XXXXXX";
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

class StoreTest : public ::testing::Test, public BlobStoreOps {
 public:
  BlobStore& store() override { return *store_; }

 protected:
  StoreTest() {
    options_.folder = folder_.path() + "/data";
    options_.min_free_disk_bytes = 0;
    Reopen();
  }

  void Reopen() {
    store_ = nullptr;
    absl::StatusOr<std::unique_ptr<BlobStore>> store = OpenPosixBlobStore(options_, &clock_);
    if (!store.ok()) std::abort();
    store_ = *std::move(store);
  }

  std::string BlobPath(const std::string& sha256) const {
    return options_.folder + "/tensors/sha256/" + sha256.substr(0, 2) + "/" + sha256;
  }
  std::string UploadsFolder() const { return options_.folder + "/uploads"; }

  TempFolder folder_;
  FakeClock clock_;
  PosixBlobStoreOptions options_;
  std::unique_ptr<BlobStore> store_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_TESTS_SERVER_BLOBS_STORE_FIXTURE_H_
