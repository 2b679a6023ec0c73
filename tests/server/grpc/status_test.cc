#include "server/grpc/status.h"

#include <grpcpp/support/status.h>

#include <string>

#include "attnprune/v1/errors.pb.h"
#include "core/base/field_error.h"
#include "core/problem/sparsity.h"
#include "gtest/gtest.h"
#include "server/api/status_details.h"

namespace attnprune::rpc {
namespace {

v1::RpcStatus Decode(const grpc::Status& status) {
  v1::RpcStatus decoded;
  EXPECT_TRUE(decoded.ParseFromString(status.error_details()));
  return decoded;
}

template <typename Detail>
Detail Only(const grpc::Status& status, const std::string& type) {
  const v1::RpcStatus decoded = Decode(status);
  EXPECT_EQ(decoded.code(), static_cast<int>(status.error_code()));
  EXPECT_EQ(decoded.message(), status.error_message());
  Detail detail;
  EXPECT_EQ(decoded.details_size(), 1);
  EXPECT_EQ(decoded.details(0).type_url(), "type.googleapis.com/google.rpc." + type);
  EXPECT_TRUE(detail.ParseFromString(decoded.details(0).value()));
  return detail;
}

TEST(ToGrpc, SaysNothingMoreThanOkForOk) {
  EXPECT_TRUE(ToGrpc(absl::OkStatus()).ok());
  EXPECT_TRUE(ToGrpc(absl::OkStatus()).error_details().empty());
}

TEST(ToGrpc, LeavesOutDetailsThatThereAreNot) {
  const grpc::Status status = ToGrpc(absl::NotFoundError("no job jobs/a"));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::NOT_FOUND);
  EXPECT_EQ(status.error_message(), "no job jobs/a");
  EXPECT_TRUE(status.error_details().empty());
}

TEST(ToGrpc, TurnsAFieldAtFaultIntoBadRequest) {
  const auto detail = Only<v1::BadRequest>(
      ToGrpc(FieldError("job.priority", "must be in [-1000, 1000], got 5000")), "BadRequest");
  ASSERT_EQ(detail.field_violations_size(), 1);
  EXPECT_EQ(detail.field_violations(0).field(), "job.priority");
  EXPECT_EQ(detail.field_violations(0).description(),
            "job.priority must be in [-1000, 1000], got 5000");
}

TEST(ToGrpc, MakesWellFormedTextOfAnyBytes) {
  const auto detail =
      Only<v1::BadRequest>(ToGrpc(FieldError("page\xC6", "is unknown \xE2\x82")), "BadRequest");
  EXPECT_EQ(detail.field_violations(0).field(), "page\xEF\xBF\xBD");
  EXPECT_EQ(detail.field_violations(0).description(),
            "page\xEF\xBF\xBD is unknown \xEF\xBF\xBD\xEF\xBF\xBD");
}

TEST(ToGrpc, CutsLongTextBetweenTwoCharacters) {
  std::string name(599, 'x');
  const auto detail =
      Only<v1::BadRequest>(ToGrpc(FieldError(name + "\xC3\xA4", "is unknown")), "BadRequest");
  EXPECT_EQ(detail.field_violations(0).field(), name + "...");
}

TEST(ToGrpc, HasTheFieldOfAnErrorOfTheCore) {
  const auto detail = Only<v1::BadRequest>(ToGrpc(ParseSparsity("1.5").status()), "BadRequest");
  EXPECT_EQ(detail.field_violations(0).field(), "sparsity");
}

TEST(ToGrpc, TakesNoFieldFromAMessage) {
  EXPECT_EQ(FieldAtFault(absl::InvalidArgumentError("all of it must be new")), "");
  EXPECT_EQ(FieldAtFault(absl::InvalidArgumentError("weights.w_q must be finite")), "");
  EXPECT_EQ(FieldAtFault(absl::InternalError("disk must be there")), "");
}

TEST(ToGrpc, SaysWhenToComeBack) {
  const auto detail = Only<v1::RetryInfo>(
      ToGrpc(api::WithRetryAfter(absl::ResourceExhaustedError("the queue is full"),
                                 absl::Milliseconds(2500))),
      "RetryInfo");
  EXPECT_EQ(detail.retry_delay().seconds(), 2);
  EXPECT_EQ(detail.retry_delay().nanos(), 500'000'000);
}

TEST(ToGrpc, GivesAReasonThatProgramsCanRead) {
  const auto detail =
      Only<v1::ErrorInfo>(ToGrpc(api::WithReason(absl::OutOfRangeError("compacted"),
                                                 "HISTORY_COMPACTED", {{"oldest_sequence", "12"}})),
                          "ErrorInfo");
  EXPECT_EQ(detail.reason(), "HISTORY_COMPACTED");
  EXPECT_EQ(detail.domain(), "attnprune");
  EXPECT_EQ(detail.metadata().at("oldest_sequence"), "12");
}

TEST(ToGrpc, ListsMissingTensors) {
  const auto detail = Only<v1::PreconditionFailure>(
      ToGrpc(api::WithPreconditions(absl::FailedPreconditionError("2 tensors are not uploaded"),
                                    "TENSOR_MISSING", {"aa", "bb"})),
      "PreconditionFailure");
  ASSERT_EQ(detail.violations_size(), 2);
  EXPECT_EQ(detail.violations(1).type(), "TENSOR_MISSING");
  EXPECT_EQ(detail.violations(1).subject(), "bb");
}

TEST(ToGrpc, CarriesSeveralDetailsAtOnce) {
  const absl::Status status = api::WithReason(
      api::WithRetryAfter(absl::ResourceExhaustedError("full"), absl::Seconds(5)), "FULL");
  EXPECT_EQ(Decode(ToGrpc(status)).details_size(), 2);
}

// gRPC's clients refuse more than 8 KiB of metadata: the error would arrive as another one.
TEST(ToGrpc, FitsAClientsMetadataHoweverMuchThereIsToSay) {
  const std::string long_text(100'000, 'x');
  absl::Status status = WithField(absl::InvalidArgumentError(long_text), long_text);
  status = api::WithPreconditions(status, "TENSOR_MISSING",
                                  std::vector<std::string>(1000, std::string(64, 'a')));
  const grpc::Status wire = ToGrpc(status);
  EXPECT_LT(wire.error_message().size() + wire.error_details().size() * 4 / 3, 7000u);
  EXPECT_EQ(Decode(wire).details_size(), 2);
}

TEST(ToGrpc, CutsALongMessageBetweenCharacters) {
  std::string text = "x";
  while (text.size() < 4000) text += "\u00e9";
  const std::string cut = ToGrpc(absl::InternalError(text)).error_message();
  EXPECT_LT(cut.size(), 1100u);
  EXPECT_EQ(cut.substr(cut.size() - 5), "\u00e9...") << "no half of a character before the dots";
}

}  // namespace
}  // namespace attnprune::rpc
