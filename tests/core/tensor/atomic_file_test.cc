#include "core/tensor/atomic_file.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>

#include "tests/core/tensor/tensor_test_util.h"

namespace attnprune {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

absl::Status WriteText(const std::string& path, const std::string& text) {
  return WriteFileAtomically(path, {Bytes(text)});
}

// Makes every write past that many bytes fail, as a full disk would, while it lives.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : signal_(std::signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit = {bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;
  ~FileSizeLimit() {
    setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, signal_);
  }

 private:
  void (*signal_)(int);
  rlimit before_;
};

TEST(WriteFileAtomically, WritesTheChunksInOrderAndNothingElse) {
  const TemporaryFolder folder;
  const std::string a = "one ", b = "", c = "two";
  ASSERT_THAT(WriteFileAtomically(folder.File("f"), {Bytes(a), Bytes(b), Bytes(c)}), Succeeds());
  EXPECT_EQ(ReadAll(folder.File("f")), "one two");
  EXPECT_THAT(folder.Files(), ElementsAre("f"));
}

TEST(WriteFileAtomically, ReplacesAnOldFileWhole) {
  const TemporaryFolder folder;
  WriteAll(folder.File("f"), "a long old text");
  ASSERT_THAT(WriteText(folder.File("f"), "new"), Succeeds());
  EXPECT_EQ(ReadAll(folder.File("f")), "new");
}

TEST(WriteFileAtomically, OnAFullDiskLeavesTheOldFileAndNoTemporaryOne) {
  const TemporaryFolder folder;
  WriteAll(folder.File("f"), "old");
  absl::Status status;
  {
    const FileSizeLimit limit(4096);
    status = WriteText(folder.File("f"), std::string(10000, 'x'));
  }
  EXPECT_EQ(status.message(), folder.File("f") + ": cannot write: File too large");
  EXPECT_EQ(ReadAll(folder.File("f")), "old");
  EXPECT_THAT(folder.Files(), ElementsAre("f"));
}

TEST(WriteFileAtomically, OnAFullDiskCreatesNothing) {
  const TemporaryFolder folder;
  {
    const FileSizeLimit limit(4096);
    EXPECT_FALSE(WriteText(folder.File("f"), std::string(10000, 'x')).ok());
  }
  EXPECT_THAT(folder.Files(), IsEmpty());
}

TEST(WriteFileAtomically, SaysThatTheFolderIsMissing) {
  const TemporaryFolder folder;
  EXPECT_THAT(WriteText(folder.File("no/f"), "x"),
              Fails(absl::StatusCode::kNotFound, folder.File("no/f") + ": cannot create"));
}

TEST(WriteFileAtomically, RefusesAFolderThatMayNotBeWritten) {
  const TemporaryFolder folder;
  ASSERT_EQ(chmod(folder.path().c_str(), 0555), 0);
  const WithoutPrivileges unprivileged;
  EXPECT_THAT(WriteText(folder.File("f"), "x"),
              Fails(absl::StatusCode::kPermissionDenied, "Permission denied"));
}

TEST(WriteFileAtomically, ReplacesNeitherFoldersNorDevices) {
  const TemporaryFolder folder;
  EXPECT_THAT(WriteText(folder.path(), "x"),
              Fails(absl::StatusCode::kInvalidArgument, "this is a folder"));
  ASSERT_EQ(mkfifo(folder.File("pipe").c_str(), 0600), 0);
  EXPECT_THAT(WriteText(folder.File("pipe"), "x"),
              Fails(absl::StatusCode::kInvalidArgument, "this is a device or pipe"));
}

TEST(WriteFileAtomically, TakesAPathWithoutAFolder) {
  const TemporaryFolder folder;
  const auto before = std::filesystem::current_path();
  std::filesystem::current_path(folder.path());
  const absl::Status status = WriteText("f", "x");
  std::filesystem::current_path(before);
  EXPECT_THAT(status, Succeeds());
  EXPECT_EQ(ReadAll(folder.File("f")), "x");
}

TEST(WriteFileAtomically, IgnoresWhatACrashedProcessLeft) {
  const TemporaryFolder folder;
  for (int i = 0; i < 100; ++i) {
    WriteAll(folder.File("f.tmp-" + std::to_string(getpid()) + "-" + std::to_string(i)), "junk");
  }
  ASSERT_THAT(WriteText(folder.File("f"), "x"), Succeeds());
  EXPECT_EQ(ReadAll(folder.File("f")), "x");
}

}  // namespace
}  // namespace attnprune
