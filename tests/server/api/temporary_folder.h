// A folder that goes with the test.
#ifndef ATTNPRUNE_TESTS_SERVER_API_TEMPORARY_FOLDER_H_
#define ATTNPRUNE_TESTS_SERVER_API_TEMPORARY_FOLDER_H_

#include <cstdlib>
#include <filesystem>
#include <string>

namespace attnprune {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = std::filesystem::temp_directory_path() / "attnprune-test-XXXXXX";
    if (mkdtemp(pattern.data()) == nullptr) std::abort();
    path_ = pattern;
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_TESTS_SERVER_API_TEMPORARY_FOLDER_H_
