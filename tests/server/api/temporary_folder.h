// A folder that goes with the test: in memory, where there is room, since most tests wait for the
// disk's syncs and for little else. TMPDIR says where else.
#ifndef ATTNPRUNE_TESTS_SERVER_API_TEMPORARY_FOLDER_H_
#define ATTNPRUNE_TESTS_SERVER_API_TEMPORARY_FOLDER_H_

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>

namespace attnprune {

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = Parent() / "attnprune-test-XXXXXX";
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
  static std::filesystem::path Parent() {
    constexpr uintmax_t kRoom = uintmax_t{1} << 30;
    std::error_code none;
    const bool in_memory = std::getenv("TMPDIR") == nullptr &&
                           std::filesystem::space("/dev/shm", none).available >= kRoom && !none;
    return in_memory ? "/dev/shm" : std::filesystem::temp_directory_path();
  }

  std::string path_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_TESTS_SERVER_API_TEMPORARY_FOLDER_H_
