// The whole of who may do what: every RPC and route, by role, on what is one's own and another's.
#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/support/byte_buffer.h>

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/io/sha256.h"
#include "server/access/rules.h"
#include "server/http/route.h"
#include "server/web/api_json.h"
#include "tests/server/grpc/access_world.h"

namespace attnprune::rpc {
namespace {

using enum grpc::StatusCode;
using PruneStub = v1::PruneService::Stub;
using TensorStub = v1::TensorService::Stub;

std::vector<const google::protobuf::MethodDescriptor*> AllMethods() {
  std::vector<const google::protobuf::MethodDescriptor*> methods;
  for (const auto* const file :
       {v1::GetJobRequest::descriptor()->file(), v1::UploadHeader::descriptor()->file()}) {
    for (int i = 0; i < file->service_count(); ++i) {
      for (int j = 0; j < file->service(i)->method_count(); ++j) {
        methods.push_back(file->service(i)->method(j));
      }
    }
  }
  return methods;
}

// A new RPC or route without a rule fails here, and so does a rule for nothing.
TEST(AccessTable, HasEachRpcAndRouteOnceAndNothingElse) {
  std::multiset<std::string> there, ruled;
  for (const auto* const method : AllMethods()) there.insert(method->name());
  for (const absl::string_view route : http::kRouteNames) there.insert(std::string(route));
  for (const access::Rule& rule : access::Rules()) ruled.insert(std::string(rule.action));
  EXPECT_EQ(ruled, there);
}

// Any method at all, with one empty message.
grpc::Status CallByName(AccessWorld& world, const std::string& path, const std::string& who) {
  grpc::GenericStub stub(world.channel());
  grpc::CompletionQueue queue;
  const auto context = world.Context(who);
  const auto call = stub.PrepareCall(context.get(), path, &queue);
  const auto await = [&queue] {
    void* tag = nullptr;
    bool ok = false;
    queue.Next(&tag, &ok);
    return ok;
  };
  call->StartCall(nullptr);
  await();
  const grpc::Slice nothing;
  call->WriteLast(grpc::ByteBuffer(&nothing, 1), grpc::WriteOptions(), nullptr);
  await();
  grpc::ByteBuffer answer;
  do {
    call->Read(&answer, nullptr);
  } while (await());
  grpc::Status status;
  call->Finish(&status, nullptr);
  await();
  return status;
}

TEST(AccessTable, EveryRpcOfTheServicesNeedsAToken) {
  AccessWorld world;
  ASSERT_EQ(AllMethods().size(), 18U);
  grpc::Status first;
  for (const auto* const method : AllMethods()) {
    const std::string path = absl::StrCat("/", method->service()->full_name(), "/", method->name());
    for (const char* const who : {"", "wrong"}) {
      const grpc::Status status = CallByName(world, path, who);
      EXPECT_EQ(status.error_code(), UNAUTHENTICATED) << path << " " << status.error_message();
      if (first.ok()) first = status;
      EXPECT_EQ(status.error_message(), first.error_message()) << "nothing tells one from another";
    }
    const grpc::Status admitted = CallByName(world, path, "admin");
    EXPECT_NE(admitted.error_code(), UNAUTHENTICATED) << path;
    EXPECT_NE(admitted.error_code(), PERMISSION_DENIED) << path;
  }
}

enum class Least { kReader, kSubmitter };

// What a call does with something of tenant "mine".
struct Row {
  const char* rpc;
  Least least;
  std::function<grpc::Status(AccessWorld&, const std::string& who)> call;
};

template <typename Request, typename Response>
std::function<grpc::Status(AccessWorld&, const std::string&)> On(
    grpc::Status (PruneStub::*method)(grpc::ClientContext*, const Request&, Response*),
    std::function<std::string(AccessWorld&)> name) {
  return [method, name](AccessWorld& world, const std::string& who) {
    Request request;
    request.set_name(name(world));
    return world.Call(world.prune(), method, who, request);
  };
}

std::string Queued(AccessWorld& world) { return world.AddJob("mine"); }
std::string Ended(AccessWorld& world) { return world.AddEnded("mine"); }
std::string QueuedRun(AccessWorld& world) { return world.AddJob("mine", JobKind::kRun); }
std::string EndedRun(AccessWorld& world) { return world.AddEnded("mine", JobKind::kRun); }

// RPCs about one thing.
const std::vector<Row>& Rows() {
  static const auto& rows = *new std::vector<Row>{
      {"GetJob", Least::kReader, On(&PruneStub::GetJob, Queued)},
      {"CancelJob", Least::kSubmitter, On(&PruneStub::CancelJob, Queued)},
      {"DeleteJob", Least::kSubmitter, On(&PruneStub::DeleteJob, Ended)},
      {"GetRun", Least::kReader, On(&PruneStub::GetRun, QueuedRun)},
      {"CancelRun", Least::kSubmitter, On(&PruneStub::CancelRun, QueuedRun)},
      {"DeleteRun", Least::kSubmitter, On(&PruneStub::DeleteRun, EndedRun)},
      {"ResumeRun", Least::kSubmitter, On(&PruneStub::ResumeRun, EndedRun)},
      {"WatchJob", Least::kReader,
       [](AccessWorld& world, const std::string& who) {
         return world.Watch(who, world.AddJob("mine"));
       }},
      {"WatchJob of a run", Least::kReader,
       [](AccessWorld& world, const std::string& who) {
         return world.Watch(who, EndedRun(world));
       }},
      {"DownloadTensor", Least::kReader,
       [](AccessWorld& world, const std::string& who) {
         v1::UploadTensorResponse uploaded;
         EXPECT_TRUE(world.Upload("mine-submitter", "a tensor of mine", &uploaded).ok());
         return world.Download(who, uploaded.sha256());
       }},
  };
  return rows;
}

TEST(AccessTable, ByRoleOnOnesOwnAndAnothers) {
  AccessWorld world;
  for (const Row& row : Rows()) {
    const bool of_readers = row.least == Least::kReader;
    const auto code = [&](const std::string& who) { return row.call(world, who).error_code(); };
    EXPECT_EQ(code(""), UNAUTHENTICATED) << row.rpc;
    EXPECT_EQ(code("wrong"), UNAUTHENTICATED) << row.rpc;
    EXPECT_EQ(code("mine-reader"), of_readers ? OK : PERMISSION_DENIED) << row.rpc;
    EXPECT_EQ(code("mine-submitter"), OK) << row.rpc;
    EXPECT_EQ(code("other-reader"), of_readers ? NOT_FOUND : PERMISSION_DENIED) << row.rpc;
    EXPECT_EQ(code("other-submitter"), NOT_FOUND) << row.rpc;
    EXPECT_EQ(code("admin"), OK) << row.rpc;
  }
}

// What belongs to nobody: readers may ask, or only submitters may.
TEST(AccessTable, ByRoleOfCallsAboutNothingInParticular) {
  AccessWorld world;
  const auto unary = [&](auto& stub, auto method, auto request) {
    return [&world, &stub, method, request](const std::string& who) {
      return world.Call(stub, method, who, request).error_code();
    };
  };
  v1::CreateJobRequest create;
  *create.mutable_job() = world.backend().GoodJob();
  create.set_validate_only(true);
  v1::QueryUploadRequest query;
  query.set_upload_id("u");
  const std::vector<std::function<grpc::StatusCode(const std::string&)>> reads = {
      unary(world.prune(), &PruneStub::ListJobs, v1::ListJobsRequest()),
      unary(world.prune(), &PruneStub::ListRuns, v1::ListRunsRequest()),
      unary(world.tensors(), &TensorStub::ListTensors, v1::ListTensorsRequest()),
      unary(world.prune(), &PruneStub::GetServerInfo, v1::GetServerInfoRequest())};
  const std::vector<std::function<grpc::StatusCode(const std::string&)>> writes = {
      unary(world.prune(), &PruneStub::CreateJob, create),
      unary(world.prune(), &PruneStub::CreateRun, v1::CreateRunRequest()),
      unary(world.tensors(), &TensorStub::FindMissingTensors, v1::FindMissingTensorsRequest()),
      unary(world.tensors(), &TensorStub::QueryUpload, query),
      [&](const std::string& who) { return world.Upload(who, "bytes").error_code(); }};
  for (size_t i = 0; i < reads.size(); ++i) {
    EXPECT_EQ(reads[i]("mine-reader"), OK) << i;
    EXPECT_EQ(reads[i]("mine-submitter"), OK) << i;
    EXPECT_EQ(reads[i]("admin"), OK) << i;
  }
  for (size_t i = 0; i < writes.size(); ++i) {
    EXPECT_EQ(writes[i]("mine-reader"), PERMISSION_DENIED) << i;
    EXPECT_NE(writes[i]("mine-submitter"), PERMISSION_DENIED) << i;
    EXPECT_NE(writes[i]("mine-submitter"), UNAUTHENTICATED) << i;
  }
}

struct RouteRow {
  http::Route route;
  const char* verb;
  std::function<std::string(AccessWorld&)> target;
  Least least;
  int done = 200;  // the code for who may
};

std::string Url(const std::string& name, const std::string& more = "") {
  return absl::StrCat("/api/v1/", name, more);
}

TEST(AccessTable, ByRoleOfRoutes) {
  using http::Route;
  AccessWorld world;
  const RouteRow rows[] = {
      {Route::kJob, "GET", [](auto& w) { return Url(Queued(w)); }, Least::kReader},
      {Route::kDeleteJob, "DELETE", [](auto& w) { return Url(Ended(w)); }, Least::kSubmitter},
      {Route::kEvents, "GET", [](auto& w) { return Url(Ended(w), "/events?after_sequence=2"); },
       Least::kReader, 204},
      {Route::kCancel, "POST", [](auto& w) { return Url(Queued(w), ":cancel"); },
       Least::kSubmitter},
      {Route::kRun, "GET", [](auto& w) { return Url(QueuedRun(w)); }, Least::kReader},
      {Route::kDeleteRun, "DELETE", [](auto& w) { return Url(EndedRun(w)); }, Least::kSubmitter},
      {Route::kCancelRun, "POST", [](auto& w) { return Url(QueuedRun(w), ":cancel"); },
       Least::kSubmitter},
      {Route::kResumeRun, "POST", [](auto& w) { return Url(EndedRun(w), ":resume"); },
       Least::kSubmitter},
      {Route::kTensor, "GET",
       [](auto& w) {
         v1::UploadTensorResponse uploaded;
         EXPECT_TRUE(w.Upload("mine-submitter", "a tensor of mine", &uploaded).ok());
         return Url("tensors/" + uploaded.sha256());
       },
       Least::kReader}};
  for (const RouteRow& row : rows) {
    const auto code = [&](const std::string& who) {
      return world.Ask(who, row.verb, row.target(world)).status;
    };
    const absl::string_view name = http::kRouteNames.at(static_cast<size_t>(row.route));
    const bool of_readers = row.least == Least::kReader;
    const int done = row.done;
    EXPECT_EQ(code(""), 401) << name;
    EXPECT_EQ(code("wrong"), 401) << name;
    EXPECT_EQ(code("mine-reader"), of_readers ? done : 403) << name;
    EXPECT_EQ(code("mine-submitter"), done) << name;
    EXPECT_EQ(code("other-reader"), of_readers ? 404 : 403) << name;
    EXPECT_EQ(code("other-submitter"), 404) << name;
    EXPECT_EQ(code("admin"), done) << name;
  }
}

// Of a result's files: who sees the job is told that it has none (yet), with 404 as one who does
// not; the words differ.
TEST(AccessTable, ByRoleOfResultsFiles) {
  AccessWorld world;
  for (const std::string& url :
       {Url(Queued(world), "/results/0/files"), Url(QueuedRun(world), "/results/0/files"),
        Url(Queued(world), "/results/0/density?matrix=w_q")}) {
    EXPECT_EQ(world.Ask("", "GET", url).status, 401) << url;
    EXPECT_THAT(world.Ask("mine-reader", "GET", url).body, ::testing::HasSubstr("results")) << url;
    EXPECT_THAT(world.Ask("admin", "GET", url).body, ::testing::HasSubstr("results")) << url;
    EXPECT_THAT(world.Ask("other-submitter", "GET", url).body,
                ::testing::Not(::testing::HasSubstr("results")))
        << url;
  }
}

TEST(AccessTable, OfRoutesThatBringSomething) {
  AccessWorld world;
  v1::CreateJobRequest create;
  *create.mutable_job() = world.backend().GoodJob();
  create.set_validate_only(true);
  const std::string bytes = "bytes", digest = Sha256Of(bytes);
  struct Bring {
    const char* verb;
    std::string target, body;
    int done;
  };
  const Bring rows[] = {
      {"POST", "/api/v1/jobs", web::ToJson(create), 200},
      {"POST", "/api/v1/runs", "{}", 400},
      {"POST", "/api/v1/tensors:findMissing", "{}", 200},
      {"GET", "/api/v1/uploads/u", "", 200},
      {"PUT", absl::StrCat("/api/v1/uploads/u?sizeBytes=5&dtype=BITMASK&sha256=", digest), bytes,
       200}};
  for (const Bring& row : rows) {
    const auto code = [&](const std::string& who) {
      return world.Ask(who, row.verb, row.target, "", row.body).status;
    };
    EXPECT_EQ(code(""), 401) << row.target;
    EXPECT_EQ(code("wrong"), 401) << row.target;
    EXPECT_EQ(code("mine-reader"), 403) << row.target;
    EXPECT_EQ(code("mine-submitter"), row.done) << row.target;
    EXPECT_EQ(code("admin"), row.done) << row.target;
  }
  EXPECT_EQ(world.Ask("other-reader", "GET", "/api/v1/tensors/" + digest).status, 404);
  EXPECT_EQ(world.Ask("mine-reader", "GET", "/api/v1/tensors/" + digest).body, bytes);
}

TEST(AccessTable, TensorsAreListedToWhoeverSeesThem) {
  AccessWorld world;
  v1::UploadTensorResponse uploaded;
  ASSERT_TRUE(world.Upload("mine-submitter", "a tensor of mine", &uploaded).ok());
  const auto listed = [&](const std::string& who) {
    v1::ListTensorsResponse response;
    const grpc::Status status = world.Call(world.tensors(), &TensorStub::ListTensors, who,
                                           v1::ListTensorsRequest(), &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    const std::string body = world.Ask(who, "GET", "/api/v1/tensors").body;
    const bool there = response.tensors_size() == 1;
    for (const v1::StoredTensor& one : response.tensors()) {
      EXPECT_EQ(one.tensor().sha256(), uploaded.sha256());
    }
    EXPECT_EQ(body.find(uploaded.sha256()) != std::string::npos, there) << body;
    return there;
  };
  for (const char* const who : {"mine-reader", "mine-submitter", "admin"}) EXPECT_TRUE(listed(who));
  for (const char* const who : {"other-reader", "other-submitter"}) EXPECT_FALSE(listed(who));
}

TEST(AccessTable, OfRoutesAboutNothingInParticular) {
  AccessWorld world;
  for (const char* const target :
       {"/api/v1/server", "/api/v1/jobs", "/api/v1/runs", "/api/v1/tensors"}) {
    EXPECT_EQ(world.Ask("", "GET", target).status, 401) << target;
    EXPECT_EQ(world.Ask("", "HEAD", target).status, 401) << target;
    EXPECT_EQ(world.Ask("mine-reader", "GET", target).status, 200) << target;
    EXPECT_EQ(world.Ask("admin", "GET", target).status, 200) << target;
  }
  EXPECT_EQ(world.Ask("", "GET", "/metrics").status, 401);
  EXPECT_EQ(world.Ask("mine-submitter", "GET", "/metrics").status, 403);
  EXPECT_EQ(world.Ask("admin", "GET", "/metrics").body, "figures 1\n");
  for (const char* const target : {"/healthz", "/", "/js/main.js", "/api/v1/openapi.json"}) {
    EXPECT_EQ(world.Ask("", "GET", target).status, 200) << target;
  }
  EXPECT_EQ(world.Ask("", "GET", "/api/v1/jobs").headers.at("www-authenticate"), "Bearer");
}

}  // namespace
}  // namespace attnprune::rpc
