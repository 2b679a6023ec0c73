// Copies that are read while they come: what is given out when, to whom, and what is kept.
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "core/base/mutex.h"
#include "server/blobs/shared/blob_cache.h"
#include "tests/server/blobs/store_fixture.h"

namespace attnprune {
namespace {

constexpr size_t kSome = 1 << 20;

// An object whose bytes come as the test lets them.
class Tap {
 public:
  explicit Tap(std::string bytes) : bytes_(std::move(bytes)) {}

  // Of a copy's source. Ends with `end` behind the bytes that were let through.
  absl::Status Run(BlobCache::Visit visit) {
    size_t at = 0;
    const MutexLock lock(&mutex_);
    begun_ = true;
    changed_.NotifyAll();
    while (true) {
      changed_.Wait(&mutex_,
                    [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return at < open_ || closed_; });
      if (at == open_) return end_;
      const absl::Status taken = visit(absl::MakeConstSpan(bytes_).subspan(at, open_ - at));
      if (!taken.ok()) return taken;
      at = open_;
    }
  }
  void Open(size_t until) {
    const MutexLock lock(&mutex_);
    open_ = until;
    changed_.NotifyAll();
  }
  void Close(const absl::Status& end = absl::OkStatus()) {
    const MutexLock lock(&mutex_);
    end_ = end;
    closed_ = true;
    changed_.NotifyAll();
  }
  void OpenAll() {
    Open(bytes_.size());
    Close();
  }
  void AwaitBegun() {
    const MutexLock lock(&mutex_);
    changed_.Wait(&mutex_, [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return begun_; });
  }
  bool begun() {
    const MutexLock lock(&mutex_);
    return begun_;
  }

 private:
  const std::string bytes_;
  Mutex mutex_;
  CondVar changed_;
  size_t open_ ABSL_GUARDED_BY(mutex_) = 0;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false, begun_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status end_ ABSL_GUARDED_BY(mutex_);
};

class FollowedCopies : public ::testing::Test {
 protected:
  static const std::string& Large() {
    static const std::string& bytes = *new std::string(RandomBytes(3 * kSome, 1));
    return bytes;
  }
  void Open(int64_t most) { cache_ = BlobCache::Open(CacheFolder(), most).value(); }
  std::string CacheFolder() const { return folder_.path() + "/cache"; }

  static StoredBlob BlobOf(const std::string& bytes) {
    return {Sha256Of(bytes), "object-of-" + Sha256Of(bytes), static_cast<int64_t>(bytes.size())};
  }
  std::unique_ptr<BlobReader> Follow(const std::string& bytes, Tap& tap) {
    return cache_->Follow(BlobOf(bytes), [&](BlobCache::Visit visit) {
      ++fetches_;
      return tap.Run(visit);
    });
  }
  std::string Fetch(const std::string& bytes) {
    Tap tap(bytes);
    tap.OpenAll();
    return Fetch(bytes, tap);
  }
  std::string Fetch(const std::string& bytes, Tap& tap) {
    const auto file =
        cache_->Fetch(BlobOf(bytes), BlobCache::Check::kOnce, [&](BlobCache::Visit visit) {
          ++fetches_;
          return tap.Run(visit);
        });
    if (!file.ok()) return file.status().ToString();
    std::string copy(bytes.size(), '\0');
    EXPECT_TRUE((*file)->ReadAt(0, absl::MakeSpan(copy)).ok());
    return copy;
  }
  // The bytes, or the error.
  static std::string Read(const BlobReader& reader, size_t begin, size_t end) {
    std::string out(end - begin, '\0');
    const absl::Status read = reader.ReadAt(static_cast<int64_t>(begin), absl::MakeSpan(out));
    return read.ok() ? out : read.ToString();
  }
  static std::string ReadAll(const BlobReader& reader) {
    return Read(reader, 0, static_cast<size_t>(reader.size()));
  }
  bool HasCopy(const std::string& bytes) const {
    return std::filesystem::exists(CacheFolder() + "/" + Sha256Of(bytes));
  }

