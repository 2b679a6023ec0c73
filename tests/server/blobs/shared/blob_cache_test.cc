// Copies of tensors: bounded, checked, fetched once.
#include "server/blobs/shared/blob_cache.h"

#include <atomic>
#include <thread>
#include <vector>

#include "tests/server/blobs/store_fixture.h"

namespace attnprune {
namespace {

class BlobCacheTest : public ::testing::Test {
 protected:
  void Open(int64_t most) { cache_ = BlobCache::Open(folder_.path() + "/cache", most).value(); }

  // The copy's bytes, fetched from `bytes`, or the error.
  std::string Fetch(const std::string& sha256, const std::string& bytes,
                    BlobCache::Check check = BlobCache::Check::kOnce) {
    const StoredBlob blob = {sha256, "object", static_cast<int64_t>(bytes.size())};
    const auto file = cache_->Fetch(blob, check, [&](BlobCache::Visit visit) -> absl::Status {
      ++fetches_;
      const absl::Status first = visit(absl::MakeConstSpan(bytes).subspan(0, 7));
      return first.ok() ? visit(absl::MakeConstSpan(bytes).subspan(7)) : first;
    });
    if (!file.ok()) return file.status().ToString();
    std::string copy(static_cast<size_t>(*(*file)->Size()), '\0');
    EXPECT_TRUE((*file)->ReadAt(0, absl::MakeSpan(copy)).ok());
    return copy;
  }
  std::string Fetch(const std::string& bytes) { return Fetch(Sha256Of(bytes), bytes); }
  bool HasCopy(const std::string& bytes) const {
    return std::filesystem::exists(PathOf(Sha256Of(bytes)));
  }
  std::string PathOf(const std::string& sha256) const {
    return folder_.path() + "/cache/" + sha256;
  }

  const TempFolder folder_;
  std::unique_ptr<BlobCache> cache_;
  std::atomic<int> fetches_{0};
  const std::string a_ = RandomBytes(100, 1), b_ = RandomBytes(100, 2), c_ = RandomBytes(100, 3);
};

TEST_F(BlobCacheTest, FetchesOnce) {
  Open(1000);
  EXPECT_EQ(Fetch(a_), a_);
  EXPECT_EQ(Fetch(a_), a_);
  EXPECT_EQ(fetches_, 1);
}

TEST_F(BlobCacheTest, FetchesOnceForManyThreads) {
  Open(1000);
  std::vector<std::jthread> threads;
  for (int i = 0; i < 8; ++i) threads.emplace_back([&] { EXPECT_EQ(Fetch(a_), a_); });
  threads.clear();
  EXPECT_EQ(fetches_, 1);
}

TEST_F(BlobCacheTest, TheLeastRecentlyUsedGoFirst) {
  Open(250);
  Fetch(a_);
  Fetch(b_);
  Fetch(a_);
  Fetch(c_);
  EXPECT_TRUE(HasCopy(a_));
  EXPECT_FALSE(HasCopy(b_));
  EXPECT_TRUE(HasCopy(c_));
  EXPECT_EQ(cache_->Bytes(), 200);
}

TEST_F(BlobCacheTest, KeepsItsOrderAndItsBoundOverARestart) {
  Open(1000);
  for (const std::string& bytes : {a_, b_, c_}) Fetch(bytes);
  const std::string digests[] = {Sha256Of(b_), Sha256Of(a_), Sha256Of(c_)};
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(SetFileTime(PathOf(digests[i]), absl::FromUnixSeconds(1000 + i)).ok());
  }
  WriteWhole(PathOf(digests[0]) + ".new", "half a copy");
  Open(250);
  EXPECT_FALSE(HasCopy(b_));
  EXPECT_TRUE(HasCopy(a_));
  EXPECT_EQ(FilesIn(folder_.path() + "/cache"), 2);
  EXPECT_EQ(Fetch(a_), a_);
  EXPECT_EQ(fetches_, 3);
}

TEST_F(BlobCacheTest, OneThatIsLargerThanTheBoundIsForItsReaderAlone) {
  Open(99);
  EXPECT_EQ(Fetch(a_), a_);
  EXPECT_FALSE(HasCopy(a_));
  EXPECT_EQ(cache_->Bytes(), 0);
}

TEST_F(BlobCacheTest, TakesNothingWhoseDigestIsAnother) {
  Open(1000);
  EXPECT_THAT(Fetch(Sha256Of(a_), b_), ::testing::StartsWith("DATA_LOSS"));
  EXPECT_FALSE(HasCopy(a_));
  EXPECT_EQ(Fetch(a_), a_);
}

TEST_F(BlobCacheTest, ACopyThatWasDamagedWhileNobodyLookedIsFetchedAnew) {
  Open(1000);
  Fetch(a_);
  WriteWhole(PathOf(Sha256Of(a_)), b_);
  Open(1000);
  EXPECT_EQ(Fetch(a_), a_);
  EXPECT_EQ(fetches_, 2);
}

TEST_F(BlobCacheTest, ACopyIsHashedAgainWhereThatIsAsked) {
  Open(1000);
  Fetch(a_);
  WriteWhole(PathOf(Sha256Of(a_)), b_);
  EXPECT_EQ(Fetch(Sha256Of(a_), a_, BlobCache::Check::kNow), a_);
  EXPECT_EQ(fetches_, 2);
}

}  // namespace
}  // namespace attnprune
