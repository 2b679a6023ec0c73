#include "core/io/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <numeric>
#include <thread>
#include <utility>
#include <vector>

#include "core/io/atomic_file.h"
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

constexpr size_t kPages = 3 * 4096;

int64_t Sum(absl::Span<const char> bytes) {
  return std::accumulate(bytes.begin(), bytes.end(), 0L);
}

// A file of three pages of ones, mapped.
struct Mapped {
  Mapped() : path(folder.File("a")) {
    WriteAll(path, std::string(kPages, 1));
    file = *MappedFile::Open(path);
  }
  void Truncate(int64_t size) const { EXPECT_EQ(truncate(path.c_str(), size), 0); }

  const TemporaryFolder folder;
  const std::string path;
  MappedFile file;
};

TEST(TruncatedMapping, ReadsAsZerosAndIsToldAfterwards) {
  const Mapped mapped;
  EXPECT_EQ(Sum(mapped.file.bytes()), kPages);
  EXPECT_THAT(CheckMapped(mapped.file.bytes()), Succeeds());
  mapped.Truncate(4096);
  EXPECT_EQ(Sum(mapped.file.bytes()), 4096) << "the process goes on";
  EXPECT_THAT(CheckMapped(mapped.file.bytes()),
              Fails(absl::StatusCode::kDataLoss, "/a: was truncated to 4096 of its 12288 bytes"));
  EXPECT_THAT(CheckMapped(mapped.file.bytes().subspan(100, 10)),
              Fails(absl::StatusCode::kDataLoss, "a"));
}

TEST(TruncatedMapping, IsToldWhereNoReadFails) {
  const Mapped mapped;
  mapped.Truncate(kPages - 1);  // the rest of the last page reads as zeros
  EXPECT_EQ(Sum(mapped.file.bytes()), kPages - 1);
  EXPECT_THAT(CheckMapped(mapped.file.bytes()),
              Fails(absl::StatusCode::kDataLoss, "12287 of its 12288"));
}

TEST(TruncatedMapping, IsToldAlsoWhereTheFileHasGrownAgain) {
  const Mapped mapped;
  mapped.Truncate(0);
  EXPECT_EQ(Sum(mapped.file.bytes()), 0);
  mapped.Truncate(kPages);
  EXPECT_THAT(CheckMapped(mapped.file.bytes()),
              Fails(absl::StatusCode::kDataLoss, "could not be read"));
}

TEST(TruncatedMapping, LeavesTheOthersAlone) {
  const Mapped damaged, whole;
  damaged.Truncate(0);
  EXPECT_EQ(Sum(damaged.file.bytes()), 0);
  EXPECT_EQ(Sum(whole.file.bytes()), kPages);
  EXPECT_THAT(CheckMapped(whole.file.bytes()), Succeeds());
}

TEST(TruncatedMapping, IsForgottenWithItsFile) {
  for (int i = 0; i < 3; ++i) {
    const Mapped mapped;
    EXPECT_THAT(CheckMapped(mapped.file.bytes()), Succeeds());
    mapped.Truncate(0);
    EXPECT_EQ(Sum(mapped.file.bytes()), 0);
  }
}

TEST(TruncatedMapping, IsWrittenToNoFile) {
  const Mapped mapped;
  mapped.Truncate(4096);
  const std::string copy = mapped.folder.File("copy");
  EXPECT_THAT(WriteFileAtomically(copy, {mapped.file.bytes()}),
              Fails(absl::StatusCode::kDataLoss, "was truncated to 4096"));
  EXPECT_FALSE(std::filesystem::exists(copy));
}

// A sanitizer reports the signal and exits.
bool EndsByTheSignal(int status) {
  return ::testing::KilledBySignal(SIGBUS)(status) ||
         (WIFEXITED(status) && WEXITSTATUS(status) != 0);
}

TEST(TruncatedMapping, OfNobodysEndsTheProcessAsEver) {
  const Mapped guarded;  // the handler is there
  const int fd = open(guarded.path.c_str(), O_RDONLY);
  const auto* const bytes =
      static_cast<const volatile char*>(mmap(nullptr, kPages, PROT_READ, MAP_PRIVATE, fd, 0));
  guarded.Truncate(0);
  EXPECT_EXIT(static_cast<void>(bytes[0]), EndsByTheSignal, "");
  close(fd);
}

TEST(TruncatedMapping, MayBeReadByManyThreads) {
  const Mapped mapped;
  mapped.Truncate(0);
  std::vector<std::jthread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&mapped] { EXPECT_EQ(Sum(mapped.file.bytes()), 0); });
  }
  threads.clear();
  EXPECT_THAT(CheckMapped(mapped.file.bytes()), Fails(absl::StatusCode::kDataLoss, "truncated"));
}

}  // namespace
}  // namespace attnprune
