// What the server packs into an error, the client unpacks.
#include "client/library/status_details.h"

#include <grpcpp/support/status.h>

#include "core/base/field_error.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/api/status_details.h"
#include "server/grpc/status.h"

namespace attnprune::client {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(FromGrpc, KeepsCodeAndMessage) {
  const absl::Status status = FromGrpc(grpc::Status(grpc::StatusCode::NOT_FOUND, "no job jobs/x"));
  EXPECT_EQ(status, absl::NotFoundError("no job jobs/x"));
  EXPECT_TRUE(FromGrpc(grpc::Status::OK).ok());
}

TEST(FromGrpc, KnowsTheFieldAtFault) {
  const absl::Status status = FromGrpc(rpc::ToGrpc(FieldError("job.priority", "must be small")));
  EXPECT_EQ(FieldAtFault(status), "job.priority");
}

TEST(FromGrpc, KnowsWhenToComeBackAndSaysSo) {
  const absl::Status status = FromGrpc(rpc::ToGrpc(api::WithRetryAfter(
      absl::ResourceExhaustedError("the queue is full"), absl::Milliseconds(2500))));
  EXPECT_EQ(RetryDelay(status), absl::Milliseconds(2500));
  EXPECT_THAT(Explain(status), HasSubstr("try again in 2.5s"));
}

TEST(FromGrpc, ListsMissingTensorsOnly) {
  absl::Status status = api::WithPreconditions(absl::FailedPreconditionError("not uploaded"),
                                               "TENSOR_MISSING", {"aa", "bb"});
  EXPECT_THAT(MissingTensors(FromGrpc(rpc::ToGrpc(status))), ElementsAre("aa", "bb"));
  status = api::WithPreconditions(absl::FailedPreconditionError("other"), "OTHER", {"aa"});
  EXPECT_THAT(MissingTensors(FromGrpc(rpc::ToGrpc(status))), ElementsAre());
}

TEST(FromGrpc, KnowsWhereHistoryBegins) {
  const absl::Status status = FromGrpc(rpc::ToGrpc(api::WithReason(
      absl::OutOfRangeError("gone"), "HISTORY_COMPACTED", {{"oldest_sequence", "42"}})));
  EXPECT_EQ(OldestSequence(status), 42);
}

TEST(Explain, NamesTheRequestThatTheServersLogHas) {
  const absl::Status status = WithRequestId(absl::NotFoundError("no job jobs/x"), "order/66");
  EXPECT_EQ(RequestIdOf(status), "order/66");
  EXPECT_EQ(Explain(status), "no job jobs/x (NOT_FOUND; request order/66)");
  EXPECT_EQ(RequestIdOf(absl::NotFoundError("no job jobs/x")), "");
  EXPECT_EQ(RequestIdOf(WithRequestId(absl::NotFoundError("x"), "\x1b[2J")), "")
      << "a server's text that is none goes to no terminal";
}

TEST(FromGrpc, LeavesOutDetailsThatCannotBeRead) {
  const absl::Status status =
      FromGrpc(grpc::Status(grpc::StatusCode::INTERNAL, "oops", "\xFF\xFFnonsense"));
  EXPECT_EQ(status, absl::InternalError("oops"));
  EXPECT_EQ(RetryDelay(status), absl::nullopt);
  EXPECT_EQ(OldestSequence(status), absl::nullopt);
}

}  // namespace
}  // namespace attnprune::client
