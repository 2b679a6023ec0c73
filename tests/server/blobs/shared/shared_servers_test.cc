// Several servers of one place and one database: uploads that move, collections that meet, places
// that are not theirs, a bucket that is away.
#include <thread>
#include <vector>

#include "tests/server/blobs/shared/shared_place.h"

namespace attnprune {
namespace {

using testing::PlaceKind;
using testing::S3Server;
using testing::SharedPlace;

constexpr absl::Duration kGrace = absl::Hours(1);
constexpr size_t kMiB = 1 << 20;

// Cheaper than RandomBytes; no two parts of it are alike.
std::string ManyBytes(size_t size, unsigned seed) {
  const std::string block = RandomBytes(65521, seed);
  std::string bytes;
  bytes.reserve(size + block.size());
  while (bytes.size() < size) bytes += block;
  bytes.resize(size);
  return bytes;
}

class SharedServers : public ::testing::TestWithParam<PlaceKind>, public BlobStoreOps {
 protected:
  SharedServers() : place_(GetParam()) {
    a_ = place_.Open(place_.OptionsOf("a"));
    b_ = place_.Open(place_.OptionsOf("b"));
  }
  BlobStore& store() override { return *a_; }
  static absl::Span<const char> Part(const std::string& bytes, size_t from, size_t size) {
    return absl::MakeConstSpan(bytes).subspan(from, size);
  }
  // Of upload u, which is being sent.
  void AwaitFirstPart() {
    while (*b_->CommittedBytes("u") == 0) std::this_thread::yield();
  }
  static std::string Read(const BlobStore& store, const std::string& sha256, int64_t size) {
    const auto mapped = store.Map(sha256, size);
    if (!mapped.ok()) return mapped.status().ToString();
    return {mapped->bytes().begin(), mapped->bytes().end()};
  }

