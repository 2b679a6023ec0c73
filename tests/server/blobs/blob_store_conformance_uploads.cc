// Uploads: resumed, refused, one writer each, within the limits.
#include <thread>
#include <vector>

#include "tests/server/blobs/blob_store_conformance.h"

namespace attnprune {
namespace {

TEST_P(UploadConformance, CountsOnceItIsFinished) {
  const std::string bytes = RandomBytes(1000, 1);
  const UploadSpec spec = SpecOf("a", bytes);
  const std::unique_ptr<Upload> upload = Start(spec, 0);
  ASSERT_TRUE(upload->Append(bytes).ok());
  EXPECT_FALSE(IsThere(spec.sha256));
  ASSERT_TRUE(upload->Finish().ok());
  EXPECT_TRUE(IsThere(spec.sha256));
  EXPECT_EQ(Stored(spec.sha256), bytes);
  EXPECT_EQ(Committed("a"), 0);
  EXPECT_EQ(place().UnfinishedFiles(), 0);
}

TEST_P(UploadConformance, ResumesAtEveryOffset) {
  for (size_t cut = 0; cut <= 97; ++cut) {
    const std::string bytes = RandomBytes(97, static_cast<unsigned>(cut));
    const UploadSpec spec = SpecOf("a", bytes);
    UploadPart(spec, bytes, cut);
    ASSERT_EQ(Committed("a"), static_cast<int64_t>(cut));
    ASSERT_TRUE(UploadFrom(spec, bytes, static_cast<int64_t>(cut)).ok());
    ASSERT_EQ(Stored(spec.sha256), bytes);
  }
}

TEST_P(UploadConformance, ResumesAfterARestart) {
  for (const size_t cut : {0, 1, 48, 96, 97}) {
    const std::string bytes = RandomBytes(97, static_cast<unsigned>(cut));
    const UploadSpec spec = SpecOf("a", bytes);
    UploadPart(spec, bytes, cut);
    Reopen();
    ASSERT_EQ(Committed("a"), static_cast<int64_t>(cut));
    ASSERT_TRUE(UploadFrom(spec, bytes, static_cast<int64_t>(cut)).ok());
    ASSERT_EQ(Stored(spec.sha256), bytes);
  }
}

TEST_P(UploadConformance, AsksForMoreWhenTheBytesAreWrittenNotBefore) {
  const std::string bytes = RandomBytes(100, 1);
  const std::unique_ptr<Upload> upload = Start(SpecOf("a", bytes), 0);
  int64_t committed_when_asked = -1;
  ASSERT_TRUE(upload->Append(bytes, [&] { committed_when_asked = Committed("a"); }).ok());
  EXPECT_EQ(committed_when_asked, 100);
}

TEST_P(UploadConformance, WithAnotherDigestIsRemoved) {
  const std::string bytes = RandomBytes(100, 1);
  UploadSpec spec = SpecOf("a", bytes);
  const std::string true_digest = std::exchange(spec.sha256, Sha256Of(std::string("other")));
  const absl::Status status = UploadFrom(spec, bytes, 0);
  EXPECT_THAT(status, Refuses(absl::StatusCode::kInvalidArgument, "header.sha256"));
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("expected " + spec.sha256));
  EXPECT_THAT(std::string(status.message()), ::testing::HasSubstr("got " + true_digest));
  EXPECT_EQ(Committed("a"), 0);
  EXPECT_FALSE(IsThere(spec.sha256));
  EXPECT_FALSE(IsThere(true_digest));
  EXPECT_EQ(place().UnfinishedFiles(), 0);
}

TEST_P(UploadConformance, RefusesMoreThanItsSizeAndKeepsWhatItHad) {
  const std::string bytes = RandomBytes(100, 1);
  const UploadSpec spec = SpecOf("a", bytes);
  {
    const std::unique_ptr<Upload> upload = Start(spec, 0);
    ASSERT_TRUE(upload->Append(absl::MakeConstSpan(bytes).subspan(0, 60)).ok());
    EXPECT_THAT(upload->Append(std::string(41, 'x')),
                Refuses(absl::StatusCode::kInvalidArgument, "data"));
  }
  EXPECT_EQ(Committed("a"), 60);
  EXPECT_TRUE(UploadFrom(spec, bytes, 60).ok());
}

TEST_P(UploadConformance, RefusesToFinishWithLessThanItsSizeAndCanGoOn) {
  const std::string bytes = RandomBytes(100, 1);
  const UploadSpec spec = SpecOf("a", bytes);
  {
    const std::unique_ptr<Upload> upload = Start(spec, 0);
    ASSERT_TRUE(upload->Append(absl::MakeConstSpan(bytes).subspan(0, 60)).ok());
    EXPECT_THAT(upload->Finish(), Refuses(absl::StatusCode::kInvalidArgument, "data"));
  }
  EXPECT_EQ(Committed("a"), 60);
  EXPECT_TRUE(UploadFrom(spec, bytes, 60).ok());
}

TEST_P(UploadConformance, ResumesNowhereButWhereItStands) {
  const std::string bytes = RandomBytes(100, 1);
  const UploadSpec spec = SpecOf("a", bytes);
  UploadPart(spec, bytes, 60);
  for (const int64_t offset : {1, 59, 61, 100, 101}) {
    EXPECT_THAT(store().StartUpload(spec, offset).status(),
                Refuses(absl::StatusCode::kOutOfRange, "header.offset"));
  }
  EXPECT_THAT(store().StartUpload(spec, -1).status(),
              Refuses(absl::StatusCode::kInvalidArgument, "header.offset"));
  EXPECT_THAT(store().StartUpload(SpecOf("unknown", bytes), 1).status(),
              Refuses(absl::StatusCode::kOutOfRange, "header.offset"));
  EXPECT_EQ(Committed("a"), 60);
}

TEST_P(UploadConformance, OfAnotherTensorUnderTheSameIdMayStartButNotResume) {
  const std::string bytes = RandomBytes(100, 1), other = RandomBytes(100, 2);
  UploadPart(SpecOf("a", bytes), bytes, 60);
  EXPECT_THAT(store().StartUpload(SpecOf("a", other), 60).status(),
              Refuses(absl::StatusCode::kInvalidArgument, "header.upload_id"));
  EXPECT_TRUE(UploadFrom(SpecOf("a", other), other, 0).ok());
  EXPECT_EQ(Stored(Sha256Of(other)), other);
}

TEST_P(UploadConformance, OfTheSameBytesAsAnotherDTypeMayResume) {
  const std::string bytes = RandomBytes(100, 1);
  UploadSpec spec = SpecOf("a", bytes);
  UploadPart(spec, bytes, 60);
  spec.dtype = "F16";
  EXPECT_TRUE(UploadFrom(spec, bytes, 60).ok());
}

TEST_P(UploadConformance, StartedAnewByAShorterTensorKeepsNoneOfTheLonger) {
  const std::string bytes = RandomBytes(100, 1), other = RandomBytes(10, 2);
  UploadPart(SpecOf("a", bytes), bytes, 60);
  UploadPart(SpecOf("a", other), other, 5);
  Reopen();
  EXPECT_EQ(Committed("a"), 5);
  EXPECT_TRUE(UploadFrom(SpecOf("a", other), other, 5).ok());
}

TEST_P(UploadConformance, HasOneWriter) {
  const std::string bytes = RandomBytes(100, 1);
  std::unique_ptr<Upload> first = Start(SpecOf("a", bytes), 0);
  for (const int64_t offset : {0, 60}) {
    EXPECT_THAT(store().StartUpload(SpecOf("a", bytes), offset).status(),
                FailsWith(absl::StatusCode::kAborted, "upload a "));
  }
  first = nullptr;
  EXPECT_TRUE(UploadFrom(SpecOf("a", bytes), bytes, 0).ok());
}

TEST_P(UploadConformance, HasOneWriterAmongManyThreads) {
  const std::string bytes = RandomBytes(1 << 12, 1);
  std::atomic<int> writers{0}, finished{0};
  std::vector<std::jthread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      while (finished == 0) {
        absl::StatusOr<std::unique_ptr<Upload>> upload = store().StartUpload(SpecOf("a", bytes), 0);
        if (!upload.ok()) {
          EXPECT_TRUE(absl::IsAborted(upload.status())) << upload.status();
          continue;
        }
        if ((*upload)->already_there()) return;
        EXPECT_EQ(++writers, 1);
        EXPECT_TRUE((*upload)->Append(bytes).ok());
        --writers;
        EXPECT_TRUE((*upload)->Finish().ok());
        ++finished;
      }
    });
  }
  threads.clear();
  EXPECT_EQ(finished, 1);
  EXPECT_EQ(Stored(Sha256Of(bytes)), bytes);
}

