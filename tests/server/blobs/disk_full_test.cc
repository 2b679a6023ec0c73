// A full and a read-only disk: a small tmpfs where the tests may mount one, else (and always) the
// limit on a file's size, which fails the same write.
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include <vector>

#include "tests/server/blobs/store_fixture.h"

namespace attnprune {
namespace {

class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit = {.rlim_cur = bytes, .rlim_max = before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() { setrlimit(RLIMIT_FSIZE, &before_); }

 private:
  rlimit before_;
};

class DiskFullTest : public StoreTest {
 protected:
  void TearDown() override {
    store_ = nullptr;
    if (mounted_) umount(mount_point_.c_str());
  }

  bool MountSmallDisk() {
    mount_point_ = folder_.path() + "/disk";
    std::filesystem::create_directory(mount_point_);
    mounted_ = mount("tmpfs", mount_point_.c_str(), "tmpfs", 0, "size=2m") == 0;
    if (!mounted_) return false;
    options_.folder = mount_point_ + "/data";
    Reopen();
    return true;
  }

  std::string mount_point_;
  bool mounted_ = false;
};

TEST_F(DiskFullTest, AWriteThatDoesNotFitRemovesTheUploadAndNothingElse) {
  const std::string stored = RandomBytes(500, 1), bytes = RandomBytes(5000, 2);
  const std::string digest = *store_->Put(stored);
  const UploadSpec spec = SpecOf("a", bytes);
  {
    const std::unique_ptr<Upload> upload = Start(spec, 0);
    const FileSizeLimit limit(3000);
    ASSERT_TRUE(upload->Append(absl::MakeConstSpan(bytes).subspan(0, 2500)).ok());
    EXPECT_THAT(upload->Append(absl::MakeConstSpan(bytes).subspan(2500, 2500)),
                FailsWith(absl::StatusCode::kResourceExhausted, "a.data: cannot write"));
    EXPECT_TRUE(absl::IsResourceExhausted(store_->Put(bytes).status()));
  }
  EXPECT_EQ(Committed("a"), 0);
  EXPECT_EQ(FilesIn(UploadsFolder()), 0);
  EXPECT_EQ(store_->Usage().uploads, 0);
  EXPECT_EQ(Stored(digest), stored);
  EXPECT_TRUE(UploadFrom(spec, bytes, 0).ok());
}

TEST_F(DiskFullTest, AFullDiskLosesNothingAndWorksAgainOnceThereIsRoom) {
  if (!MountSmallDisk()) GTEST_SKIP() << "may not mount";
  const std::string stored = RandomBytes(1 << 20, 1), first = RandomBytes(700 << 10, 2),
                    second = RandomBytes(700 << 10, 3);
  const std::string digest = *store_->Put(stored);
  EXPECT_TRUE(UploadFrom(SpecOf("a", first), first, 0).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(store_->Put(second).status()));
  EXPECT_EQ(FilesIn(UploadsFolder()), 0);
  Reopen();
  EXPECT_TRUE(store_->Verify(digest).ok());
  EXPECT_TRUE(store_->Verify(Sha256Of(first)).ok());
  clock_.Advance(absl::Hours(2));
  ASSERT_EQ(store_->Collect({digest}, absl::Hours(1))->blobs, 1);
  EXPECT_TRUE(UploadFrom(SpecOf("b", second), second, 0).ok());
}

TEST_F(DiskFullTest, UploadsThatDeclareTheWholeDiskAndSendNothingKeepNoneOut) {
  if (!MountSmallDisk()) GTEST_SKIP() << "may not mount";
  std::vector<std::unique_ptr<Upload>> silent;
  silent.reserve(10);
  for (unsigned i = 0; i < 10; ++i) {
    silent.push_back(Start(SpecOf(std::to_string(i), RandomBytes(2 << 20, 2 + i)), 0));
  }
  EXPECT_EQ(FilesIn(UploadsFolder()), 0);
  const std::string bytes = RandomBytes(1900 << 10, 1);
  EXPECT_TRUE(UploadFrom(SpecOf("a", bytes), bytes, 0).ok());
}

TEST_F(DiskFullTest, WhatHasComeKeepsNoMoreThanAsMuchAgainFromOthers) {
  if (!MountSmallDisk()) GTEST_SKIP() << "may not mount";
  const std::string slow = RandomBytes(1500 << 10, 1), bytes = RandomBytes(1750 << 10, 2);
  const std::unique_ptr<Upload> a = Start(SpecOf("a", slow), 0);
  ASSERT_TRUE(a->Append(absl::MakeConstSpan(slow).subspan(0, 64 << 10)).ok());
  ASSERT_TRUE(a->Append(absl::MakeConstSpan(slow).subspan(64 << 10, 64 << 10)).ok());
  EXPECT_TRUE(UploadFrom(SpecOf("b", bytes), bytes, 0).ok());
}

TEST_F(DiskFullTest, ADiskThatFillsInTheMiddleEndsThatUploadAndLeavesNothingOfIt) {
  options_.min_free_disk_bytes = 256 << 10;
  if (!MountSmallDisk()) GTEST_SKIP() << "may not mount";
  const std::string first = RandomBytes(1500 << 10, 1), second = RandomBytes(1500 << 10, 2);
  const std::unique_ptr<Upload> a = Start(SpecOf("a", first), 0);
  {
    const std::unique_ptr<Upload> b = Start(SpecOf("b", second), 0);
    ASSERT_TRUE(b->Append(absl::MakeConstSpan(second).subspan(0, 600 << 10)).ok());
    ASSERT_TRUE(a->Append(absl::MakeConstSpan(first).subspan(0, 600 << 10)).ok());
    EXPECT_THAT(b->Append(absl::MakeConstSpan(second).subspan(600 << 10)),
                FailsWith(absl::StatusCode::kResourceExhausted,
                          "no room for the next 921600 bytes beside the 262144 that must stay"));
  }
  EXPECT_EQ(Committed("b"), 0);
  EXPECT_EQ(store_->Usage().uploads, 1);
  EXPECT_EQ(store_->Usage().upload_bytes, 600 << 10);
  EXPECT_EQ(FilesIn(UploadsFolder()), 2);
  ASSERT_TRUE(a->Append(absl::MakeConstSpan(first).subspan(600 << 10)).ok());
  EXPECT_TRUE(a->Finish().ok()) << "it has the room that the other gave back";
  EXPECT_EQ(Stored(Sha256Of(first)), first);
}

TEST_F(DiskFullTest, AnUploadThatIsLeftGivesItsReservedRoomBackAndTakesItAgain) {
  if (!MountSmallDisk()) GTEST_SKIP() << "may not mount";
  const std::string a = RandomBytes(1500 << 10, 1), b = RandomBytes(1000 << 10, 2);
  UploadPart(SpecOf("a", a), a, 100 << 10);
  EXPECT_TRUE(UploadFrom(SpecOf("b", b), b, 0).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(store_->StartUpload(SpecOf("a", a), 100 << 10).status()));
  EXPECT_EQ(Committed("a"), 100 << 10) << "it waits for room";
  std::filesystem::remove(BlobPath(Sha256Of(b)));
  EXPECT_TRUE(UploadFrom(SpecOf("a", a), a, 100 << 10).ok());
}

TEST_F(DiskFullTest, AnUploadThatCannotFitIsRefusedBeforeItIsSent) {
  if (!MountSmallDisk()) GTEST_SKIP() << "may not mount";
  const std::string bytes = RandomBytes(3 << 20, 1);
  EXPECT_THAT(store_->StartUpload(SpecOf("a", bytes), 0).status(),
              FailsWith(absl::StatusCode::kResourceExhausted,
                        "no room for the 3145728 bytes that are to come"));
  EXPECT_EQ(FilesIn(UploadsFolder()), 0);
}

TEST_F(DiskFullTest, UploadsLeaveTheDatabaseItsRoom) {
  options_.min_free_disk_bytes = int64_t{1} << 60;
  Reopen();
  const std::string bytes = RandomBytes(100, 1);
  EXPECT_THAT(
      store_->StartUpload(SpecOf("a", bytes), 0).status(),
      FailsWith(absl::StatusCode::kResourceExhausted, "1152921504606846976 that must stay free"));
  EXPECT_TRUE(store_->Put(bytes).ok()) << "results may use it";
}

TEST_F(DiskFullTest, AReadOnlyDiskIsRefusedAtTheStart) {
  if (!MountSmallDisk()) GTEST_SKIP() << "may not mount";
  store_ = nullptr;
  ASSERT_EQ(mount("tmpfs", mount_point_.c_str(), "tmpfs", MS_REMOUNT | MS_RDONLY, ""), 0);
  EXPECT_THAT(OpenPosixBlobStore(options_, &clock_).status(),
              FailsWith(absl::StatusCode::kInternal, "Read-only file system"));
}

}  // namespace
}  // namespace attnprune