  SharedPlace place_;
  std::unique_ptr<BlobStore> a_, b_;
};

TEST_P(SharedServers, WhatOnePutsTheOtherReads) {
  const std::string bytes = RandomBytes(1000, 1), digest = *a_->Put(bytes);
  EXPECT_TRUE(b_->FindMissing({digest})->empty());
  EXPECT_EQ(Read(*b_, digest, 1000), bytes);
  EXPECT_TRUE(b_->Verify(digest).ok());
  EXPECT_EQ(b_->Usage().blob_bytes, 1000);
}

TEST_P(SharedServers, AnUploadBegunAtOneGoesOnAtTheOther) {
  const std::string bytes = ManyBytes(20 * kMiB + 77, 1);
  const UploadSpec spec = SpecOf("u", bytes);
  {
    const std::unique_ptr<Upload> upload = Start(spec, 0);
    ASSERT_TRUE(upload->Append(Part(bytes, 0, 12 * kMiB)).ok());
  }
  ASSERT_EQ(*b_->CommittedBytes("u"), 12 * kMiB);
  {
    const auto upload = b_->StartUpload(spec, 12 * kMiB).value();
    ASSERT_TRUE(upload->Append(Part(bytes, 12 * kMiB, kMiB)).ok());
  }
  const auto upload = Start(spec, 13 * kMiB);
  ASSERT_TRUE(upload->Append(Part(bytes, 13 * kMiB, bytes.size())).ok());
  const absl::Status finished = upload->Finish();
  ASSERT_TRUE(finished.ok()) << finished;
  EXPECT_TRUE(Read(*b_, spec.sha256, spec.size_bytes) == bytes);
  EXPECT_EQ(place_.UnfinishedFiles(), 0);
}

TEST_P(SharedServers, AnUploadThatMovedAndWasDamagedIsNotStored) {
  const std::string bytes = ManyBytes(9 * kMiB, 1), other = ManyBytes(9 * kMiB, 2);
  const UploadSpec spec = SpecOf("u", bytes);
  {
    const std::unique_ptr<Upload> upload = Start(spec, 0);
    ASSERT_TRUE(upload->Append(Part(other, 0, 9 * kMiB - 1)).ok());
  }
  const auto upload = b_->StartUpload(spec, 9 * kMiB - 1).value();
  ASSERT_TRUE(upload->Append(Part(bytes, 9 * kMiB - 1, 1)).ok());
  EXPECT_THAT(upload->Finish(), Refuses(absl::StatusCode::kInvalidArgument, "header.sha256"));
  EXPECT_FALSE(IsThere(spec.sha256));
  EXPECT_EQ(place_.UnfinishedFiles(), 0);
}

TEST_P(SharedServers, AnUploadHasOneWriterAmongServersUntilItsHoldIsOver) {
  const std::string bytes = ManyBytes(20 * kMiB, 1);
  const UploadSpec spec = SpecOf("u", bytes);
  const std::unique_ptr<Upload> silent = Start(spec, 0);
  ASSERT_TRUE(silent->Append(Part(bytes, 0, 10 * kMiB)).ok());
  EXPECT_THAT(b_->StartUpload(spec, 0).status(),
              FailsWith(absl::StatusCode::kAborted, "upload u "));
  place_.clock().Advance(absl::Minutes(1));  // as when the first server is no more
  AwaitFirstPart();
  ASSERT_EQ(*b_->CommittedBytes("u"), 8 * kMiB) << "whole parts";
  const auto upload = b_->StartUpload(spec, 8 * kMiB).value();
  EXPECT_TRUE(silent->Append(Part(bytes, 10 * kMiB, bytes.size())).ok()) << "it is on its way";
  EXPECT_TRUE(absl::IsAborted(silent->Finish()));
  ASSERT_TRUE(upload->Append(Part(bytes, 8 * kMiB, bytes.size())).ok());
  const absl::Status finished = upload->Finish();
  ASSERT_TRUE(finished.ok()) << finished;
  EXPECT_TRUE(Read(*b_, spec.sha256, spec.size_bytes) == bytes);
}

TEST_P(SharedServers, AServerThatStartsAgainGoesOnWithItsUploadsAtOnce) {
  const std::string bytes = ManyBytes(9 * kMiB, 1);
  const UploadSpec spec = SpecOf("u", bytes);
  const std::unique_ptr<Upload> killed = Start(spec, 0);
  ASSERT_TRUE(killed->Append(Part(bytes, 0, bytes.size())).ok());
  AwaitFirstPart();
  const std::unique_ptr<BlobStore> again = place_.Open(place_.OptionsOf("a"));
  EXPECT_TRUE(again->StartUpload(spec, 8 * kMiB).ok());
}

TEST_P(SharedServers, OneCollectsAtATime) {
  const std::string digest = *a_->Put(RandomBytes(100, 1));
  place_.clock().Advance(kGrace);
  const auto ledger = place_.OpenLedger();
  ASSERT_TRUE(*ledger->TakeDuty("collect tensors", "another", absl::Minutes(1)));
  EXPECT_EQ(a_->Collect({}, kGrace)->blobs, 0);
  place_.clock().Advance(absl::Minutes(1));
  EXPECT_EQ(a_->Collect({}, kGrace)->blobs, 1);
  EXPECT_FALSE(IsThere(digest));
  EXPECT_EQ(place_.UnfinishedFiles(), 0);
}

TEST_P(SharedServers, WhatOneTellsToBeThereNoOtherCollects) {
  const std::string bytes = RandomBytes(100, 1), digest = Sha256Of(bytes);
  for (int round = 0; round < 40; ++round) {
    ASSERT_TRUE(a_->Put(bytes).ok());
    place_.clock().Advance(kGrace);
    bool told_there = false;
    {
      const std::jthread client([&] { told_there = IsThere(digest); });
      const std::jthread collector([&] { EXPECT_TRUE(b_->Collect({}, kGrace).ok()); });
    }
    EXPECT_EQ(told_there, b_->SizeOf(digest).ok());
    if (told_there) {
      EXPECT_EQ(Read(*b_, digest, 100), bytes);
    }
  }
}

TEST_P(SharedServers, ARemovalThatComesLateMeetsNoNewTensor) {
  const std::string bytes = RandomBytes(100, 1), digest = *a_->Put(bytes);
  place_.clock().Advance(kGrace);
  // A collector strikes it out, and dies before it has removed the object.
  ASSERT_EQ(place_.OpenLedger()->TakeOut({digest}, kGrace)->blobs, 1);
  ASSERT_TRUE(b_->Put(bytes).ok());
  EXPECT_EQ(place_.UnfinishedFiles(), 1);
  ASSERT_TRUE(a_->Collect({}, kGrace).ok());
  EXPECT_EQ(place_.UnfinishedFiles(), 0);
  EXPECT_EQ(Read(*b_, digest, 100), bytes);
}

TEST_P(SharedServers, WhatAKilledServerWasWritingIsRemovedInTheEnd) {
  const auto objects = place_.OpenObjects();
  const auto ledger = place_.OpenLedger();
  const std::string bytes = "half a result";
  const absl::Span<const char> pieces[] = {bytes};
  ASSERT_TRUE(ledger->Reserve({"sha256/ab/one"}).ok());
  ASSERT_TRUE(objects->Put("sha256/ab/one", pieces).ok());
  const std::string writing = *objects->BeginParts("sha256/ab/two");
  ASSERT_TRUE(ledger->Reserve({"sha256/ab/two", writing}).ok());
  ASSERT_TRUE(objects->PutPart("sha256/ab/two", writing, 0, 0, pieces).ok());
  ASSERT_TRUE(a_->Collect({}, kGrace).ok());
  EXPECT_EQ(place_.UnfinishedFiles(), 2) << "it may still be at it";
  place_.clock().Advance(kGrace);
  ASSERT_TRUE(a_->Collect({}, kGrace).ok());
  EXPECT_EQ(place_.UnfinishedFiles(), 0);
  const StoredBlob late = {Sha256Of(bytes), "sha256/ab/one", 13};
  EXPECT_TRUE(absl::IsAborted(ledger->Publish(late).status())) << "it was given up";
  EXPECT_FALSE(IsThere(late.sha256));
}

TEST_P(SharedServers, TheTotalIsOfAllServers) {
  SharedBlobStoreOptions options = place_.OptionsOf("c");
  options.limits.max_total_bytes = 250;
  const auto c = place_.Open(options);
  ASSERT_TRUE(a_->Put(RandomBytes(100, 1)).ok());
  const std::string left = RandomBytes(100, 2), next = RandomBytes(100, 3);
  UploadPart(SpecOf("a", left), left, 60);
  EXPECT_THAT(c->StartUpload(SpecOf("b", next), 0).status(),
              FailsWith(absl::StatusCode::kResourceExhausted, "= 250"));
}

TEST_P(SharedServers, AResultInPartsIsWhole) {
  SharedBlobStoreOptions options = place_.OptionsOf("c");
  options.largest_put_bytes = 1000;
  const auto c = place_.Open(options);
  for (const size_t size : {8 * kMiB - 1, 8 * kMiB, 8 * kMiB + 1}) {
    const std::string bytes = ManyBytes(size, 1), tail = "the tail";
    const std::string digest = *c->Put(bytes, tail);
    EXPECT_EQ(digest, Sha256Of(bytes + tail));
    EXPECT_TRUE(b_->Verify(digest).ok());
  }
  EXPECT_EQ(place_.UnfinishedFiles(), 0);
}

TEST_P(SharedServers, APlaceOfAnotherDatabaseIsRefused) {
  place_.Ask("UPDATE attnprune.blob_place SET id = repeat('0', 32) RETURNING id");
  EXPECT_THAT(place_.TryOpen(place_.OptionsOf("c")).status(),
              FailsWith(absl::StatusCode::kFailedPrecondition, "which is another's"));
}

TEST_P(SharedServers, AnEmptyPlaceIsNotThatOfADatabaseWithTensors) {
  ASSERT_TRUE(a_->Put(RandomBytes(100, 1)).ok());
  ASSERT_TRUE(place_.OpenObjects()->Remove("place").ok());
  EXPECT_THAT(place_.TryOpen(place_.OptionsOf("c")).status(),
              FailsWith(absl::StatusCode::kFailedPrecondition, "has no object \"place\""));
}

INSTANTIATE_TEST_SUITE_P(Folder, SharedServers, ::testing::Values(PlaceKind::kFolder),
                         [](const auto&) { return "Place"; });
INSTANTIATE_TEST_SUITE_P(Bucket, SharedServers, ::testing::Values(PlaceKind::kBucket),
                         [](const auto&) { return "Place"; });

// What a download reads of a tensor in a bucket: `size` bytes from `from`, or the error.
std::string ReadPart(const BlobReader& reader, size_t from, size_t size) {
  std::string out(size, '\0');
  const absl::Status read = reader.ReadAt(static_cast<int64_t>(from), absl::MakeSpan(out));
  return read.ok() ? out : read.ToString();
}

class BucketDownload : public ::testing::Test, public BlobStoreOps {
 protected:
  BucketDownload() : store_(place_.Open(place_.OptionsOf("a"))) {}
  BlobStore& store() override { return *store_; }
  std::unique_ptr<BlobReader> Open() { return store_->OpenForReading(digest_).value(); }
  std::string ObjectFile() const { return place_.FileOf(place_.ObjectOf(digest_)); }
  // So many GETs of it break off after so many bytes.
  void Cut(int times, int bytes) {
    S3Server::Shared().SetFault(absl::StrCat("{\"method\": \"GET\", \"contains\": \"", digest_,
                                             "\", \"cut\": ", bytes, ", \"times\": ", times, "}"));
  }