TEST_P(UploadConformance, OfTheSameBytesUnderManyIdsStoresThemOnce) {
  const std::string bytes = RandomBytes(1 << 16, 1);
  std::vector<std::jthread> threads;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < 5; ++round) {
        const absl::Status status = UploadFrom(SpecOf(std::to_string(i), bytes), bytes, 0);
        EXPECT_TRUE(status.ok()) << status;
      }
    });
  }
  threads.clear();
  EXPECT_EQ(Stored(Sha256Of(bytes)), bytes);
  EXPECT_EQ(store().Usage().blobs, 1);
  EXPECT_EQ(store().Usage().blob_bytes, 1 << 16);
  EXPECT_EQ(store().Usage().uploads, 0);
  EXPECT_EQ(place().UnfinishedFiles(), 0);
}

TEST_P(UploadConformance, OverlappingOneOfTheSameBytesSucceedsToo) {
  const std::string bytes = RandomBytes(100, 1);
  const std::unique_ptr<Upload> a = Start(SpecOf("a", bytes), 0), b = Start(SpecOf("b", bytes), 0);
  ASSERT_TRUE(a->Append(bytes).ok());
  ASSERT_TRUE(b->Append(bytes).ok());
  EXPECT_TRUE(a->Finish().ok());
  EXPECT_TRUE(b->Finish().ok());
  EXPECT_EQ(store().Usage().blob_bytes, 100);
}

