// Folders and time for tests of the job store.
#ifndef ATTNPRUNE_TESTS_SERVER_QUEUE_TEST_PLACES_H_
#define ATTNPRUNE_TESTS_SERVER_QUEUE_TEST_PLACES_H_

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "core/base/clock.h"
#include "core/base/mutex.h"

namespace attnprune::testing {

// Stands still until it is moved. Thread-safe.
class SteppedClock final : public Clock {
 public:
  absl::Time Now() const override {
    MutexLock lock(&mutex_);
    return now_;
  }
  void Advance(absl::Duration step) {
    MutexLock lock(&mutex_);
    now_ += step;
  }

 private:
  mutable Mutex mutex_;
  absl::Time now_ ABSL_GUARDED_BY(mutex_) = absl::FromUnixSeconds(1'700'000'000);
};

// A folder of its own, removed at the end.
class ScratchFolder {
 public:
  // In memory where there is /dev/shm: thousands of fsyncs on a disk take minutes.
  ScratchFolder() : ScratchFolder(::access("/dev/shm", W_OK) == 0 ? "/dev/shm" : OnDisk()) {}
  explicit ScratchFolder(const std::string& parent) : path_(parent + "/attnprune-jobs-XXXXXX") {
    if (mkdtemp(path_.data()) == nullptr) ADD_FAILURE() << "cannot make " << path_;
  }
  ~ScratchFolder() { std::filesystem::remove_all(path_); }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  static std::string OnDisk() { return ::testing::TempDir(); }
  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// Empty if the file is not there.
inline std::string ReadAll(const std::string& path) {
  std::ostringstream bytes;
  bytes << std::ifstream(path, std::ios::binary).rdbuf();
  return bytes.str();
}

inline void WriteAll(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

}  // namespace attnprune::testing

#endif  // ATTNPRUNE_TESTS_SERVER_QUEUE_TEST_PLACES_H_