  const std::string bytes_ = ManyBytes(3 * kMiB, 1);
  SharedPlace place_{PlaceKind::kBucket};
  std::unique_ptr<BlobStore> store_;
  const std::string digest_ = *store_->Put(bytes_);
};

TEST_F(BucketDownload, OfAnObjectWhoseEndIsDamagedHasNoEndAndTheNextIsWhole) {
  std::string damaged = bytes_;
  damaged.back() = static_cast<char>(damaged.back() ^ 1);
  WriteWhole(ObjectFile(), damaged);
  const std::unique_ptr<BlobReader> reader = Open();
  EXPECT_THAT(ReadPart(*reader, 2 * kMiB, kMiB), ::testing::StartsWith("DATA_LOSS"));
  WriteWhole(ObjectFile(), bytes_);
  EXPECT_TRUE(ReadPart(*Open(), 0, bytes_.size()) == bytes_);
}

TEST_F(BucketDownload, OfOneThatIsCutGoesOnWhereItWasUntilTheTriesAreUsedUp) {
  Cut(2, kMiB);
  EXPECT_TRUE(ReadPart(*Open(), 0, bytes_.size()) == bytes_);
  const std::unique_ptr<BlobStore> other = place_.Open(place_.OptionsOf("b"));
  Cut(4, 1000);
  const std::unique_ptr<BlobReader> reader = other->OpenForReading(digest_).value();
  EXPECT_THAT(ReadPart(*reader, 0, bytes_.size()), ::testing::StartsWith("UNAVAILABLE"));
  EXPECT_TRUE(ReadPart(*other->OpenForReading(digest_).value(), 0, bytes_.size()) == bytes_);
}

TEST_F(BucketDownload, OfWhatIsNotThereOrOfAnotherSizeIsToldAtOnce) {
  WriteWhole(ObjectFile(), bytes_.substr(1));
  EXPECT_THAT(store_->OpenForReading(digest_).status(),
              FailsWith(absl::StatusCode::kDataLoss, digest_));
  std::filesystem::remove(ObjectFile());
  EXPECT_THAT(store_->OpenForReading(digest_).status(),
              FailsWith(absl::StatusCode::kNotFound, digest_));
}

class BucketAway : public ::testing::Test, public BlobStoreOps {
 protected:
  BucketAway() : store_(place_.Open(place_.OptionsOf("a"))) {}
  ~BucketAway() override {
    S3Server::Shared().Stop();
    S3Server::Shared().Start();
  }
  BlobStore& store() override { return *store_; }