TEST_P(UploadConformance, OfWhatIsThereNeedsNoBytes) {
  const std::string bytes = RandomBytes(100, 1);
  UploadPart(SpecOf("left", bytes), bytes, 50);
  ASSERT_TRUE(store().Put(bytes).ok());
  EXPECT_TRUE(Start(SpecOf("new", bytes), 0)->already_there());
  EXPECT_TRUE(Start(SpecOf("left", bytes), 50)->already_there());
  EXPECT_EQ(store().Usage().uploads, 0);
  EXPECT_EQ(place().UnfinishedFiles(), 0);
}

TEST_P(UploadConformance, OfWhatIsThereWithAnotherSizeIsRefused) {
  const std::string bytes = RandomBytes(100, 1);
  ASSERT_TRUE(store().Put(bytes).ok());
  UploadSpec spec = SpecOf("a", bytes);
  spec.size_bytes = 99;
  EXPECT_THAT(store().StartUpload(spec, 0).status(),
              Refuses(absl::StatusCode::kInvalidArgument, "header.size_bytes"));
  EXPECT_EQ(Stored(spec.sha256), bytes);
}

TEST_P(UploadConformance, OfWhatIsThereTakesItsBytesAllTheSameWhereThatIsAsked) {
  const std::string bytes = RandomBytes(100, 1);
  ASSERT_TRUE(UploadFrom(SpecOf("a", bytes), bytes, 0).ok());
  const auto start = [&](const UploadSpec& spec) {
    return *store().StartUpload(spec, 0, IfStored::kSendAllTheSame);
  };
  {
    const std::unique_ptr<Upload> upload = start(SpecOf("b", bytes));
    EXPECT_FALSE(upload->already_there());
    ASSERT_TRUE(upload->Append(bytes).ok());
    EXPECT_TRUE(upload->Finish().ok());
  }
  EXPECT_EQ(Stored(Sha256Of(bytes)), bytes);
  EXPECT_EQ(store().Usage().blobs, 1);
  {
    UploadSpec shorter = SpecOf("b", bytes);
    shorter.size_bytes = 1;
    const std::unique_ptr<Upload> upload = start(shorter);
    ASSERT_TRUE(upload->Append(bytes.substr(0, 1)).ok());
    EXPECT_THAT(upload->Finish(), Refuses(absl::StatusCode::kInvalidArgument, "header.sha256"));
  }
  EXPECT_EQ(Stored(Sha256Of(bytes)), bytes);
  EXPECT_EQ(place().UnfinishedFiles(), 0);
}

TEST_P(UploadConformance, IdsAreOfATenant) {
  const std::string bytes = RandomBytes(100, 1), others = RandomBytes(200, 2);
  UploadSpec of_a = SpecOf("u", bytes), of_b = SpecOf("u", others);
  of_a.tenant = "a";
  of_b.tenant = "b";
  UploadPart(of_a, bytes, 30);
  UploadPart(of_b, others, 150);
  EXPECT_EQ(Committed("u"), 0);
  Reopen();
  EXPECT_EQ(*store().CommittedBytes("a", "u"), 30);
  EXPECT_EQ(*store().CommittedBytes("b", "u"), 150);
  EXPECT_TRUE(UploadFrom(of_a, bytes, 30).ok());
  EXPECT_TRUE(UploadFrom(of_b, others, 150).ok());
  EXPECT_EQ(place().UnfinishedFiles(), 0);
}

