#include "core/io/mapped_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <utility>

#include "tests/core/tensor/tensor_test_util.h"

namespace attnprune {
namespace {

std::string TextOf(const MappedFile& file) { return {file.bytes().begin(), file.bytes().end()}; }

TEST(MappedFile, ShowsTheBytes) {
  const TemporaryFolder folder;
  WriteAll(folder.File("a"), "hello");
  const auto file = MappedFile::Open(folder.File("a"));
  ASSERT_THAT(file, Succeeds());
  EXPECT_EQ(TextOf(*file), "hello");
}

TEST(MappedFile, KeepsItsAddressWhenMoved) {
  const TemporaryFolder folder;
  WriteAll(folder.File("a"), "hello");
  MappedFile file = *MappedFile::Open(folder.File("a"));
  const char* address = file.bytes().data();
  const MappedFile moved = std::move(file);
  EXPECT_EQ(moved.bytes().data(), address);
  EXPECT_EQ(TextOf(moved), "hello");
}

TEST(MappedFile, OutlivesTheFilesName) {
  const TemporaryFolder folder;
  WriteAll(folder.File("a"), "hello");
  const auto file = MappedFile::Open(folder.File("a"));
  std::filesystem::remove(folder.File("a"));
  ASSERT_THAT(file, Succeeds());
  EXPECT_EQ(TextOf(*file), "hello");
}

TEST(MappedFile, MayBeEmpty) {
  const TemporaryFolder folder;
  WriteAll(folder.File("empty"), "");
  const auto file = MappedFile::Open(folder.File("empty"));
  ASSERT_THAT(file, Succeeds());
  EXPECT_TRUE(file->bytes().empty());
}

TEST(MappedFile, SaysThatAFileIsMissing) {
  EXPECT_THAT(MappedFile::Open("/nowhere/x"),
              Fails(absl::StatusCode::kNotFound, "/nowhere/x: cannot open: No such file"));
}

TEST(MappedFile, RefusesFoldersDevicesAndPipesAtOnce) {
  const TemporaryFolder folder;
  EXPECT_THAT(MappedFile::Open(folder.path()),
              Fails(absl::StatusCode::kInvalidArgument, "must be a regular file, got a folder"));
  EXPECT_THAT(MappedFile::Open("/dev/zero"),
              Fails(absl::StatusCode::kInvalidArgument, "got a device or pipe"));
  ASSERT_EQ(mkfifo(folder.File("pipe").c_str(), 0600), 0);
  EXPECT_THAT(MappedFile::Open(folder.File("pipe")),
              Fails(absl::StatusCode::kInvalidArgument, "got a device or pipe"));
}

TEST(MappedFile, SaysThatPermissionIsMissing) {
  const TemporaryFolder folder;
  WriteAll(folder.File("secret"), "x");
  ASSERT_EQ(chmod(folder.File("secret").c_str(), 0), 0);
  ASSERT_EQ(chmod(folder.path().c_str(), 0755), 0);
  const WithoutPrivileges unprivileged;
  EXPECT_THAT(MappedFile::Open(folder.File("secret")),
              Fails(absl::StatusCode::kPermissionDenied, "Permission denied"));
}

}  // namespace
}  // namespace attnprune
