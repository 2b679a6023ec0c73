#include "server/queue/folder_id.h"

#include <gmock/gmock.h>

#include <filesystem>

#include "tests/server/queue/test_places.h"

namespace attnprune::testing {
namespace {

absl::StatusOr<std::string> IdOf(const std::string& folder) {
  const absl::StatusOr<FolderLock> lock = FolderLock::Acquire(folder);
  if (!lock.ok()) return lock.status();
  return FolderId(*lock);
}

TEST(FolderId, StaysThroughARenameAndIsNoOtherFolders) {
  ScratchFolder folder;
  EXPECT_FALSE(HasFolderId(folder / "one"));
  const std::string id = *IdOf(folder / "one");
  EXPECT_TRUE(HasFolderId(folder / "one"));
  EXPECT_THAT(id, ::testing::MatchesRegex("[0-9a-f]{16}"));
  EXPECT_EQ(*IdOf(folder / "one"), id);
  std::filesystem::rename(folder / "one", folder / "renamed");
  EXPECT_EQ(*IdOf(folder / "renamed"), id);
  EXPECT_NE(*IdOf(folder / "other"), id);
}

TEST(FolderId, IsNotMadeUpWhereTheFileIsDamaged) {
  ScratchFolder folder;
  ASSERT_TRUE(IdOf(folder.path()).ok());
  WriteAll(folder / "folder-id", "0123\n");
  EXPECT_EQ(IdOf(folder.path()).status().code(), absl::StatusCode::kDataLoss);
  WriteAll(folder / "folder-id", "0123456789abcdeX\n");
  EXPECT_EQ(IdOf(folder.path()).status().code(), absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace attnprune::testing
