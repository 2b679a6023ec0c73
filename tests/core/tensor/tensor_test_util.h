// Images, files and matchers that the tests of this folder share.
#ifndef ATTNPRUNE_TESTS_CORE_TENSOR_TENSOR_TEST_UTIL_H_
#define ATTNPRUNE_TESTS_CORE_TENSOR_TENSOR_TEST_UTIL_H_

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace attnprune {

inline const absl::Status& StatusOf(const absl::Status& status) { return status; }
template <typename T>
const absl::Status& StatusOf(const absl::StatusOr<T>& result) {
  return result.status();
}

// An error of that code whose message contains each of the phrases.
MATCHER_P(Fails, code, "fails with that code") {
  *result_listener << StatusOf(arg).ToString();
  return StatusOf(arg).code() == code;
}
MATCHER_P2(Fails, code, phrase, "fails with that code, saying " + std::string(phrase)) {
  *result_listener << StatusOf(arg).ToString();
  return StatusOf(arg).code() == code &&
         std::string(StatusOf(arg).message()).find(phrase) != std::string::npos;
}
MATCHER(Succeeds, "is OK") {
  *result_listener << StatusOf(arg).ToString();
  return StatusOf(arg).ok();
}

template <typename Number>
std::string LittleEndian(Number number) {
  std::string bytes(sizeof(number), '\0');
  std::memcpy(bytes.data(), &number, sizeof(number));
  return bytes;
}

// A safetensors image of that header, unpadded, and that data.
inline std::string Image(const std::string& header, const std::string& data) {
  return LittleEndian<uint64_t>(header.size()) + header + data;
}

inline absl::Span<const char> Bytes(const std::string& text) { return {text.data(), text.size()}; }

template <typename T>
absl::Span<const char> BytesOf(const std::vector<T>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

inline std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

inline void WriteAll(const std::string& path, const std::string& text) {
  std::ofstream(path, std::ios::binary) << text;
}

// A folder of its own for each test, deleted with it.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string name = ::testing::TempDir() + "attnprune-XXXXXX";
    EXPECT_NE(mkdtemp(name.data()), nullptr);
    path_ = name;
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }

  const std::string& path() const { return path_; }
  std::string File(const std::string& name) const { return path_ + "/" + name; }
  std::vector<std::string> Files() const {
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(path_)) {
      names.push_back(entry.path().filename().string());
    }
    return names;
  }

 private:
  std::string path_;
};

// Takes root's right to read and write everything away while it lives; others have none.
class WithoutPrivileges {
 public:
  WithoutPrivileges() : before_(geteuid()) {
    if (before_ != 0) return;
    EXPECT_EQ(seteuid(65534), 0);
  }
  WithoutPrivileges(const WithoutPrivileges&) = delete;
  WithoutPrivileges& operator=(const WithoutPrivileges&) = delete;
  ~WithoutPrivileges() { EXPECT_EQ(seteuid(before_), 0); }

 private:
  uid_t before_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_TESTS_CORE_TENSOR_TENSOR_TEST_UTIL_H_
