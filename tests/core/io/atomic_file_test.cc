#include "core/io/atomic_file.h"

#include <fcntl.h>
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

TEST(WriteFileAtomically, AsksForEachChunkWhenItIsWritten) {
  const TemporaryFolder folder;
  std::string chunk;
  const auto next = [&chunk](size_t index) -> absl::StatusOr<absl::Span<const char>> {
    chunk = std::string(index + 1, static_cast<char>('a' + index));
    return absl::Span<const char>(chunk);
  };
  ASSERT_THAT(WriteFileAtomically(folder.File("f"), 3, next), Succeeds());
  EXPECT_EQ(ReadAll(folder.File("f")), "abbccc");
}

TEST(WriteFileAtomically, EndsWithTheFirstErrorOfAChunkAndLeavesTheOldFile) {
  const TemporaryFolder folder;
  ASSERT_THAT(WriteText(folder.File("f"), "old"), Succeeds());
  const std::string first = "new";
  const auto next = [&first](size_t index) -> absl::StatusOr<absl::Span<const char>> {
    if (index == 1) return absl::UnavailableError("gone");
    return absl::Span<const char>(first);
  };
  EXPECT_EQ(WriteFileAtomically(folder.File("f"), 2, next).code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(ReadAll(folder.File("f")), "old");
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

void Link(const std::string& link, const std::string& target) {
  ASSERT_EQ(symlink(target.c_str(), link.c_str()), 0);
}

bool IsLink(const std::string& path) { return std::filesystem::is_symlink(path); }

// A link as root's /dev/stdout once was replaced by a file.
TEST(WriteFileAtomically, WritesWhereALinkLeadsAndLeavesItALink) {
  const TemporaryFolder folder, other;
  WriteAll(other.File("file"), "old");
  Link(folder.File("absolute"), other.File("file"));
  Link(folder.File("relative"), "absolute");
  for (const char* link : {"absolute", "relative"}) {
    ASSERT_THAT(WriteText(folder.File(link), link), Succeeds());
    EXPECT_TRUE(IsLink(folder.File(link)));
    EXPECT_EQ(ReadAll(other.File("file")), link);
  }
  EXPECT_THAT(other.Files(), ElementsAre("file"));
}

TEST(WriteFileAtomically, MakesTheFileThatADanglingLinkNames) {
  const TemporaryFolder folder, other;
  Link(folder.File("link"), other.File("new"));
  ASSERT_THAT(WriteText(folder.File("link"), "x"), Succeeds());
  EXPECT_TRUE(IsLink(folder.File("link")));
  EXPECT_EQ(ReadAll(other.File("new")), "x");
  Link(folder.File("nowhere"), other.File("no/f"));
  EXPECT_THAT(WriteText(folder.File("nowhere"), "x"),
              Fails(absl::StatusCode::kNotFound, other.File("no/f") + ": cannot create"));
}

TEST(WriteFileAtomically, RefusesLinksToWhatCannotBeReplaced) {
  const TemporaryFolder folder;
  Link(folder.File("null"), "/dev/null");
  Link(folder.File("folder"), folder.path());
  EXPECT_THAT(WriteText(folder.File("null"), "x"),
              Fails(absl::StatusCode::kInvalidArgument, folder.File("null") + ": only a regular"));
  EXPECT_THAT(WriteText(folder.File("folder"), "x"),
              Fails(absl::StatusCode::kInvalidArgument, "this is a folder"));
  EXPECT_TRUE(IsLink(folder.File("null")) && IsLink(folder.File("folder")));
}

TEST(WriteFileAtomically, RefusesLinksThatLeadInACircle) {
  const TemporaryFolder folder;
  Link(folder.File("a"), "b");
  Link(folder.File("b"), "a");
  const absl::Status status = WriteText(folder.File("a"), "x");
  EXPECT_FALSE(status.ok());
  EXPECT_EQ(status.message(),
            folder.File("a") + ": cannot write: Too many levels of symbolic links");
  EXPECT_TRUE(IsLink(folder.File("a")) && IsLink(folder.File("b")));
}

// What /dev/stdout leads to under a shell's `>> file`: to replace it would lose what is in it.
TEST(WriteFileAtomically, RefusesAFileThatIsNamedByItsDescriptor) {
  const TemporaryFolder folder;
  WriteAll(folder.File("f"), "old");
  const int fd = open(folder.File("f").c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  ASSERT_GE(fd, 0);
  Link(folder.File("link"), "/proc/self/fd/" + std::to_string(fd));
  EXPECT_THAT(WriteText(folder.File("link"), "x"),
              Fails(absl::StatusCode::kInvalidArgument, "a file that a process has open"));
  close(fd);
  EXPECT_EQ(ReadAll(folder.File("f")), "old");
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
