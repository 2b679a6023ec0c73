// Uploads and questions about tensors by TensorService.
#include "server/grpc/tensor_service.h"

#include <grpcpp/grpcpp.h>

#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "attnprune/v1/errors.pb.h"
#include "attnprune/v1/tensor_service.grpc.pb.h"
#include "tests/server/grpc/tensor_service_fixture.h"

namespace attnprune::rpc {
namespace {

TEST_F(TensorServiceTest, GivesBackWhatWasUploaded) {
  UploadStream stream(stub_.get());
  stream.Send(HeaderOf("a", bytes_, 0));
  stream.SendInChunks(bytes_);
  ASSERT_TRUE(stream.Finish().ok());
  EXPECT_EQ(stream.response().sha256(), digest_);
  EXPECT_EQ(stream.response().size_bytes(), 20'500);
  EXPECT_FALSE(stream.response().already_there());
  std::string got;
  ASSERT_TRUE(Download(digest_, 0, &got).ok());
  EXPECT_EQ(got, bytes_);
}

TEST_F(TensorServiceTest, TakesEveryDTypeThatJobsTake) {
  for (const v1::DType dtype : {v1::F64, v1::F32, v1::F16, v1::BF16, v1::BITMASK}) {
    const std::string bytes = RandomBytes(800, static_cast<unsigned>(dtype));
    v1::UploadHeader header = HeaderOf("a", bytes, 0);
    header.set_dtype(dtype);
    EXPECT_TRUE(Upload(header, bytes).ok()) << dtype;
  }
}

TEST_F(TensorServiceTest, SaysThatATensorIsThereBeforeItIsSent) {
  ASSERT_TRUE(store_->Put(bytes_).ok());
  UploadStream stream(stub_.get());
  stream.Send(HeaderOf("a", bytes_, 0));
  const grpc::Status status = stream.FinishWithoutSayingSo();
  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_TRUE(stream.response().already_there());
  EXPECT_EQ(stream.response().sha256(), digest_);
  EXPECT_EQ(stream.response().size_bytes(), 20'500);
}

TEST_F(TensorServiceTest, SucceedsForAClientThatSendsWhatIsThereAllTheSame) {
  ASSERT_TRUE(store_->Put(bytes_).ok());
  for (int i = 0; i < 20; ++i) {
    const grpc::Status status = Upload(HeaderOf("a", bytes_, 0), bytes_);
    EXPECT_TRUE(status.ok()) << status.error_message();
  }
}

TEST_F(TensorServiceTest, ResumesABrokenStreamWithNoByteSentTwice) {
  const int64_t sent_first = 7 * kChunk;
  {
    UploadStream stream(stub_.get());
    stream.Send(HeaderOf("a", bytes_, 0));
    stream.SendInChunks(absl::MakeConstSpan(bytes_).subspan(0, sent_first));
    AwaitCommitted("a", sent_first);  // no chunk waits for the one behind it
    stream.Break();
  }
  AwaitFree("a");
  ASSERT_EQ(Query("a"), sent_first);
  UploadStream stream(stub_.get());
  stream.Send(HeaderOf("a", bytes_, sent_first));
  stream.SendInChunks(absl::MakeConstSpan(bytes_).subspan(sent_first));
  ASSERT_TRUE(stream.Finish().ok());
  EXPECT_EQ(sent_first + stream.bytes_sent(), 20'500);
  EXPECT_EQ(Stored(digest_), bytes_);
}

TEST_F(TensorServiceTest, ResumesAfterAnyNumberOfBreaksAtAnyMoment) {
  int64_t committed = 0;
  for (int round = 0; committed < 20'500; ++round) {
    UploadStream stream(stub_.get());
    stream.Send(HeaderOf("a", bytes_, committed));
    // Once broken off it must not come later, and turn the next one away.
    while (!IsHeld("a")) std::this_thread::yield();
    const int64_t before = committed;
    for (int i = 0; i < 3 && before + stream.bytes_sent() < 20'500; ++i) {
      stream.Send(absl::MakeConstSpan(bytes_).subspan(before + stream.bytes_sent(), kChunk));
    }
    AwaitCommitted("a", std::min<int64_t>(before + round % 3 * kChunk, 20'500));
    stream.Break();
    AwaitFree("a");
    committed = IsThere(digest_) ? 20'500 : Query("a");
    ASSERT_GE(committed, before);
  }
  if (!IsThere(digest_)) {
    ASSERT_TRUE(Upload(HeaderOf("a", bytes_, 20'500), {}).ok());
  }
  EXPECT_EQ(Stored(digest_), bytes_);
}

TEST_F(TensorServiceTest, ResumesAfterTheServerWasRestarted) {
  UploadStream stream(stub_.get());
  stream.Send(HeaderOf("a", bytes_, 0));
  stream.SendInChunks(absl::MakeConstSpan(bytes_).subspan(0, 5 * kChunk));
  AwaitCommitted("a", 5 * kChunk);
  StopServer();
  EXPECT_FALSE(stream.Finish().ok());
  Reopen();
  StartServer();
  ASSERT_EQ(Query("a"), 5 * kChunk);
  EXPECT_TRUE(
      Upload(HeaderOf("a", bytes_, 5 * kChunk), absl::MakeConstSpan(bytes_).subspan(5 * kChunk))
          .ok());
  EXPECT_EQ(Stored(digest_), bytes_);
}

TEST_F(TensorServiceTest, CanGoOnAfterAStreamThatEndedEarly) {
  EXPECT_THAT(Upload(HeaderOf("a", bytes_, 0), absl::MakeConstSpan(bytes_).subspan(0, 1500)),
              IsRefusal(grpc::StatusCode::INVALID_ARGUMENT, "data"));
  EXPECT_EQ(Query("a"), 1500);
  EXPECT_TRUE(Upload(HeaderOf("a", bytes_, 1500), absl::MakeConstSpan(bytes_).subspan(1500)).ok());
}

TEST_F(TensorServiceTest, ATensorThatCameWholeCountsThoughItsStreamBroke) {
  UploadStream stream(stub_.get());
  stream.Send(HeaderOf("a", bytes_, 0));
  stream.SendInChunks(bytes_);
  AwaitCommitted("a", 20'500);
  stream.Break();
  while (store_->Usage().uploads > 0) std::this_thread::yield();
  EXPECT_EQ(Stored(digest_), bytes_);
}

TEST_F(TensorServiceTest, ASecondWriterIsTurnedAwayAndTheFirstGoesOn) {
  UploadStream first(stub_.get());
  first.Send(HeaderOf("a", bytes_, 0));
  first.SendInChunks(absl::MakeConstSpan(bytes_).subspan(0, kChunk));
  AwaitCommitted("a", kChunk);
  EXPECT_THAT(Upload(HeaderOf("a", bytes_, kChunk), {}), IsRefusal(grpc::StatusCode::ABORTED, ""));
  first.SendInChunks(absl::MakeConstSpan(bytes_).subspan(kChunk));
  EXPECT_TRUE(first.Finish().ok());
}

TEST_F(TensorServiceTest, AnUploadThatNothingComesOfIsLeftAndCanBeResumed) {
  StopServer();
  Serve({.max_chunk_bytes = kChunk, .upload_stall = absl::Milliseconds(50)});
  UploadStream silent(stub_.get()), halfway(stub_.get());
  silent.Send(HeaderOf("a", bytes_, 0));
  halfway.Send(HeaderOf("b", bytes_, 0));
  halfway.SendInChunks(absl::MakeConstSpan(bytes_).subspan(0, kChunk));
  EXPECT_EQ(silent.FinishWithoutSayingSo().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_EQ(halfway.FinishWithoutSayingSo().error_code(), grpc::StatusCode::CANCELLED);
  EXPECT_EQ(Query("a"), 0);
  EXPECT_EQ(Query("b"), kChunk);
}

TEST_F(TensorServiceTest, RefusesOneStreamMoreThanMayBeOpen) {
  StopServer();
  gate_ = *access::Gate::Open({.streams = {.in_all = 1, .per_tenant = 1}});
  StartServer();
  UploadStream first(stub_.get());
  first.Send(HeaderOf("a", bytes_, 0));
  first.SendInChunks(absl::MakeConstSpan(bytes_).subspan(0, kChunk));
  AwaitCommitted("a", kChunk);
  const grpc::Status refused = Upload(HeaderOf("b", bytes_, 0), bytes_);
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(refused.error_message(), ::testing::HasSubstr("1 streams are open"));
  std::string got;
  EXPECT_EQ(Download(digest_, 0, &got).error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(Query("a"), kChunk) << "other calls are answered";
  first.SendInChunks(absl::MakeConstSpan(bytes_).subspan(kChunk));
  EXPECT_TRUE(first.Finish().ok());
}

TEST_F(TensorServiceTest, ServesManyStreamsAtOnce) {
  std::vector<std::jthread> clients;
  for (unsigned i = 0; i < 8; ++i) {
    clients.emplace_back([this, i] {
      const std::string bytes = RandomBytes(30'000, 100 + i % 4);  // two of each
      EXPECT_TRUE(Upload(HeaderOf(std::to_string(i), bytes, 0), bytes).ok());
      std::string got;
      EXPECT_TRUE(Download(Sha256Of(bytes), 0, &got).ok());
      EXPECT_EQ(got, bytes);
    });
  }
  clients.clear();
  EXPECT_EQ(store_->Usage().blobs, 4);
}

TEST_F(TensorServiceTest, RefusesABadHeaderByField) {
  struct Row {
    const char* title;
    void (*spoil)(v1::UploadHeader*);
    grpc::StatusCode code;
    const char* field;
  };
  using H = v1::UploadHeader;
  const Row rows[] = {
      {"no id", [](H* h) { h->clear_upload_id(); }, grpc::StatusCode::INVALID_ARGUMENT,
       "header.upload_id"},
      {"a path as id", [](H* h) { h->set_upload_id("../x"); }, grpc::StatusCode::INVALID_ARGUMENT,
       "header.upload_id"},
      {"no digest", [](H* h) { h->clear_sha256(); }, grpc::StatusCode::INVALID_ARGUMENT,
       "header.sha256"},
      {"a digest in capitals", [](H* h) { h->set_sha256(std::string(64, 'A')); },
       grpc::StatusCode::INVALID_ARGUMENT, "header.sha256"},
      {"another digest", [](H* h) { h->set_sha256(std::string(64, '0')); },
       grpc::StatusCode::INVALID_ARGUMENT, "header.sha256"},
      {"no dtype", [](H* h) { h->clear_dtype(); }, grpc::StatusCode::INVALID_ARGUMENT,
       "header.dtype"},
      {"a dtype of the future", [](H* h) { h->set_dtype(static_cast<v1::DType>(77)); },
       grpc::StatusCode::INVALID_ARGUMENT, "header.dtype"},
      {"no size", [](H* h) { h->clear_size_bytes(); }, grpc::StatusCode::INVALID_ARGUMENT,
       "header.size_bytes"},
      {"a negative size", [](H* h) { h->set_size_bytes(-1); }, grpc::StatusCode::INVALID_ARGUMENT,
       "header.size_bytes"},
      {"a broken element",
       [](H* h) {
         h->set_dtype(v1::F64);
         h->set_size_bytes(20'500);
       },
       grpc::StatusCode::INVALID_ARGUMENT, "header.size_bytes"},
      {"too small a size", [](H* h) { h->set_size_bytes(20'499); },
       grpc::StatusCode::INVALID_ARGUMENT, "data"},
      {"too great a size", [](H* h) { h->set_size_bytes(20'501); },
       grpc::StatusCode::INVALID_ARGUMENT, "data"},
      {"a negative offset", [](H* h) { h->set_offset(-1); }, grpc::StatusCode::INVALID_ARGUMENT,
       "header.offset"},
      {"an offset where nothing is", [](H* h) { h->set_offset(1); }, grpc::StatusCode::OUT_OF_RANGE,
       "header.offset"},
      {"over the limit of a tensor", [](H* h) { h->set_size_bytes(int64_t{1} << 40); },
       grpc::StatusCode::RESOURCE_EXHAUSTED, ""},
  };
  for (const Row& row : rows) {
    const std::string own_id = absl::StrCat("row", &row - rows);
    v1::UploadHeader header = HeaderOf(own_id, bytes_, 0);
    row.spoil(&header);
    EXPECT_THAT(Upload(header, bytes_), IsRefusal(row.code, row.field)) << row.title;
    EXPECT_FALSE(IsThere(digest_)) << row.title;
  }
}

TEST_F(TensorServiceTest, RefusesMessagesOutOfOrder) {
  {
    UploadStream stream(stub_.get());
    stream.Send(bytes_.substr(0, kChunk));
    EXPECT_THAT(stream.Finish(), IsRefusal(grpc::StatusCode::INVALID_ARGUMENT, "header"));
  }
  {
    UploadStream stream(stub_.get());
    EXPECT_THAT(stream.Finish(), IsRefusal(grpc::StatusCode::INVALID_ARGUMENT, "header"));
  }
  {
    UploadStream stream(stub_.get());
    stream.SendNothing();
    EXPECT_THAT(stream.Finish(), IsRefusal(grpc::StatusCode::INVALID_ARGUMENT, "message"));
  }
  {
    UploadStream stream(stub_.get());
    stream.Send(HeaderOf("a", bytes_, 0));
    stream.Send(HeaderOf("a", bytes_, 0));
    EXPECT_THAT(stream.Finish(), IsRefusal(grpc::StatusCode::INVALID_ARGUMENT, "header"));
  }
  EXPECT_TRUE(Upload(HeaderOf("a", bytes_, 0), bytes_).ok()) << "none of them holds the upload";
}

TEST_F(TensorServiceTest, RefusesAChunkOverTheLimit) {
  UploadStream stream(stub_.get());
  stream.Send(HeaderOf("a", bytes_, 0));
  stream.Send(bytes_.substr(0, kChunk + 1));
  EXPECT_THAT(stream.Finish(), IsRefusal(grpc::StatusCode::INVALID_ARGUMENT, "data"));
}

TEST_F(TensorServiceTest, SaysHowFullTheStoreIs) {
  StopServer();
  options_.limits.max_total_bytes = 20'000;
  Reopen();
  StartServer();
  const grpc::Status status = Upload(HeaderOf("a", bytes_, 0), bytes_);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), ::testing::HasSubstr("max_total_tensor_bytes = 20000"));
}

TEST_F(TensorServiceTest, QueriesAnUnknownUploadAsZeroBytes) { EXPECT_EQ(Query("unknown"), 0); }

TEST_F(TensorServiceTest, RefusesToQueryWhatIsNoId) {
  int64_t committed;
  EXPECT_THAT(Query("a/b", &committed), IsRefusal(grpc::StatusCode::INVALID_ARGUMENT, "upload_id"));
  EXPECT_THAT(Query("", &committed), IsRefusal(grpc::StatusCode::INVALID_ARGUMENT, "upload_id"));
}

TEST_F(TensorServiceTest, FindsTheMissingInOrder) {
  ASSERT_TRUE(store_->Put(bytes_).ok());
  const std::string x = Sha256Of(std::string("x")), y = Sha256Of(std::string("y"));
  v1::FindMissingTensorsResponse response;
  ASSERT_TRUE(FindMissing({y, digest_, x}, &response).ok());
  EXPECT_THAT(response.missing(), ::testing::ElementsAre(y, x));
}

TEST_F(TensorServiceTest, FindsUpTo10000AndRefusesMoreOrOther) {
  v1::FindMissingTensorsResponse response;
  std::vector<std::string> digests(10'000, digest_);
  ASSERT_TRUE(FindMissing(digests, &response).ok());
  EXPECT_EQ(response.missing_size(), 10'000);
  digests.push_back(digest_);
  EXPECT_THAT(FindMissing(digests, &response),
              IsRefusal(grpc::StatusCode::INVALID_ARGUMENT, "sha256"));
  EXPECT_THAT(FindMissing({digest_, "abc"}, &response),
              IsRefusal(grpc::StatusCode::INVALID_ARGUMENT, "sha256[1]"));
}

}  // namespace
}  // namespace attnprune::rpc
