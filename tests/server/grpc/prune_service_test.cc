#include <algorithm>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/api/bad_jobs.h"
#include "tests/server/api/jobs_for_tests.h"
#include "tests/server/grpc/service_fixture.h"

namespace attnprune::rpc {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

v1::CreateJobRequest RequestFor(const v1::Job& job, const std::string& request_id = "") {
  v1::CreateJobRequest request;
  *request.mutable_job() = job;
  request.set_request_id(request_id);
  return request;
}

v1::ListJobsRequest PageOf(int page_size, const std::string& token = "") {
  v1::ListJobsRequest request;
  request.set_page_size(page_size);
  request.set_page_token(token);
  return request;
}

// Status of WatchJob when it ends at once.
grpc::Status Watch(Service& service, const std::string& name, int64_t after) {
  grpc::ClientContext context;
  v1::WatchJobRequest request;
  request.set_name(name);
  request.set_after_sequence(after);
  const auto stream = service.stub().WatchJob(&context, request);
  v1::JobEvent event;
  while (stream->Read(&event)) {
  }
  return stream->Finish();
}

TEST(PruneService, RefusesEveryBadJobWithTheFieldAtFault) {
  Service service;
  for (const api::BadJob& row : api::BadJobs()) {
    SCOPED_TRACE(row.title);
    const grpc::Status status = Create(service, RequestFor(row.job)).status;
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_EQ(FieldOf(status), row.field);
    EXPECT_THAT(status.error_message(), HasSubstr(row.message));
  }
  EXPECT_EQ(List(service, {}).response.jobs_size(), 0);
}

TEST(PruneService, RefusesEveryBadJobJustSoWhenOnlyAskedToCheckIt) {
  Service service;
  for (const api::BadJob& row : api::BadJobs()) {
    SCOPED_TRACE(row.title);
    v1::CreateJobRequest request = RequestFor(row.job);
    request.set_validate_only(true);
    const grpc::Status status = Create(service, request).status;
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
    EXPECT_EQ(FieldOf(status), row.field);
  }
}

// Every other bad input of every RPC. TensorService's are in tensor_service_test.cc.
TEST(PruneService, RefusesEveryBadRequestWithItsCodeAndField) {
  Service service;
  const std::string queued = service.Create(service.GoodJob()).name();
  const std::string missing = "jobs/nobody";
  const auto list = [&](const std::function<void(v1::ListJobsRequest&)>& spoil) {
    v1::ListJobsRequest request;
    spoil(request);
    return List(service, request).status;
  };
  const v1::Job good = service.GoodJob();
  v1::Job other_shape = good;
  other_shape.mutable_held_out(0)->set_shape(0, 4);
  using grpc::StatusCode;
  struct Row {
    const char* title;
    grpc::Status status;
    StatusCode code;
    const char* field;  // empty: the error is about none
  };
  const Row rows[] = {
      {"CreateJob without a job", Create(service, {}).status, StatusCode::INVALID_ARGUMENT, "job"},
      {"CreateJob with a long request_id",
       Create(service, RequestFor(good, std::string(129, 'r'))).status,
       StatusCode::INVALID_ARGUMENT, "request_id"},
      {"CreateJob with a line break in the request_id",
       Create(service, RequestFor(good, "a\nb")).status, StatusCode::INVALID_ARGUMENT,
       "request_id"},
      {"CreateJob with a shape that the stored bytes do not have",
       Create(service, RequestFor(other_shape)).status, StatusCode::INVALID_ARGUMENT,
       "job.held_out[0].shape"},
      {"CreateJob with tensors that are not there",
       Create(service, RequestFor(api::LayerJob())).status, StatusCode::FAILED_PRECONDITION, ""},
      {"GetJob without a name", Get(service, "").status, StatusCode::INVALID_ARGUMENT, "name"},
      {"GetJob of no name", Get(service, "job/x").status, StatusCode::INVALID_ARGUMENT, "name"},
      {"GetJob of nobody", Get(service, missing).status, StatusCode::NOT_FOUND, ""},
      {"ListJobs of -1", list([](auto& r) { r.set_page_size(-1); }), StatusCode::INVALID_ARGUMENT,
       "page_size"},
      {"ListJobs of 1001", list([](auto& r) { r.set_page_size(1001); }),
       StatusCode::INVALID_ARGUMENT, "page_size"},
      {"ListJobs with a made-up token", list([](auto& r) { r.set_page_token("x"); }),
       StatusCode::INVALID_ARGUMENT, "page_token"},
      {"ListJobs by 65 labels", list([](auto& r) {
         for (int i = 0; i < 65; ++i) (*r.mutable_labels())[absl::StrCat("k", i)] = "";
       }),
       StatusCode::INVALID_ARGUMENT, "labels"},
      {"ListJobs of 17 states", list([](auto& r) {
         for (int i = 0; i < 17; ++i) r.add_states(v1::QUEUED);
       }),
       StatusCode::INVALID_ARGUMENT, "states"},
      {"ListJobs of an unknown state",
       list([](auto& r) { r.add_states(static_cast<v1::JobState>(9)); }),
       StatusCode::INVALID_ARGUMENT, "states[0]"},
      {"ListJobs of the unspecified state", list([](auto& r) {
         r.add_states(v1::QUEUED);
         r.add_states(v1::JOB_STATE_UNSPECIFIED);
       }),
       StatusCode::INVALID_ARGUMENT, "states[1]"},
      {"CancelJob of no name", Cancel(service, "jobs/UPPER").status, StatusCode::INVALID_ARGUMENT,
       "name"},
      {"CancelJob of nobody", Cancel(service, missing).status, StatusCode::NOT_FOUND, ""},
      {"DeleteJob of no name", Delete(service, "jobs/"), StatusCode::INVALID_ARGUMENT, "name"},
      {"DeleteJob of nobody", Delete(service, missing), StatusCode::NOT_FOUND, ""},
      {"DeleteJob of one in the queue", Delete(service, queued), StatusCode::FAILED_PRECONDITION,
       ""},
      {"WatchJob of no name", Watch(service, "x", 0), StatusCode::INVALID_ARGUMENT, "name"},
      {"WatchJob of nobody", Watch(service, missing, 0), StatusCode::NOT_FOUND, ""},
      {"WatchJob before the beginning", Watch(service, queued, -1), StatusCode::INVALID_ARGUMENT,
       "after_sequence"},
      {"WatchJob after what there is", Watch(service, queued, 99), StatusCode::INVALID_ARGUMENT,
       "after_sequence"},
  };
  for (const Row& row : rows) {
    SCOPED_TRACE(row.title);
    EXPECT_EQ(row.status.error_code(), row.code) << row.status.error_message();
    EXPECT_FALSE(row.status.error_message().empty());
    if (*row.field != '\0') {
      EXPECT_EQ(FieldOf(row.status), row.field);
    }
  }
}

TEST(PruneService, NamesTheTensorsThatAreMissing) {
  Service service;
  v1::Job job = service.GoodJob();
  job.mutable_calibration(1)->set_sha256(std::string(64, 'c'));
  job.mutable_held_out(0)->set_sha256(std::string(64, 'b'));
  const v1::PreconditionFailure detail =
      PreconditionFailureOf(Create(service, RequestFor(job)).status);
  ASSERT_EQ(detail.violations_size(), 2);
  EXPECT_EQ(detail.violations(0).type(), "TENSOR_MISSING");
  EXPECT_EQ(detail.violations(0).subject(), std::string(64, 'b'));
  EXPECT_EQ(detail.violations(1).subject(), std::string(64, 'c'));
}

TEST(PruneService, TellsWhenToComeBackToAFullQueue) {
  Service service({.backend = {.max_queued_jobs = 1}});
  service.Create(service.GoodJob());
  const grpc::Status status = Create(service, RequestFor(service.GoodJob())).status;
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_GT(RetryInfoOf(status).retry_delay().seconds(), 0);
}

TEST(PruneService, RefusesAJobThatTheMachineCannotHold) {
  Service service({.backend = {.max_job_memory_bytes = 1000}});
  const grpc::Status status = Create(service, RequestFor(service.GoodJob())).status;
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(FieldOf(status), "job");
  EXPECT_EQ(ErrorInfoOf(status).reason(), "JOB_TOO_LARGE");
  EXPECT_EQ(ErrorInfoOf(status).metadata().at("limit_bytes"), "1000");
}

TEST(PruneService, GivesBackTheJobAsItWasSubmittedAndWhatTheServerKnows) {
  Service service;
  v1::Job submitted = service.GoodJob();
  submitted.set_priority(5);
  submitted.mutable_timeout()->set_seconds(60);
  api::SetLabel(submitted, "team", "a");
  const v1::Job created = service.Create(submitted);
  EXPECT_EQ(created.state(), v1::QUEUED);
  EXPECT_EQ(created.priority(), 5);
  EXPECT_EQ(created.timeout().seconds(), 60);
  EXPECT_EQ(created.labels().at("team"), "a");
  EXPECT_EQ(created.methods(0).label(), "magnitude");
  EXPECT_GT(created.create_time().seconds(), 1'600'000'000);
  EXPECT_FALSE(created.has_start_time());
  EXPECT_GT(created.estimate().memory_bytes(), 0);
  EXPECT_GT(created.estimate().seconds(), 0);
  EXPECT_EQ(created.problem().SerializeAsString(), submitted.problem().SerializeAsString());
  v1::Job again = Get(service, created.name()).response;
  *again.mutable_waiting() = created.waiting();  // its time goes on
  EXPECT_EQ(again.SerializeAsString(), created.SerializeAsString());
}

TEST(PruneService, ChecksWithoutCreatingWhenAskedTo) {
  Service service;
  v1::CreateJobRequest request = RequestFor(service.GoodJob());
  request.set_validate_only(true);
  const Answer<v1::Job> answer = Create(service, request);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_TRUE(answer.response.name().empty());
  EXPECT_GT(answer.response.estimate().memory_bytes(), 0);
  EXPECT_EQ(List(service, {}).response.jobs_size(), 0);
}

TEST(PruneService, ValidatesByShapesAloneWhereNoTensorIsStored) {
  Service elsewhere, service;
  v1::CreateJobRequest request = RequestFor(elsewhere.GoodJob());
  request.set_validate_only(true);
  const Answer<v1::Job> answer = Create(service, request);
  ASSERT_TRUE(answer.status.ok()) << answer.status.error_message();
  EXPECT_GT(answer.response.estimate().memory_bytes(), 0);
  EXPECT_EQ(service.tensors().Usage().blobs, 0);
  request.set_validate_only(false);
  EXPECT_EQ(Create(service, request).status.error_code(), grpc::StatusCode::FAILED_PRECONDITION);
}

TEST(PruneService, AnswersTheSameRequestWithTheSameJob) {
  Service service;
  v1::Job job = service.GoodJob();
  for (int i = 0; i < 20; ++i) api::SetLabel(job, absl::StrCat("k", i), "v");
  const v1::Job first = Create(service, RequestFor(job, "once")).response;
  const Answer<v1::Job> again = Create(service, RequestFor(job, "once"));
  ASSERT_TRUE(again.status.ok()) << again.status.error_message();
  EXPECT_EQ(again.response.name(), first.name());
  EXPECT_EQ(first.request_id(), "once");
  job.set_seed(1);
  EXPECT_EQ(Create(service, RequestFor(job, "once")).status.error_code(),
            grpc::StatusCode::ALREADY_EXISTS);
  EXPECT_EQ(List(service, {}).response.jobs_size(), 1);
}

TEST(PruneService, ListsNewestFirstPageByPageAndByFilter) {
  Service service;
  v1::Job job = service.GoodJob();
  std::vector<std::string> names;
  for (const char* team : {"a", "b", "a", "b", "a"}) {
    api::SetLabel(job, "team", team);
    names.push_back(service.Create(job).name());
  }
  std::vector<std::string> listed;
  std::string token;
  do {
    const v1::ListJobsResponse page = List(service, PageOf(2, token)).response;
    EXPECT_LE(page.jobs_size(), 2);
    for (const v1::Job& item : page.jobs()) listed.push_back(item.name());
    token = page.next_page_token();
  } while (!token.empty());
  EXPECT_THAT(listed, ElementsAre(names[4], names[3], names[2], names[1], names[0]));

  Cancel(service, names[0]);
  v1::ListJobsRequest filter;
  api::SetLabel(filter, "team", "a");
  filter.add_states(v1::QUEUED);
  listed.clear();
  const v1::ListJobsResponse matching = List(service, filter).response;
  for (const v1::Job& item : matching.jobs()) listed.push_back(item.name());
  EXPECT_THAT(listed, ElementsAre(names[4], names[2]));
}

TEST(PruneService, CutsAPageThatNoClientWouldTake) {
  Service service;
  v1::Job job = service.GoodJob();
  v1::TensorRef batch = job.held_out(0);
  batch.set_name(std::string(255, 'n'));
  for (int i = 0; i < 2'000; ++i) *job.add_held_out() = batch;
  for (int i = 0; i < 10; ++i) service.Create(job);
  std::set<std::string> listed;
  std::string token;
  do {
    const auto page = List(service, PageOf(10, token));
    ASSERT_TRUE(page.status.ok()) << page.status.error_message();
    for (const v1::Job& item : page.response.jobs()) listed.insert(item.name());
    token = page.response.next_page_token();
  } while (!token.empty());
  EXPECT_EQ(listed.size(), 10u);
}

TEST(PruneService, CancelsAQueuedJobAtOnceAndLeavesAnEndedOneAsItIs) {
  Service service;
  const std::string name = service.Create(service.GoodJob()).name();
  EXPECT_EQ(Cancel(service, name).response.state(), v1::CANCELLED);
  const v1::Job ended = Get(service, name).response;
  EXPECT_TRUE(ended.has_end_time());
  EXPECT_EQ(Cancel(service, name).response.SerializeAsString(), ended.SerializeAsString());
}

TEST(PruneService, MarksARunningJobForItsWorker) {
  Service service;
  const std::string name = service.Create(service.GoodJob()).name();
  service.Claim();
  const v1::Job job = Cancel(service, name).response;
  EXPECT_EQ(job.state(), v1::RUNNING);
  EXPECT_TRUE(job.cancel_requested());
  EXPECT_EQ(job.attempt(), 1);
}

TEST(PruneService, DeletesAJobThatHasEnded) {
  Service service;
  const std::string name = service.Create(service.GoodJob()).name();
  Cancel(service, name);
  EXPECT_TRUE(Delete(service, name).ok());
  EXPECT_EQ(Get(service, name).status.error_code(), grpc::StatusCode::NOT_FOUND);
}

TEST(PruneService, ShowsResultsAndFailure) {
  Service service;
  const std::string name = service.Create(service.GoodJob()).name();
  const JobClaim claim = service.Claim();
  v1::MethodResult result;
  result.set_method("magnitude");
  result.set_sparsity(0.5);
  ASSERT_TRUE(service.jobs().FinishMethod(claim, 0, result.SerializeAsString(), {}).ok());
  const Failure failure = {absl::StatusCode::kDeadlineExceeded, "timeout must be ..."};
  ASSERT_TRUE(service.jobs().Finish(claim, JobState::kFailed, failure, "").ok());
  const v1::Job job = Get(service, name).response;
  EXPECT_EQ(job.state(), v1::FAILED);
  EXPECT_EQ(job.failure().code(), static_cast<int>(grpc::StatusCode::DEADLINE_EXCEEDED));
  EXPECT_EQ(job.failure().message(), failure.message);
  ASSERT_EQ(job.results_size(), 1);
  EXPECT_EQ(job.results(0).sparsity(), 0.5);
}

TEST(PruneService, DescribesItselfAndEveryMethodWithItsParameters) {
  Service service;
  service.Create(service.GoodJob());
  grpc::ClientContext context;
  v1::ServerInfo info;
  ASSERT_TRUE(service.stub().GetServerInfo(&context, {}, &info).ok());
  EXPECT_FALSE(info.version().empty());
  EXPECT_THAT(info.blas(), HasSubstr("OpenBLAS"));
  EXPECT_EQ(info.queued_jobs(), 1);
  std::vector<std::string> names;
  for (const v1::MethodInfo& method : info.methods()) names.push_back(method.name());
  EXPECT_THAT(names, ::testing::IsSupersetOf({"gd", "magnitude", "sparsegpt", "wanda"}));
  const auto gd = std::find(names.begin(), names.end(), "gd") - names.begin();
  const v1::ParameterInfo& lambda = info.methods(static_cast<int>(gd)).parameters(0);
  EXPECT_EQ(lambda.name(), "lambda");
  EXPECT_FALSE(lambda.has_default_value()) << "it depends on the problem";
  EXPECT_FALSE(lambda.help().empty());
}

TEST(PruneService, GivesUpAtTheClientsDeadline) {
  Service service;
  const std::string name = service.Create(service.GoodJob()).name();
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::milliseconds(50));
  v1::WatchJobRequest request;
  request.set_name(name);
  const auto stream = service.stub().WatchJob(&context, request);
  v1::JobEvent event;
  while (stream->Read(&event)) {
  }
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_EQ(Get(service, name).response.state(), v1::QUEUED) << "a watcher does not end a job";
}

}  // namespace
}  // namespace attnprune::rpc
