#include "client/cli/shell/temporary_folder.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <set>
#include <system_error>

#include "core/base/mutex.h"

namespace attnprune::cli {
namespace {

constexpr int kRemovals = 1000;  // a thread that still writes can make one of them fail

// The existing ones. An early exit keeps the lock, so that no other is made.
struct Folders {
  Mutex mutex;
  std::set<std::string> paths ABSL_GUARDED_BY(mutex);
};

Folders& TemporaryFolders() {
  static Folders& folders = *new Folders;  // for threads that outlive main
  return folders;
}

std::string Make(const std::string& parent, const std::string& name) {
  std::string path = std::filesystem::path(parent) / (name + "-XXXXXX");
  Folders& folders = TemporaryFolders();
  const MutexLock lock(&folders.mutex);
  if (mkdtemp(path.data()) == nullptr) return "";
  folders.paths.insert(path);
  return path;
}

}  // namespace

OwnTemporaryFolder::OwnTemporaryFolder(const std::string& parent, const std::string& name)
    : path_(Make(parent, name)) {}

void OwnTemporaryFolder::Keep() {
  kept_ = true;
  Folders& folders = TemporaryFolders();
  const MutexLock lock(&folders.mutex);
  folders.paths.erase(path_);
}

OwnTemporaryFolder::~OwnTemporaryFolder() {
  if (path_.empty() || kept_) return;
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
  Folders& folders = TemporaryFolders();
  const MutexLock lock(&folders.mutex);
  folders.paths.erase(path_);
}

void RemoveTemporaryFoldersAndExit(int code) {
  Folders& folders = TemporaryFolders();
  const MutexLock lock(&folders.mutex);
  for (const std::string& path : folders.paths) {
    std::error_code error;
    for (int i = 0; i < kRemovals && std::filesystem::exists(path, error); ++i) {
      std::filesystem::remove_all(path, error);
    }
  }
  _exit(code);
}

}  // namespace attnprune::cli