  SharedPlace place_{PlaceKind::kBucket};
  std::unique_ptr<BlobStore> store_;
};

TEST_F(BucketAway, IsUnavailableByItsNameAndNothingIsLost) {
  const std::string bytes = ManyBytes(20 * kMiB, 1), small = RandomBytes(100, 2);
  const std::string stored = *store_->Put(small);
  const UploadSpec spec = SpecOf("u", bytes);
  std::unique_ptr<Upload> upload = Start(spec, 0);
  ASSERT_TRUE(upload->Append(absl::MakeConstSpan(bytes).subspan(0, 10 * kMiB)).ok());
  const auto ledger = place_.OpenLedger();
  while (*ledger->CommittedBytes("u") == 0) std::this_thread::yield();  // it is being sent
  S3Server::Shared().Stop();
  EXPECT_THAT(store_->Put(std::string("x")).status(),
              FailsWith(absl::StatusCode::kUnavailable, "http://127.0.0.1:"));
  EXPECT_THAT(store_->Map(stored, 100).status(),
              FailsWith(absl::StatusCode::kUnavailable, "blobs"));
  EXPECT_TRUE(absl::IsUnavailable(store_->FindMissing({stored}).status()));
  EXPECT_TRUE(absl::IsUnavailable(store_->CheckInPlace()));
  ASSERT_TRUE(upload->Append(absl::MakeConstSpan(bytes).subspan(10 * kMiB)).ok());
  EXPECT_TRUE(absl::IsUnavailable(upload->Finish()));
  upload = nullptr;
  S3Server::Shared().Start();
  EXPECT_EQ(Stored(stored), small);
  const int64_t committed = Committed("u");
  EXPECT_EQ(committed, 8 * kMiB) << "what was in no part is sent again";
  EXPECT_TRUE(UploadFrom(spec, bytes, committed).ok());
  EXPECT_TRUE(Stored(spec.sha256) == bytes);
}

}  // namespace
}  // namespace attnprune
