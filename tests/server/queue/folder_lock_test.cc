#include "server/queue/folder_lock.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/server/queue/test_places.h"

namespace attnprune {
namespace {

using ::testing::HasSubstr;
using testing::ScratchFolder;

TEST(FolderLock, RefusesASecondServerAndNamesTheFirst) {
  ScratchFolder folder;
  const absl::StatusOr<FolderLock> first = FolderLock::Acquire(folder.path());
  ASSERT_TRUE(first.ok()) << first.status();
  const absl::StatusOr<FolderLock> second = FolderLock::Acquire(folder.path());
  EXPECT_EQ(second.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(second.status().message()),
              HasSubstr(absl::StrCat("in use by another server (process ", getpid(), ")")));
}

TEST(FolderLock, WritesToNoFileThatALinkLeadsTo) {
  ScratchFolder folder;
  std::ofstream(folder / "victim") << "precious";
  std::filesystem::create_symlink(folder / "victim", folder / "lock");
  const absl::Status status = FolderLock::Acquire(folder.path()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("lock: must be a file, is a link"));
  EXPECT_EQ(std::filesystem::file_size(folder / "victim"), 8u);
}

TEST(FolderLock, IsFreeAgainAfterItsHolder) {
  ScratchFolder folder;
  { ASSERT_TRUE(FolderLock::Acquire(folder.path()).ok()); }
  EXPECT_TRUE(FolderLock::Acquire(folder.path()).ok());
}

TEST(FolderLock, IsFreeAgainAfterItsHolderWasKilled) {
  ScratchFolder folder;
  const pid_t child = fork();
  if (child == 0) {
    const auto lock = FolderLock::Acquire(folder.path());
    if (!lock.ok()) _exit(1);
    raise(SIGKILL);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  ASSERT_TRUE(WIFSIGNALED(status));
  EXPECT_TRUE(FolderLock::Acquire(folder.path()).ok());
}

TEST(FolderLock, HoldsWhereItsFileWasRemovedOrReplaced) {
  ScratchFolder folder;
  const absl::StatusOr<FolderLock> first = FolderLock::Acquire(folder.path());
  ASSERT_TRUE(first.ok()) << first.status();
  std::filesystem::remove(folder / "lock");
  EXPECT_EQ(FolderLock::Acquire(folder.path()).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST(FolderLock, IsOfAnOlderVersionsServerToo) {
  ScratchFolder folder;
  const int fd = open((folder / "lock").c_str(), O_RDWR | O_CREAT, 0666);
  ASSERT_EQ(flock(fd, LOCK_EX), 0);  // the file is all that it locked
  EXPECT_EQ(FolderLock::Acquire(folder.path()).status().code(),
            absl::StatusCode::kFailedPrecondition);
  close(fd);
}

mode_t ModeOf(const std::string& path) {
  struct stat facts;
  return stat(path.c_str(), &facts) == 0 ? facts.st_mode & 07777 : 0;
}

TEST(FolderLock, MakesWhatItsOwnerAloneMayUseWhateverTheUmask) {
  ScratchFolder folder;
  const mode_t before = umask(0);
  const absl::StatusOr<FolderLock> lock = FolderLock::Acquire(folder / "data");
  umask(before);
  ASSERT_TRUE(lock.ok()) << lock.status();
  EXPECT_EQ(ModeOf(folder / "data"), 0700u);
  EXPECT_EQ(ModeOf(folder / "data/lock"), 0600u);
  EXPECT_EQ(lock->notice(), "");
}

TEST(FolderLock, ClosesAFolderOfItsOwnToOthersAndSaysSo) {
  ScratchFolder folder;
  ASSERT_EQ(chmod(folder.path().c_str(), 0750), 0);
  const absl::StatusOr<FolderLock> lock = FolderLock::Acquire(folder.path());
  ASSERT_TRUE(lock.ok()) << lock.status();
  EXPECT_EQ(ModeOf(folder.path()), 0700u);
  EXPECT_THAT(lock->notice(), HasSubstr("had mode 0750: now 0700"));
}

TEST(FolderLock, MovesWithItsOwner) {
  ScratchFolder folder;
  absl::StatusOr<FolderLock> lock = FolderLock::Acquire(folder.path());
  ASSERT_TRUE(lock.ok());
  {
    const FolderLock moved = *std::move(lock);
    EXPECT_EQ(moved.folder(), folder.path());
    EXPECT_FALSE(FolderLock::Acquire(folder.path()).ok());
  }
  EXPECT_TRUE(FolderLock::Acquire(folder.path()).ok());
}

TEST(FolderLock, MakesTheFolder) {
  ScratchFolder folder;
  EXPECT_TRUE(FolderLock::Acquire(folder / "data").ok());
}

TEST(FolderLock, SaysThatTheFolderIsAFile) {
  ScratchFolder folder;
  std::ofstream(folder / "data") << "x";
  const absl::Status status = FolderLock::Acquire(folder / "data").status();
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(std::string(status.message()), HasSubstr("Not a directory"));
}

}  // namespace
}  // namespace attnprune
