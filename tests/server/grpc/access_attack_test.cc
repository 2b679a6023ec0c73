// What somebody with a token of another tenant, or without any, tries.
#include <gmock/gmock.h>

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "core/io/sha256.h"
#include "nlohmann/json.hpp"
#include "server/upkeep/tensor_collector.h"
#include "tests/server/api/jobs_for_tests.h"
#include "tests/server/api/tensor_bytes.h"
#include "tests/server/grpc/access_world.h"

namespace attnprune::rpc {
namespace {

using enum grpc::StatusCode;
using http::Received;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using PruneStub = v1::PruneService::Stub;
using TensorStub = v1::TensorService::Stub;

const std::string& kBytes = *new std::string("weights that only mine has");

grpc::Status GetJob(AccessWorld& world, const std::string& who, const std::string& name,
                    v1::Job* job) {
  v1::GetJobRequest request;
  request.set_name(name);
  return world.Call(world.prune(), &PruneStub::GetJob, who, request, job);
}

grpc::Status CreateJob(AccessWorld& world, const std::string& who,
                       const v1::CreateJobRequest& request, v1::Job* made) {
  return world.Call(world.prune(), &PruneStub::CreateJob, who, request, made);
}

// --- Jobs ---

TEST(AccessAttack, AnothersJobIsToldOfInTheWordsOfOneThatIsNotThere) {
  AccessWorld world;
  v1::Job job;
  const std::string name = world.AddJob("mine");
  const grpc::Status others = GetJob(world, "other-submitter", name, &job);
  const grpc::Status nobodys = GetJob(world, "other-submitter", "jobs/nosuchjob123", &job);
  EXPECT_EQ(others.error_code(), nobodys.error_code());
  EXPECT_EQ(others.error_message(),
            absl::StrReplaceAll(nobodys.error_message(), {{"nosuchjob123", name.substr(5)}}));
  for (const char* const more : {"", "/events", "/results/0/density?matrix=w_q"}) {
    const Received of_other =
        world.Ask("other-reader", "GET", absl::StrCat("/api/v1/", name, more));
    const Received of_none =
        world.Ask("other-reader", "GET", absl::StrCat("/api/v1/jobs/nosuchjob123", more));
    EXPECT_EQ(of_other.status, 404) << more;
    EXPECT_EQ(of_other.body, absl::StrReplaceAll(of_none.body, {{"nosuchjob123", name.substr(5)}}));
  }
  EXPECT_EQ(world.jobs().Get(name.substr(5))->state, JobState::kQueued) << "untouched";
}

TEST(AccessAttack, ListsHaveNothingOfAnothersWhateverTheFilter) {
  AccessWorld world;
  NewJob labelled;
  labelled.tenant = "mine";
  labelled.labels = {{"team", "a"}};
  labelled.spec = api::LayerJob().SerializeAsString();
  ASSERT_TRUE(world.jobs().Create(labelled).ok());
  world.AddJob("");  // of before there were tokens
  world.AddJob("mine", JobKind::kRun);
  v1::ListJobsRequest request;
  v1::ListJobsResponse response;
  const auto list = [&](const std::string& who) {
    const grpc::Status status =
        world.Call(world.prune(), &PruneStub::ListJobs, who, request, &response);
    return status.ok() ? response.jobs_size() : -1;
  };
  EXPECT_EQ(list("mine-reader"), 1);
  EXPECT_EQ(list("other-reader"), 0);
  EXPECT_EQ(list("admin"), 2);
  request.add_states(v1::QUEUED);
  EXPECT_EQ(list("other-reader"), 0);
  (*request.mutable_labels())["team"] = "a";
  EXPECT_EQ(list("mine-reader"), 1);
  EXPECT_EQ(list("other-reader"), 0);
  const Received by_http =
      world.Ask("other-reader", "GET", "/api/v1/jobs?labels.team=a&states=QUEUED");
  EXPECT_THAT(nlohmann::json::parse(by_http.body)["jobs"], IsEmpty());
  EXPECT_THAT(nlohmann::json::parse(world.Ask("other-reader", "GET", "/api/v1/runs").body)["runs"],
              IsEmpty());
}

TEST(AccessAttack, APageTokenOfAnothersListIsOfNoUse) {
  AccessWorld world;
  for (int i = 0; i < 3; ++i) world.AddJob("mine");
  v1::ListJobsRequest request;
  request.set_page_size(1);
  v1::ListJobsResponse response;
  ASSERT_TRUE(
      world.Call(world.prune(), &PruneStub::ListJobs, "mine-reader", request, &response).ok());
  request.set_page_token(response.next_page_token());
  EXPECT_TRUE(
      world.Call(world.prune(), &PruneStub::ListJobs, "mine-submitter", request, &response).ok());
  EXPECT_EQ(world.Call(world.prune(), &PruneStub::ListJobs, "other-reader", request, &response)
                .error_code(),
            INVALID_ARGUMENT);
}

TEST(AccessAttack, ARequestIdOfAnothersMakesAJobOfOnesOwn) {
  AccessWorld world;
  v1::CreateJobRequest request;
  v1::Job mine, others;
  *request.mutable_job() = world.backend().GoodJob();
  request.set_request_id("nightly");
  // Both have shown that they have the tensors.
  for (const char* const tenant : {"mine", "other"}) {
    std::vector<std::string> digests;
    for (const v1::TensorRef* const tensor : api::TensorsOf(*request.mutable_job())) {
      digests.push_back(tensor->sha256());
    }
    ASSERT_TRUE(world.jobs().NoteTensors(tenant, digests).ok());
  }
  ASSERT_TRUE(CreateJob(world, "mine-submitter", request, &mine).ok());
  ASSERT_TRUE(CreateJob(world, "other-submitter", request, &others).ok());
  EXPECT_NE(mine.name(), others.name());
  request.mutable_job()->set_priority(5);
  EXPECT_EQ(CreateJob(world, "other-submitter", request, &others).error_code(), ALREADY_EXISTS);
  EXPECT_THAT(CreateJob(world, "other-submitter", request, &others).error_message(),
              Not(HasSubstr(mine.name().substr(5))));
}

TEST(AccessAttack, WhatAJobWaitsForNamesNoJobOfAnothers) {
  AccessWorld world;
  const std::string at_work = world.AddJob("mine"), waits = world.AddJob("other");
  world.backend().Claim();
  v1::Job job;
  ASSERT_TRUE(GetJob(world, "other-reader", waits, &job).ok());
  EXPECT_THAT(job.waiting().running(), IsEmpty());
  EXPECT_EQ(job.waiting().others_running(), 1);
  ASSERT_TRUE(GetJob(world, "admin", waits, &job).ok());
  EXPECT_THAT(job.waiting().running(), ElementsAre(at_work));
  EXPECT_EQ(job.waiting().others_running(), 0);
}

TEST(AccessAttack, WhatIsMadeBelongsToItsMakersTenant) {
  AccessWorld world;
  v1::CreateJobRequest request;
  *request.mutable_job() = world.backend().GoodJob();
  v1::Job made, got;
  ASSERT_TRUE(CreateJob(world, "admin", request, &made).ok());
  EXPECT_EQ(GetJob(world, "mine-reader", made.name(), &got).error_code(), NOT_FOUND);
  EXPECT_EQ(world.jobs().Get(made.name().substr(5))->tenant, "ops");
}

// --- Tensors ---

TEST(AccessAttack, AnothersTensorIsNotFoundByItsDigest) {
  AccessWorld world;
  v1::UploadTensorResponse uploaded;
  ASSERT_TRUE(world.Upload("mine-submitter", kBytes, &uploaded).ok());
  const std::string never(64, 'e');
  const grpc::Status others = world.Download("other-submitter", uploaded.sha256());
  const grpc::Status nobodys = world.Download("other-submitter", never);
  EXPECT_EQ(others.error_code(), NOT_FOUND);
  EXPECT_EQ(others.error_message(),
            absl::StrReplaceAll(nobodys.error_message(), {{never, uploaded.sha256()}}));
  EXPECT_THAT(world.Missing("other-submitter", {never, uploaded.sha256()}),
              ElementsAre(never, uploaded.sha256()));
  EXPECT_THAT(world.Missing("mine-submitter", {never, uploaded.sha256()}), ElementsAre(never));
  std::string bytes;
  EXPECT_TRUE(world.Download("mine-reader", uploaded.sha256(), &bytes).ok());
  EXPECT_EQ(bytes, kBytes);
}

TEST(AccessAttack, ANumberOfBytesThatAnothersTensorDoesNotHaveTellsNothingOfIt) {
  AccessWorld world;
  ASSERT_TRUE(world.Upload("mine-submitter", kBytes).ok());
  v1::UploadTensorRequest message;
  v1::UploadHeader& header = *message.mutable_header();
  header.set_upload_id("u");
  header.set_size_bytes(1);
  header.set_dtype(v1::BITMASK);
  const auto refusal = [&](const std::string& sha256) {
    header.set_sha256(sha256);
    v1::UploadTensorResponse response;
    const auto context = world.Context("other-submitter");
    const auto stream = world.tensors().UploadTensor(context.get(), &response);
    stream->Write(message);
    v1::UploadTensorRequest data;
    data.set_data("x");
    stream->Write(data);
    stream->WritesDone();
    const grpc::Status status = stream->Finish();
    return absl::StrReplaceAll(status.error_message(), {{sha256, "IT"}});
  };
  EXPECT_EQ(refusal(Sha256Of(kBytes)), refusal(std::string(64, 'e')));
}

TEST(AccessAttack, AJobCannotReferToAnothersTensors) {
  AccessWorld world;
  v1::CreateJobRequest request;
  *request.mutable_job() = world.backend().GoodJob();  // stored, and nobody's
  v1::Job made;
  const grpc::Status status = CreateJob(world, "mine-submitter", request, &made);
  EXPECT_EQ(status.error_code(), FAILED_PRECONDITION);
  EXPECT_THAT(status.error_message(), HasSubstr("are not uploaded"));
  request.set_validate_only(true);
  EXPECT_TRUE(CreateJob(world, "admin", request, &made).ok());
}

// Which looks at the sizes of what is there for the caller.
TEST(AccessAttack, ValidatingAJobTellsNothingOfAnothersTensors) {
  AccessWorld world;
  v1::CreateJobRequest request;
  *request.mutable_job() = world.backend().GoodJob();  // stored, and nobody's
  request.set_validate_only(true);
  v1::TensorRef& w =
      *request.mutable_job()->mutable_problem()->mutable_projections()->mutable_w_q();
  w.set_dtype(w.dtype() == v1::F64 ? v1::F32 : v1::F64);  // twice or half of the stored size
  v1::Job made;
  EXPECT_EQ(CreateJob(world, "admin", request, &made).error_code(), INVALID_ARGUMENT);
  EXPECT_TRUE(CreateJob(world, "mine-submitter", request, &made).ok());
}

TEST(AccessAttack, WhatAnotherHasStoredMustBeSentWholeAndIsThenOnesOwnToo) {
  AccessWorld world;
  v1::UploadTensorResponse first, second, third;
  ASSERT_TRUE(world.Upload("mine-submitter", kBytes, &first).ok());
  ASSERT_TRUE(world.Upload("other-submitter", kBytes, &second).ok());
  EXPECT_FALSE(first.already_there());
  EXPECT_FALSE(second.already_there()) << "as if it were new";
  EXPECT_EQ(first.SerializeAsString(), second.SerializeAsString());
  ASSERT_TRUE(world.Upload("other-submitter", kBytes, &third).ok());
  EXPECT_TRUE(third.already_there());
  EXPECT_TRUE(world.Download("other-reader", second.sha256()).ok());
  EXPECT_EQ(world.backend().tensors().Usage().blobs, 1);
}

TEST(AccessAttack, WithoutTheBytesADigestGivesNothing) {
  AccessWorld world;
  ASSERT_TRUE(world.Upload("mine-submitter", kBytes).ok());
  v1::UploadTensorRequest message;
  v1::UploadHeader& header = *message.mutable_header();
  header.set_upload_id("u");
  header.set_sha256(Sha256Of(kBytes));
  header.set_size_bytes(static_cast<int64_t>(kBytes.size()));
  header.set_dtype(v1::BITMASK);
  for (const std::string& sent : {std::string(), std::string(kBytes.size(), 'x')}) {
    v1::UploadTensorResponse response;
    const auto context = world.Context("other-submitter");
    const auto stream = world.tensors().UploadTensor(context.get(), &response);
    stream->Write(message);
    v1::UploadTensorRequest data;
    data.set_data(sent);
    if (!sent.empty()) stream->Write(data);
    stream->WritesDone();
    EXPECT_EQ(stream->Finish().error_code(), INVALID_ARGUMENT);
    EXPECT_EQ(world.Download("other-submitter", header.sha256()).error_code(), NOT_FOUND);
  }
}

TEST(AccessAttack, AnUploadsIdIsItsTenants) {
  AccessWorld world;
  v1::UploadTensorRequest message;
  v1::UploadHeader& header = *message.mutable_header();
  header.set_upload_id("shared-name");
  header.set_sha256(Sha256Of(kBytes));
  header.set_size_bytes(static_cast<int64_t>(kBytes.size()));
  header.set_dtype(v1::BITMASK);
  v1::UploadTensorResponse response;
  const auto context = world.Context("mine-submitter");
  const auto held = world.tensors().UploadTensor(context.get(), &response);
  held->Write(message);
  message.set_data(kBytes.substr(0, 10));
  held->Write(message);
  v1::QueryUploadRequest query;
  query.set_upload_id("shared-name");
  const auto committed = [&](const std::string& who) {
    v1::QueryUploadResponse answer;
    EXPECT_TRUE(world.Call(world.tensors(), &TensorStub::QueryUpload, who, query, &answer).ok());
    return answer.committed_bytes();
  };
  http::WaitFor([&] { return committed("mine-submitter") == 10; });
  EXPECT_EQ(committed("other-submitter"), 0);
  // The same id at the same time, of another tensor.
  const auto other_context = world.Context("other-submitter");
  v1::UploadTensorResponse other_response;
  const auto others = world.tensors().UploadTensor(other_context.get(), &other_response);
  v1::UploadTensorRequest other_message;
  v1::UploadHeader& other_header = *other_message.mutable_header();
  other_header.set_upload_id("shared-name");
  other_header.set_sha256(Sha256Of(std::string("other")));
  other_header.set_size_bytes(5);
  other_header.set_dtype(v1::BITMASK);
  others->Write(other_message);
  other_message.set_data("other");
  others->Write(other_message);
  others->WritesDone();
  EXPECT_TRUE(others->Finish().ok());
  message.set_data(kBytes.substr(10));
  held->Write(message);
  held->WritesDone();
  EXPECT_TRUE(held->Finish().ok()) << "undisturbed";
}

TEST(AccessAttack, AnUploadThatAnotherHasBrokenOffCannotBeGoneOnWith) {
  AccessWorld world;
  UploadSpec spec{.upload_id = "u",
                  .sha256 = Sha256Of(kBytes),
                  .size_bytes = static_cast<int64_t>(kBytes.size()),
                  .dtype = "BITMASK"};
  const access::Caller mine{"mine", access::Role::kSubmitter, ""};
  {
    auto upload = *world.backend().tensor_api().StartUpload(mine, spec, 0);
    ASSERT_TRUE(upload->Append(absl::MakeConstSpan(kBytes).subspan(0, 10)).ok());
  }
  const access::Caller other{"other", access::Role::kSubmitter, ""};
  EXPECT_EQ(world.backend().tensor_api().StartUpload(other, spec, 10).status().code(),
            absl::StatusCode::kOutOfRange);
  EXPECT_TRUE(world.backend().tensor_api().StartUpload(mine, spec, 10).ok());
}

TEST(AccessAttack, WhatAnotherBringsAgainAfterOnesGraceIsNotOnesOwn) {
  AccessWorld world;
  v1::UploadTensorResponse uploaded;
  ASSERT_TRUE(world.Upload("other-submitter", kBytes, &uploaded).ok());
  ASSERT_TRUE(CollectTensors(&world.jobs(), &world.backend().tensors(), absl::ZeroDuration()).ok());
  EXPECT_EQ(world.Download("other-reader", uploaded.sha256()).error_code(), NOT_FOUND);
  ASSERT_TRUE(world.Upload("mine-submitter", kBytes).ok());
  EXPECT_EQ(world.Download("other-reader", uploaded.sha256()).error_code(), NOT_FOUND);
  EXPECT_TRUE(world.Download("mine-reader", uploaded.sha256()).ok());
}

// --- Tokens ---

TEST(AccessAttack, ATokenInAQueryIsRefused) {
  AccessWorld world;
  const std::string query = absl::StrCat("token=", world.TokenOf("admin"));
  EXPECT_EQ(world.Ask("", "GET", "/api/v1/jobs?access_" + query).status, 401);
  EXPECT_EQ(world.Ask("", "GET", "/metrics?" + query).status, 401);
  EXPECT_EQ(world.Ask("admin", "GET", "/api/v1/jobs?access_" + query).status, 400);
}

TEST(AccessAttack, HeadersThatSayTwoThingsAreRefused) {
  AccessWorld world;
  const std::string good = absl::StrCat("Authorization: Bearer ", world.TokenOf("admin"), "\r\n");
  EXPECT_EQ(world.Ask("", "GET", "/api/v1/jobs", good).status, 200);
  EXPECT_EQ(world.Ask("", "GET", "/api/v1/jobs", good + good).status, 400);
  EXPECT_EQ(world.Ask("", "GET", "/api/v1/jobs", good + "Authorization: Bearer x\r\n").status, 400);
  const auto context = world.Context("admin");
  context->AddMetadata("authorization", "Bearer " + world.TokenOf("admin"));
  v1::ServerInfo info;
  EXPECT_EQ(world.prune().GetServerInfo(context.get(), {}, &info).error_code(), UNAUTHENTICATED);
}

TEST(AccessAttack, LongTokensAreRefused) {
  AccessWorld world;
  for (const size_t length : {257, 4000}) {
    grpc::ClientContext context;
    context.AddMetadata("authorization", "Bearer " + std::string(length, 'x'));
    v1::ServerInfo info;
    EXPECT_EQ(world.prune().GetServerInfo(&context, {}, &info).error_code(), UNAUTHENTICATED);
    const std::string header = absl::StrCat("Authorization: Bearer ", std::string(length, 'x'));
    EXPECT_EQ(world.Ask("", "GET", "/api/v1/jobs", header + "\r\n").status, 401);
  }
}

TEST(AccessAttack, ARevokedTokenHoldsForNoFurtherCall) {
  AccessWorld world;
  EXPECT_EQ(world.Ask("mine-reader", "GET", "/api/v1/jobs").status, 200);
  world.Revoke("mine-reader");
  EXPECT_EQ(world.Ask("mine-reader", "GET", "/api/v1/jobs").status, 401);
  EXPECT_EQ(world.Watch("mine-reader", world.AddJob("mine")).error_code(), UNAUTHENTICATED);
}

TEST(AccessAttack, AWatchEndsSoonAfterItsTokenIsRevoked) {
  AccessWorld world;
  v1::WatchJobRequest request;
  request.set_name(world.AddJob("mine"));
  const auto context = world.Context("mine-reader");
  const auto watch = world.prune().WatchJob(context.get(), request);
  v1::JobEvent event;
  ASSERT_TRUE(watch->Read(&event));
  http::HttpClient viewer(world.http_port());
  const std::string bearer =
      absl::StrCat("Authorization: Bearer ", world.TokenOf("mine-reader"), "\r\n");
  ASSERT_EQ(viewer.Open(absl::StrCat("/api/v1/", request.name(), "/events"), bearer).status, 200);
  world.Revoke("mine-reader");
  while (watch->Read(&event)) EXPECT_TRUE(event.has_heartbeat());
  EXPECT_EQ(watch->Finish().error_code(), UNAUTHENTICATED);
  while (viewer.Next().has_value()) {
  }
}

TEST(AccessAttack, CallsAreToldWithWhoAndNeverWithATokenOfTheirs) {
  AccessWorld world;
  v1::Job job;
  ASSERT_TRUE(GetJob(world, "mine-reader", world.AddJob("mine"), &job).ok());
  http::WaitFor([&] { return !world.calls().empty(); });
  const FinishedRpc call = world.calls().front();
  EXPECT_EQ(call.caller.tenant, "mine");
  EXPECT_EQ(call.caller.who, "mine-reader");
  for (const std::string& text :
       {call.job, call.request.request_id, call.caller.tenant, call.caller.who}) {
    EXPECT_THAT(text, Not(HasSubstr(world.TokenOf("mine-reader"))));
  }
}

}  // namespace
}  // namespace attnprune::rpc