  const TempFolder folder_;
  std::atomic<int> fetches_{0};
  const std::string& a_ = Large();
  const std::string b_ = RandomBytes(100, 2);
  Tap tap_{a_};
  std::unique_ptr<BlobCache> cache_;  // its threads end before what they read goes
};

TEST_F(FollowedCopies, WhatHasComeIsReadBeforeTheRestComes) {
  Open(10 * kSome);
  const std::unique_ptr<BlobReader> reader = Follow(a_, tap_);
  EXPECT_EQ(reader->size(), static_cast<int64_t>(a_.size()));
  tap_.Open(2 * kSome);
  EXPECT_EQ(Read(*reader, 0, 2 * kSome), a_.substr(0, 2 * kSome));
  EXPECT_FALSE(HasCopy(a_));
  tap_.OpenAll();
  EXPECT_EQ(ReadAll(*reader), a_);
  EXPECT_TRUE(HasCopy(a_));
}

TEST_F(FollowedCopies, AWaitTakesNoThreadAndEndsWithItsBytes) {
  Open(10 * kSome);
  const std::unique_ptr<BlobReader> reader = Follow(a_, tap_);
  std::atomic<bool> first{false}, whole{false};
  reader->Await(0, kSome, BlobReader::Until::kThere, [&] { first = true; });
  reader->Await(0, 1, BlobReader::Until::kChecked, [&] { whole = true; });
  EXPECT_FALSE(first);
  tap_.Open(kSome);
  while (!first) std::this_thread::yield();
  EXPECT_FALSE(whole);
  bool at_once = false;
  reader->Await(0, kSome, BlobReader::Until::kThere, [&] { at_once = true; });
  EXPECT_TRUE(at_once);
  tap_.OpenAll();
  while (!whole) std::this_thread::yield();
  EXPECT_EQ(ReadAll(*reader), a_);
}

TEST_F(FollowedCopies, TheLastByteWaitsForTheDigest) {
  Open(10 * kSome);
  const std::unique_ptr<BlobReader> reader = Follow(a_, tap_);
  tap_.Open(a_.size());  // and the object does not end yet
  EXPECT_EQ(Read(*reader, 0, a_.size() - kSome), a_.substr(0, a_.size() - kSome));
  std::atomic<bool> end{false};
  reader->Await(static_cast<int64_t>(a_.size()) - 1, reader->size(), BlobReader::Until::kThere,
                [&] { end = true; });
  EXPECT_FALSE(end);
  tap_.Close();
  EXPECT_EQ(Read(*reader, a_.size() - 1, a_.size()), a_.substr(a_.size() - 1));
}

TEST_F(FollowedCopies, OneThatIsDamagedAtItsEndIsNeverWholeAndNotKept) {
  Open(10 * kSome);
  std::string damaged = a_;
  damaged.back() = static_cast<char>(damaged.back() ^ 1);
  Tap tap(damaged);
  const std::unique_ptr<BlobReader> reader = Follow(a_, tap);
  tap.Open(2 * kSome);
  EXPECT_EQ(Read(*reader, 0, kSome), a_.substr(0, kSome));
  tap.OpenAll();
  EXPECT_THAT(Read(*reader, kSome, a_.size()), ::testing::StartsWith("DATA_LOSS"));
  EXPECT_THAT(Read(*reader, 0, 1), ::testing::StartsWith("DATA_LOSS"));
  EXPECT_EQ(FilesIn(CacheFolder()), 0);
  tap_.OpenAll();
  EXPECT_EQ(ReadAll(*Follow(a_, tap_)), a_) << "fetched anew";
  EXPECT_EQ(fetches_, 2);
}

TEST_F(FollowedCopies, OneThatIsTooLongOrTooShortIsDamaged) {
  Open(10 * kSome);
  for (const std::string& other : {a_ + "x", a_.substr(1), std::string()}) {
    Tap tap(other);
    tap.OpenAll();
    EXPECT_THAT(ReadAll(*Follow(a_, tap)), ::testing::StartsWith("DATA_LOSS"));
    EXPECT_EQ(FilesIn(CacheFolder()), 0);
  }
}

TEST_F(FollowedCopies, OneThatIsCutInTheMiddleTellsWhyAndIsNotKept) {
  Open(10 * kSome);
  const std::unique_ptr<BlobReader> reader = Follow(a_, tap_);
  std::atomic<bool> told{false};
  reader->Await(0, 3 * kSome, BlobReader::Until::kThere, [&] { told = true; });
  tap_.Open(kSome);
  EXPECT_EQ(Read(*reader, 0, kSome), a_.substr(0, kSome));
  tap_.Close(absl::UnavailableError("the bucket is away"));
  EXPECT_THAT(Read(*reader, kSome, 2 * kSome), ::testing::StartsWith("UNAVAILABLE: the bucket"));
  EXPECT_TRUE(told);
  EXPECT_EQ(FilesIn(CacheFolder()), 0);
  Tap whole(a_);
  whole.OpenAll();
  EXPECT_EQ(ReadAll(*Follow(a_, whole)), a_);
}

TEST_F(FollowedCopies, ManyReadersShareOneFetch) {
  Open(10 * kSome);
  std::vector<std::jthread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] { EXPECT_EQ(ReadAll(*Follow(a_, tap_)), a_); });
    threads.emplace_back([&] { EXPECT_EQ(Fetch(a_, tap_), a_); });
  }
  tap_.OpenAll();
  threads.clear();
  EXPECT_EQ(fetches_, 1);
}

