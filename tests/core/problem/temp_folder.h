// A folder of one test's own, removed with everything in it.
#ifndef ATTNPRUNE_TESTS_CORE_PROBLEM_TEMP_FOLDER_H_
#define ATTNPRUNE_TESTS_CORE_PROBLEM_TEMP_FOLDER_H_

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

namespace attnprune {

class TempFolder {
 public:
  TempFolder() {
    std::string pattern = ::testing::TempDir() + "attnprune-XXXXXX";
    if (mkdtemp(pattern.data()) == nullptr) std::abort();
    path_ = pattern;
  }
  ~TempFolder() { std::filesystem::remove_all(path_); }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

  void Write(const std::string& name, const std::string& bytes) const {
    std::ofstream out(*this / name, std::ios::binary);
    out << bytes;
  }

 private:
  std::string path_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_TESTS_CORE_PROBLEM_TEMP_FOLDER_H_
