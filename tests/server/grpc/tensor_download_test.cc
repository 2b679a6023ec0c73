// Downloads by TensorService.
#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "attnprune/v1/tensor_service.grpc.pb.h"
#include "tests/server/grpc/tensor_service_fixture.h"

namespace attnprune::rpc {
namespace {

TEST_F(TensorServiceTest, DownloadsFromAnyOffset) {
  ASSERT_TRUE(store_->Put(bytes_).ok());
  for (const int64_t offset : {0, 1, 699, 700, 701, 20'499, 20'500}) {
    std::string got;
    ASSERT_TRUE(Download(digest_, offset, &got).ok());
    EXPECT_EQ(got, bytes_.substr(static_cast<size_t>(offset)));
  }
}

TEST_F(TensorServiceTest, TheFirstMessageTellsTheSizeAndNoOther) {
  ASSERT_TRUE(store_->Put(bytes_).ok());
  for (const int64_t offset : {0, 700}) {
    v1::DownloadTensorRequest request;
    request.set_sha256(digest_);
    request.set_offset(offset);
    grpc::ClientContext context;
    const auto reader = stub_->DownloadTensor(&context, request);
    std::vector<int64_t> sizes;
    v1::DownloadTensorResponse response;
    while (reader->Read(&response)) sizes.push_back(response.size_bytes());
    EXPECT_TRUE(reader->Finish().ok());
    std::vector<int64_t> expected(sizes.size(), 0);
    expected.front() = static_cast<int64_t>(bytes_.size());
    EXPECT_EQ(sizes, expected);
  }
}

TEST_F(TensorServiceTest, RefusesBadDownloadsByField) {
  ASSERT_TRUE(store_->Put(bytes_).ok());
  std::string got;
  EXPECT_THAT(Download(digest_, 20'501, &got), IsRefusal(grpc::StatusCode::OUT_OF_RANGE, "offset"));
  EXPECT_THAT(Download(digest_, -1, &got), IsRefusal(grpc::StatusCode::INVALID_ARGUMENT, "offset"));
  EXPECT_THAT(Download("../../x", 0, &got),
              IsRefusal(grpc::StatusCode::INVALID_ARGUMENT, "sha256"));
  EXPECT_THAT(Download("", 0, &got), IsRefusal(grpc::StatusCode::INVALID_ARGUMENT, "sha256"));
  const grpc::Status unknown = Download(std::string(64, '0'), 0, &got);
  EXPECT_THAT(unknown, IsRefusal(grpc::StatusCode::NOT_FOUND, ""));
  EXPECT_THAT(unknown.error_message(), ::testing::HasSubstr(std::string(64, '0')));
  EXPECT_EQ(got, "");
}

TEST_F(TensorServiceTest, ReadersThatTakeNothingAreLeftAndOthersGetTheirTurn) {
  StopServer();
  Serve({.download_chunks = 1, .download_stall = absl::Milliseconds(50)});
  const std::string bytes = RandomBytes(10 << 20, 1);  // more than gRPC takes ahead of the reader
  ASSERT_TRUE(store_->Put(bytes).ok());
  v1::DownloadTensorRequest request;
  request.set_sha256(Sha256Of(bytes));
  v1::DownloadTensorResponse response;
  grpc::ClientContext first, second;
  const auto stalled = stub_->DownloadTensor(&first, request);
  ASSERT_TRUE(stalled->Read(&response));
  const auto too = stub_->DownloadTensor(&second, request);
  ASSERT_TRUE(too->Read(&response));  // the first is left by now
  std::string got;
  EXPECT_TRUE(Download(Sha256Of(bytes), 0, &got).ok());
  EXPECT_EQ(got, bytes);
  for (const auto* const reader : {&stalled, &too}) {
    while ((*reader)->Read(&response)) continue;
    EXPECT_EQ((*reader)->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
}

TEST_F(TensorServiceTest, AReaderThatLeavesDoesNotKeepTheServiceFromEnding) {
  const std::string bytes = RandomBytes(10 << 20, 1);  // more than gRPC takes ahead of the reader
  ASSERT_TRUE(store_->Put(bytes).ok());
  grpc::ClientContext leaves, stays;
  v1::DownloadTensorRequest request;
  request.set_sha256(Sha256Of(bytes));
  v1::DownloadTensorResponse response;
  const auto leaver = stub_->DownloadTensor(&leaves, request);
  ASSERT_TRUE(leaver->Read(&response));
  leaves.TryCancel();
  const auto stayer = stub_->DownloadTensor(&stays, request);
  ASSERT_TRUE(stayer->Read(&response));
  StopServer();
  while (stayer->Read(&response)) continue;
  EXPECT_FALSE(stayer->Finish().ok());
  EXPECT_FALSE(leaver->Finish().ok());
}

}  // namespace
}  // namespace attnprune::rpc