TEST_F(FollowedCopies, AReaderThatLeavesStopsNothing) {
  Open(10 * kSome);
  std::unique_ptr<BlobReader> leaves = Follow(a_, tap_);
  const std::unique_ptr<BlobReader> stays = Follow(a_, tap_);
  bool called = false;
  leaves->Await(0, 2 * kSome, BlobReader::Until::kThere, [&] { called = true; });
  tap_.Open(kSome);
  EXPECT_EQ(Read(*leaves, 0, kSome), a_.substr(0, kSome));
  leaves = nullptr;
  tap_.OpenAll();
  EXPECT_EQ(ReadAll(*stays), a_);
  EXPECT_FALSE(called) << "nobody was there any more";
  EXPECT_EQ(fetches_, 1);
}

TEST_F(FollowedCopies, AFetchThatHasBegunIsKeptThoughAllHaveLeft) {
  Open(10 * kSome);
  std::unique_ptr<BlobReader> reader = Follow(a_, tap_);
  tap_.AwaitBegun();
  reader = nullptr;
  tap_.OpenAll();
  while (!HasCopy(a_)) std::this_thread::yield();
  EXPECT_EQ(Fetch(a_), a_);
  EXPECT_EQ(fetches_, 1);
}

TEST_F(FollowedCopies, OneThatNobodyWaitsForAnyMoreIsNotBegun) {
  Open(10 * kSome);
  std::vector<std::unique_ptr<Tap>> taps;
  std::vector<std::unique_ptr<BlobReader>> readers;
  for (unsigned i = 0; i < BlobCache::kFetches; ++i) {
    const std::string bytes = RandomBytes(10, 10 + i);
    taps.push_back(std::make_unique<Tap>(bytes));
    readers.push_back(Follow(bytes, *taps.back()));
    taps.back()->AwaitBegun();
  }
  Tap unwanted(a_), wanted(b_);
  Follow(a_, unwanted);
  const std::unique_ptr<BlobReader> next = Follow(b_, wanted);
  wanted.OpenAll();
  for (const auto& tap : taps) tap->OpenAll();
  for (const auto& reader : readers) EXPECT_EQ(ReadAll(*reader).size(), 10u);
  EXPECT_EQ(ReadAll(*next), b_);
  EXPECT_FALSE(unwanted.begun());
}

TEST_F(FollowedCopies, TheBoundHoldsWhileOneComesAndReadersKeepWhatGoes) {
  Open(static_cast<int64_t>(a_.size()) + 150);
  const std::unique_ptr<BlobReader> reader = Follow(a_, tap_);
  tap_.Open(kSome);
  EXPECT_EQ(Read(*reader, 0, kSome), a_.substr(0, kSome));
  Fetch(b_);
  const std::string c = RandomBytes(100, 3), d = RandomBytes(200, 4);
  Fetch(c);
  EXPECT_EQ(cache_->Bytes(), 100) << "what is coming has its room";
  tap_.OpenAll();
  EXPECT_EQ(ReadAll(*reader), a_);
  EXPECT_EQ(cache_->Bytes(), static_cast<int64_t>(a_.size()) + 100);
  Fetch(d);
  EXPECT_FALSE(HasCopy(a_));
  EXPECT_EQ(ReadAll(*reader), a_) << "it is still open";
}

TEST_F(FollowedCopies, WhatIsThereIsReadAtOnceAndHashedFirstWhereItWasNot) {
  Open(10 * kSome);
  EXPECT_EQ(Fetch(a_), a_);
  EXPECT_EQ(ReadAll(*Follow(a_, tap_)), a_);
  Open(10 * kSome);  // as after a restart
  EXPECT_EQ(ReadAll(*Follow(a_, tap_)), a_);
  EXPECT_EQ(fetches_, 1);
  WriteWhole(CacheFolder() + "/" + Sha256Of(a_), std::string(a_.size(), 'x'));
  Open(10 * kSome);
  tap_.OpenAll();
  EXPECT_EQ(ReadAll(*Follow(a_, tap_)), a_);
  EXPECT_EQ(fetches_, 2);
}

TEST_F(FollowedCopies, ACacheThatClosesEndsThoseUnderWayAndThoseNotBegun) {
  Open(10 * kSome);
  const auto endless = [](BlobCache::Visit visit) {
    absl::Status taken;
    while (taken.ok()) taken = visit({});
    return taken;
  };
  std::vector<std::unique_ptr<BlobReader>> readers;
  for (unsigned i = 0; i <= BlobCache::kFetches; ++i) {
    readers.push_back(cache_->Follow(BlobOf(RandomBytes(10, i)), endless));
  }
  cache_ = nullptr;
  for (const auto& reader : readers) {
    EXPECT_THAT(ReadAll(*reader), ::testing::StartsWith("CANCELLED"));
  }
  EXPECT_EQ(FilesIn(CacheFolder()), 0);
}

}  // namespace
}  // namespace attnprune