TEST_P(UploadConformance, UnderAPathIsRefusedAndTouchesNothing) {
  const std::string bytes = RandomBytes(100, 1);
  for (const char* id : {"../x", "a/b", "/tmp/x", ""}) {
    EXPECT_THAT(store().StartUpload(SpecOf(id, bytes), 0).status(),
                Refuses(absl::StatusCode::kInvalidArgument, "header.upload_id"));
    EXPECT_THAT(store().CommittedBytes(id).status(),
                Refuses(absl::StatusCode::kInvalidArgument, "upload_id"));
  }
  EXPECT_EQ(place().UnfinishedFiles(), 0);
}

TEST_P(UploadConformance, UnknownHasNoBytes) { EXPECT_EQ(Committed("never-heard-of"), 0); }

TEST_P(UploadConformance, LargerThanATensorMayBeIsRefused) {
  limits_.max_tensor_bytes = 99;
  Reopen();
  const std::string bytes = RandomBytes(100, 1);
  EXPECT_THAT(store().StartUpload(SpecOf("a", bytes), 0).status(),
              FailsWith(absl::StatusCode::kResourceExhausted, "max_tensor_bytes = 99, got 100"));
  const std::string fits = RandomBytes(99, 1);
  EXPECT_TRUE(UploadFrom(SpecOf("a", fits), fits, 0).ok());
}

TEST_P(UploadConformance, CountsAgainstTheTotalWithWhatCameOfIt) {
  limits_.max_total_bytes = 250;
  Reopen();
  const std::string stored = RandomBytes(100, 1), running = RandomBytes(100, 2),
                    third = RandomBytes(100, 3), fits = RandomBytes(50, 4);
  ASSERT_TRUE(store().Put(stored).ok());
  std::unique_ptr<Upload> a = Start(SpecOf("a", running), 0);
  const std::unique_ptr<Upload> b = Start(SpecOf("b", third), 0);
  ASSERT_TRUE(a->Append(absl::MakeConstSpan(running).subspan(0, 10)).ok());
  EXPECT_EQ(store().Usage().upload_bytes, 10);
  a = nullptr;  // left: it takes what it has
  EXPECT_EQ(store().Usage().upload_bytes, 10);
  EXPECT_TRUE(UploadFrom(SpecOf("c", fits), fits, 0).ok());
  ASSERT_TRUE(b->Append(absl::MakeConstSpan(third).subspan(0, 90)).ok());
  EXPECT_THAT(b->Append(absl::MakeConstSpan(third).subspan(90)),
              FailsWith(absl::StatusCode::kResourceExhausted,
                        "max_total_tensor_bytes = 250 together, and after 90 bytes of this one "
                        "there is no room for the next 10"));
  EXPECT_EQ(store().Usage().upload_bytes, 10) << "what did not fit is gone";
  EXPECT_TRUE(UploadFrom(SpecOf("a", running), running, 10).ok());
  EXPECT_EQ(store().Usage().blob_bytes, 250);
}

TEST_P(UploadConformance, ThatDeclaresMuchAndSendsNothingKeepsNoneOut) {
  limits_.max_total_bytes = 1000;
  Reopen();
  const std::string bytes = RandomBytes(1000, 1);
  std::vector<std::unique_ptr<Upload>> silent;
  silent.reserve(10);
  for (unsigned i = 0; i < 10; ++i) {
    silent.push_back(Start(SpecOf(std::to_string(i), RandomBytes(1000, 2 + i)), 0));
  }
  EXPECT_TRUE(silent[0]->Append(absl::Span<const char>()).ok());
  EXPECT_EQ(store().Usage().upload_bytes, 0);
  EXPECT_EQ(place().UnfinishedFiles(), 0);
  EXPECT_TRUE(UploadFrom(SpecOf("a", bytes), bytes, 0).ok());
}

TEST_P(UploadConformance, IsRefusedAtItsBeginningWhereItIsClearlyTooLargeAndNoMoreIsTold) {
  limits_.max_total_bytes = 6400;
  Reopen();
  ASSERT_TRUE(store().Put(RandomBytes(3201, 1)).ok());
  const auto begin = [&](size_t size) {
    return store().StartUpload(SpecOf("a", RandomBytes(size, 2)), 0).status();
  };
  EXPECT_TRUE(begin(3199).ok());
  EXPECT_TRUE(begin(3200).ok()) << "one byte too many, which is not told before it is sent";
  EXPECT_THAT(begin(3201),
              FailsWith(absl::StatusCode::kResourceExhausted, "for the 3201 of this one"));
  const std::string bytes = RandomBytes(3200, 2);
  EXPECT_TRUE(absl::IsResourceExhausted(UploadFrom(SpecOf("a", bytes), bytes, 0)));
}

