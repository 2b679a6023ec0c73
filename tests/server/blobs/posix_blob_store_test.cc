// The conformance suite over the POSIX store, and what only that one promises.
#include "server/blobs/posix_blob_store.h"

#include "tests/server/blobs/blob_store_conformance.h"
#include "tests/server/blobs/store_fixture.h"

namespace attnprune {
namespace {

using PosixBlobStore = StoreTest;

class PosixPlace final : public BlobStoreUnderTest {
 public:
  PosixPlace() { Reopen({}); }
  BlobStore& store() override { return *store_; }
  FakeClock& clock() override { return clock_; }

  void Reopen(const BlobStoreLimits& limits) override {
    store_ = nullptr;
    absl::StatusOr<std::unique_ptr<BlobStore>> store = OpenPosixBlobStore(
        {.folder = folder_.path() + "/data", .limits = limits, .min_free_disk_bytes = 0}, &clock_);
    if (!store.ok()) std::abort();
    store_ = *std::move(store);
  }

  void Spoil(const std::string& sha256, const std::string& bytes) override {
    WriteWhole(BlobPath(sha256), bytes);
  }
  void Lose(const std::string& sha256) override { std::filesystem::remove(BlobPath(sha256)); }
  std::string Quarantined(const std::string& sha256) override {
    return ReadWhole(folder_.path() + "/data/tensors/corrupt/" + sha256);
  }
  int UnfinishedFiles() override { return FilesIn(folder_.path() + "/data/uploads"); }

 private:
  std::string BlobPath(const std::string& sha256) const {
    return folder_.path() + "/data/tensors/sha256/" + sha256.substr(0, 2) + "/" + sha256;
  }

  const TempFolder folder_;
  FakeClock clock_;
  std::unique_ptr<BlobStore> store_;
};

INSTANTIATE_BLOB_STORE_CONFORMANCE(Posix, [] { return std::make_unique<PosixPlace>(); });

TEST_F(PosixBlobStore, TakesNoPathForADigest) {
  WriteWhole(options_.folder + "/tensors/sha256/secret", "x");
  for (const char* path : {"", ".", "..", "../secret", "../../uploads"}) {
    EXPECT_TRUE(absl::IsNotFound(store_->SizeOf(path).status())) << path;
    EXPECT_TRUE(absl::IsNotFound(store_->Map(path, 1).status())) << path;
    EXPECT_TRUE(absl::IsNotFound(store_->OpenForReading(path).status())) << path;
    EXPECT_TRUE(absl::IsNotFound(store_->Verify(path))) << path;
  }
}

TEST_F(PosixBlobStore, CannotOpenWhereAFileIs) {
  options_.folder = folder_.path() + "/file";
  WriteWhole(options_.folder, "x");
  EXPECT_THAT(OpenPosixBlobStore(options_, &clock_).status(),
              FailsWith(absl::StatusCode::kInternal, options_.folder));
}

TEST_F(PosixBlobStore, OpensNoFolderThatIsALink) {
  const std::string tensors = options_.folder + "/tensors", elsewhere = options_.folder + "/other";
  store_.reset();
  std::filesystem::rename(tensors, elsewhere);
  std::filesystem::create_directory_symlink(elsewhere, tensors);
  EXPECT_THAT(OpenPosixBlobStore(options_, &clock_).status(),
              FailsWith(absl::StatusCode::kFailedPrecondition, "must be a folder, is a link"));
}

TEST_F(PosixBlobStore, IdsOfDotsStayInTheirFolder) {
  const std::string bytes = RandomBytes(100, 1);
  for (const char* id : {".", "..", "..data", "a.spec", "a.data", "a"}) {
    UploadPart(SpecOf(id, bytes), bytes, 10);
  }
  EXPECT_EQ(FilesIn(UploadsFolder()), 12);
  Reopen();
  for (const char* id : {".", "..", "..data", "a.spec", "a.data", "a"}) {
    EXPECT_EQ(Committed(id), 10) << id;
  }
}

TEST_F(PosixBlobStore, ReadsAWholeTensorOnceHoweverOftenAnotherSizeIsNamed) {
  const std::string bytes = RandomBytes(100, 1);
  const std::string path = BlobPath(*store_->Put(bytes));
  const auto upload_of_another_size = [&](const char* id) {
    UploadSpec spec = SpecOf(id, bytes);
    spec.size_bytes = 99;
    return store_->StartUpload(spec, 0).status().code();
  };
  EXPECT_EQ(upload_of_another_size("a"), absl::StatusCode::kInvalidArgument);
  std::fstream(path, std::ios::in | std::ios::out) << "damaged";  // which a second look would see
  EXPECT_EQ(upload_of_another_size("b"), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(std::filesystem::exists(path));
  EXPECT_EQ(store_->Verify(SpecOf("c", bytes).sha256).code(), absl::StatusCode::kDataLoss);
}

TEST_F(PosixBlobStore, LeavesForeignFilesAlone) {
  const std::string path = BlobPath(*store_->Put(RandomBytes(100, 1)));
  const std::string foreign = path.substr(0, path.size() - 64) + "note";
  WriteWhole(foreign, "x");
  clock_.Advance(absl::Hours(10000));
  EXPECT_EQ(store_->Collect({}, absl::Hours(1))->blobs, 1);
  EXPECT_TRUE(std::filesystem::exists(foreign));
}

}  // namespace
}  // namespace attnprune
