// Temporary folders, removed with their owner or at an early exit of the process.
#ifndef ATTNPRUNE_CLIENT_CLI_SHELL_TEMPORARY_FOLDER_H_
#define ATTNPRUNE_CLIENT_CLI_SHELL_TEMPORARY_FOLDER_H_

#include <string>

namespace attnprune::cli {

// Removed with all that is in it, unless it is kept or the process is killed. Not thread-safe.
class OwnTemporaryFolder {
 public:
  // parent/name-XXXXXX, the last six letters random. parent must be there.
  OwnTemporaryFolder(const std::string& parent, const std::string& name);
  ~OwnTemporaryFolder();
  OwnTemporaryFolder(const OwnTemporaryFolder&) = delete;
  OwnTemporaryFolder& operator=(const OwnTemporaryFolder&) = delete;

  const std::string& path() const { return path_; }  // empty: could not be made
  void Keep();                                       // it stays, for somebody else to remove

 private:
  const std::string path_;
  bool kept_ = false;
};

// Ends the process at once, whatever its other threads do, with every such folder gone.
[[noreturn]] void RemoveTemporaryFoldersAndExit(int code);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_SHELL_TEMPORARY_FOLDER_H_