TEST_P(UploadConformance, StartedAnewGivesItsRoomBackAtOnce) {
  limits_.max_total_bytes = 100;
  Reopen();
  const std::string bytes = RandomBytes(100, 1), other = RandomBytes(40, 2);
  UploadPart(SpecOf("a", bytes), bytes, 70);
  const std::unique_ptr<Upload> anew = Start(SpecOf("a", bytes), 0);
  EXPECT_EQ(place().UnfinishedFiles(), 0);
  EXPECT_TRUE(UploadFrom(SpecOf("b", other), other, 0).ok());
}

TEST_P(UploadConformance, DiscardedLeavesNothing) {
  const std::string bytes = RandomBytes(100, 1);
  {
    const std::unique_ptr<Upload> upload = Start(SpecOf("a", bytes), 0);
    ASSERT_TRUE(upload->Append(absl::MakeConstSpan(bytes).subspan(0, 60)).ok());
    upload->Discard();
  }
  EXPECT_EQ(Committed("a"), 0);
  EXPECT_EQ(store().Usage().uploads, 0);
  EXPECT_EQ(store().Usage().upload_bytes, 0);
  EXPECT_EQ(place().UnfinishedFiles(), 0);
}

TEST_P(UploadConformance, BytesAreCountedForTheirTenant) {
  const std::string bytes = RandomBytes(100, 1);
  UploadSpec of_a = SpecOf("u", bytes), of_b = SpecOf("u", bytes);
  of_a.tenant = "a";
  of_b.tenant = "b";
  UploadPart(of_a, bytes, 30);
  UploadPart(of_b, bytes, 50);
  EXPECT_EQ(store().UploadBytesOf("a"), 30);
  EXPECT_EQ(store().UploadBytesOf("b"), 50);
  EXPECT_EQ(store().UploadBytesOf("c"), 0);
  Reopen();
  EXPECT_EQ(store().UploadBytesOf("b"), 50);
  EXPECT_TRUE(UploadFrom(of_b, bytes, 50).ok());
  EXPECT_EQ(store().UploadBytesOf("b"), 0);
  EXPECT_EQ(store().UploadBytesOf("a"), 30);
}

TEST_P(UploadConformance, TheTotalIsStillKnownAfterARestart) {
  const std::string stored = RandomBytes(100, 1), left = RandomBytes(100, 2);
  ASSERT_TRUE(store().Put(stored).ok());
  UploadPart(SpecOf("a", left), left, 60);
  limits_.max_total_bytes = 259;
  Reopen();
  const std::string next = RandomBytes(100, 3), fits = RandomBytes(99, 4);
  EXPECT_THAT(UploadFrom(SpecOf("b", next), next, 0),
              FailsWith(absl::StatusCode::kResourceExhausted, "no room for the next 100"));
  EXPECT_TRUE(UploadFrom(SpecOf("b", fits), fits, 0).ok());
}

TEST_P(UploadConformance, UnfinishedOnesAreBounded) {
  limits_.max_uploads = 2;
  Reopen();
  const std::string bytes = RandomBytes(100, 1);
  UploadPart(SpecOf("a", bytes), bytes, 1);
  UploadPart(SpecOf("b", bytes), bytes, 1);
  EXPECT_THAT(store().StartUpload(SpecOf("c", bytes), 0).status(),
              FailsWith(absl::StatusCode::kResourceExhausted, "at most 2"));
  EXPECT_TRUE(UploadFrom(SpecOf("a", bytes), bytes, 1).ok());
}

TEST_P(UploadConformance, WithoutBytesTakeNoPlaceOfOthers) {
  limits_.max_uploads = 1;
  Reopen();
  for (const char* id : {"a", "b", "c"}) Start(SpecOf(id, RandomBytes(100, 1)), 0);
  EXPECT_EQ(store().Usage().uploads, 0);
  EXPECT_EQ(place().UnfinishedFiles(), 0);
}

TEST_P(UploadConformance, TheLongestIdleMakesRoomForANewOneAfterAMinute) {
  limits_.max_uploads = 2;
  Reopen();
  const std::string bytes = RandomBytes(100, 1);
  UploadPart(SpecOf("a", bytes), bytes, 10);
  clock().Advance(absl::Seconds(1));
  UploadPart(SpecOf("b", bytes), bytes, 10);
  clock().Advance(absl::Seconds(59));
  UploadPart(SpecOf("c", bytes), bytes, 10);
  EXPECT_EQ(Committed("a"), 0);
  EXPECT_EQ(Committed("b"), 10);
  EXPECT_THAT(store().StartUpload(SpecOf("d", bytes), 0).status(),
              FailsWith(absl::StatusCode::kResourceExhausted, "at most 2"));
}

}  // namespace
}  // namespace attnprune
