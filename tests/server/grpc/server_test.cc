// The whole server in the process, with workers.
#include "server/server.h"

#include <grpcpp/grpcpp.h>
#include <grpcpp/impl/client_unary_call.h>
#include <grpcpp/impl/codegen/proto_utils.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "attnprune/v1/prune_service.grpc.pb.h"
#include "attnprune/v1/tensor_service.grpc.pb.h"
#include "core/base/field_error.h"
#include "core/kernels/blas.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/server_options.h"
#include "tests/server/api/jobs_for_tests.h"
#include "tests/server/api/temporary_folder.h"
#include "tests/server/grpc/remote_tensors.h"

namespace attnprune::rpc {
namespace {

using ::testing::HasSubstr;

ServerOptions OptionsFor(const TemporaryFolder& folder) {
  ServerOptions options;
  options.listen = "127.0.0.1:0";
  options.data_dir = folder.path();
  options.threads_per_job = 1;
  options.checkpoint_interval = absl::Milliseconds(50);
  return options;
}

// A server and a client of it.
struct Running {
  explicit Running(const ServerOptions& options) {
    static const bool blas = InitializeBlas().ok();
    EXPECT_TRUE(blas);
    auto started = Server::Start(options);
    if (!started.ok()) {
      ADD_FAILURE() << started.status();
      std::abort();
    }
    server = *std::move(started);
    channel = grpc::CreateChannel(server->address(), grpc::InsecureChannelCredentials());
    stub = v1::PruneService::NewStub(channel);
  }

  v1::Job Create(const v1::Job& job) {
    grpc::ClientContext context;
    v1::CreateJobRequest request;
    *request.mutable_job() = job;
    v1::Job created;
    const grpc::Status status = stub->CreateJob(&context, request, &created);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return created;
  }
  v1::Job Get(const std::string& name) {
    grpc::ClientContext context;
    v1::GetJobRequest request;
    request.set_name(name);
    v1::Job job;
    EXPECT_TRUE(stub->GetJob(&context, request, &job).ok());
    return job;
  }

  std::unique_ptr<Server> server;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::PruneService::Stub> stub;
};

// Reads a job's events until `done` says so or the stream ends; returns the last one.
template <typename Done>
v1::JobEvent WatchUntil(Running& running, const std::string& name, Done done) {
  grpc::ClientContext context;
  v1::WatchJobRequest request;
  request.set_name(name);
  const auto stream = running.stub->WatchJob(&context, request);
  v1::JobEvent event;
  while (stream->Read(&event) && !done(event)) {
  }
  context.TryCancel();
  return event;
}
v1::Job WatchToTheEnd(Running& running, const std::string& name) {
  return WatchUntil(running, name, [](const v1::JobEvent&) { return false; }).terminal();
}

v1::Job GdJob(Running& running, int steps) {
  v1::Job job = api::LayerJob();
  job.clear_methods();
  v1::Method& gd = *job.add_methods();
  gd.set_name("gd");
  (*gd.mutable_parameters())["steps"] = steps;
  UploadTensors(job, running.channel);
  return job;
}

std::string MaskOf(const v1::Job& job) { return job.results(0).matrices(0).mask().sha256(); }

TEST(Server, RunsAJobOfSeveralMethodsToItsEnd) {
  const TemporaryFolder folder;
  Running running(OptionsFor(folder));
  v1::Job job = GdJob(running, 20);
  for (const char* name : {"magnitude", "wanda", "sparsegpt"}) job.add_methods()->set_name(name);
  const v1::Job ended = WatchToTheEnd(running, running.Create(job).name());
  EXPECT_EQ(ended.state(), v1::SUCCEEDED) << ended.failure().message();
  ASSERT_EQ(ended.results_size(), 4);
  for (const v1::MethodResult& result : ended.results()) {
    EXPECT_FALSE(result.has_failure()) << result.failure().message();
    EXPECT_TRUE(result.relative_error().has_held_out());
  }
  EXPECT_EQ(running.Get(ended.name()).SerializeAsString(), ended.SerializeAsString());
}

TEST(Server, CancelsARunningJobWithinAStepAndKeepsWhatItsMethodHas) {
  const TemporaryFolder folder;
  Running running(OptionsFor(folder));
  const std::string name = running.Create(GdJob(running, 1'000'000)).name();
  WatchUntil(running, name, [](const v1::JobEvent& event) { return event.has_progress(); });
  grpc::ClientContext context;
  v1::CancelJobRequest request;
  request.set_name(name);
  v1::Job job;
  ASSERT_TRUE(running.stub->CancelJob(&context, request, &job).ok());
  const v1::Job ended = WatchToTheEnd(running, name);
  EXPECT_EQ(ended.state(), v1::CANCELLED) << "no million steps";
  ASSERT_EQ(ended.results_size(), 1);
  const v1::MethodResult& result = ended.results(0);
  EXPECT_EQ(result.termination_reason(), "stopped");
  EXPECT_GE(result.steps(), 1);
  EXPECT_EQ(result.sparsity(), 0.5) << "a whole mask";
  EXPECT_TRUE(result.relative_error().has_held_out()) << "judged like any other";
  EXPECT_FALSE(MaskOf(ended).empty());
}

TEST(Server, EndsAJobAtItsTimeout) {
  const TemporaryFolder folder;
  ServerOptions options = OptionsFor(folder);
  options.lease = absl::Seconds(1);
  Running running(options);
  v1::Job job = GdJob(running, 1'000'000);
  job.mutable_timeout()->set_seconds(1);
  const v1::Job ended = WatchToTheEnd(running, running.Create(job).name());
  EXPECT_EQ(ended.state(), v1::FAILED);
  EXPECT_EQ(ended.failure().code(), static_cast<int>(grpc::StatusCode::DEADLINE_EXCEEDED));
}

TEST(Server, ResumesAJobOnTheSameFolderWithTheSameBits) {
  constexpr int kSteps = 30'000;
  std::string undisturbed;
  {
    const TemporaryFolder folder;
    Running running(OptionsFor(folder));
    undisturbed = MaskOf(WatchToTheEnd(running, running.Create(GdJob(running, kSteps)).name()));
  }
  const TemporaryFolder folder;
  std::string name;
  int64_t last = 0;
  {
    Running running(OptionsFor(folder));
    name = running.Create(GdJob(running, kSteps)).name();
    last = WatchUntil(running, name, [](const v1::JobEvent& event) {
             return event.has_progress();
           }).sequence();
    EXPECT_TRUE(running.server->Drain(absl::Minutes(1)));
  }
  Running running(OptionsFor(folder));
  const v1::Job ended = WatchToTheEnd(running, name);
  EXPECT_EQ(ended.state(), v1::SUCCEEDED);
  EXPECT_EQ(ended.attempt(), 2);
  EXPECT_EQ(MaskOf(ended), undisturbed);
  EXPECT_GT(last, 0);
}

TEST(Server, EndsAWatchWithUnavailableWhenItDrains) {
  const TemporaryFolder folder;
  Running running(OptionsFor(folder));
  const std::string name = running.Create(GdJob(running, 1'000'000)).name();
  grpc::ClientContext context;
  v1::WatchJobRequest request;
  request.set_name(name);
  const auto stream = running.stub->WatchJob(&context, request);
  v1::JobEvent event;
  ASSERT_TRUE(stream->Read(&event));
  EXPECT_TRUE(running.server->Drain(absl::Minutes(1)));
  while (stream->Read(&event)) {
  }
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
}

// A call of a service whose messages are not compiled in here.
grpc::Status RawCall(grpc::Channel& channel, const char* method, const std::string& request,
                     std::string* response) {
  grpc::ClientContext context;
  const grpc::Slice slice(request);
  grpc::ByteBuffer request_bytes(&slice, 1), response_bytes;
  const grpc::Status status = grpc::internal::BlockingUnaryCall<grpc::ByteBuffer, grpc::ByteBuffer>(
      &channel, grpc::internal::RpcMethod(method, grpc::internal::RpcMethod::NORMAL_RPC), &context,
      request_bytes, &response_bytes);
  grpc::Slice joined;
  if (response_bytes.DumpToSingleSlice(&joined).ok()) {
    response->assign(reinterpret_cast<const char*>(joined.begin()), joined.size());
  }
  return status;
}

TEST(Server, AnswersHealthChecksOfItselfAndItsServices) {
  const TemporaryFolder folder;
  Running running(OptionsFor(folder));
  const std::string serving = {8, 1};  // HealthCheckResponse{status: SERVING}
  std::string response;
  const char method[] = "/grpc.health.v1.Health/Check";
  ASSERT_TRUE(RawCall(*running.channel, method, "", &response).ok());
  EXPECT_EQ(response, serving);
  for (const std::string name :
       {"attnprune.v1.PruneService", "attnprune.v1.TensorService", "ready", "live"}) {
    const std::string request = std::string("\x0A") + static_cast<char>(name.size()) + name;
    ASSERT_TRUE(RawCall(*running.channel, method, request, &response).ok()) << name;
    EXPECT_EQ(response, serving) << name;
  }
  EXPECT_EQ(RawCall(*running.channel, method, "\x0A\x01x", &response).error_code(),
            grpc::StatusCode::NOT_FOUND);
}

TEST(Server, ListsItsServicesByReflection) {
  const TemporaryFolder folder;
  Running running(OptionsFor(folder));
  grpc::ClientContext context;
  const grpc::Slice slice(std::string("\x3A\x00", 2));  // ServerReflectionRequest{list_services}
  grpc::ByteBuffer request(&slice, 1), response;
  grpc::internal::RpcMethod method("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
                                   grpc::internal::RpcMethod::BIDI_STREAMING);
  using Factory = grpc::internal::ClientReaderWriterFactory<grpc::ByteBuffer, grpc::ByteBuffer>;
  const std::unique_ptr<grpc::ClientReaderWriter<grpc::ByteBuffer, grpc::ByteBuffer>> stream(
      Factory::Create(running.channel.get(), method, &context));
  ASSERT_TRUE(stream->Write(request));
  ASSERT_TRUE(stream->Read(&response));
  grpc::Slice joined;
  ASSERT_TRUE(response.DumpToSingleSlice(&joined).ok());
  const std::string text(reinterpret_cast<const char*>(joined.begin()), joined.size());
  EXPECT_THAT(text, HasSubstr("attnprune.v1.PruneService"));
  EXPECT_THAT(text, HasSubstr("attnprune.v1.TensorService"));
  EXPECT_THAT(text, HasSubstr("grpc.health.v1.Health"));
  context.TryCancel();
}

TEST(Server, UnpacksNoCompressedMessage) {
  const TemporaryFolder folder;
  const Running running(OptionsFor(folder));
  grpc::ClientContext context;
  context.set_compression_algorithm(GRPC_COMPRESS_GZIP);
  v1::GetJobRequest request;
  request.set_name(std::string(1 << 20, 'j'));
  v1::Job job;
  const grpc::Status status = running.stub->GetJob(&context, request, &job);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNIMPLEMENTED);
  EXPECT_THAT(status.error_message(), HasSubstr("gzip"));
}

TEST(Server, RefusesASecondServerOnItsFolder) {
  const TemporaryFolder folder;
  Running running(OptionsFor(folder));
  EXPECT_EQ(Server::Start(OptionsFor(folder)).status().code(),
            absl::StatusCode::kFailedPrecondition);
}

TEST(Server, SaysWhyItCannotListen) {
  const TemporaryFolder folder, other;
  Running running(OptionsFor(folder));
  ServerOptions options = OptionsFor(other);
  options.listen = running.server->address();
  const absl::Status taken = Server::Start(options).status();
  EXPECT_EQ(taken.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(taken.message()), HasSubstr("Address already in use"));
  options.listen = "nowhere.invalid:0";
  options.allow_unauthenticated_network = true;
  EXPECT_EQ(Server::Start(options).status().code(), absl::StatusCode::kUnavailable);
}

TEST(Server, ListensForHttpOnlyWhenAsked) {
  const TemporaryFolder folder, other;
  Running without(OptionsFor(folder));
  EXPECT_EQ(without.server->http_port(), 0);
  ServerOptions options = OptionsFor(other);
  options.http_listen = "127.0.0.1:0";
  Running with(options);
  EXPECT_GT(with.server->http_port(), 0);
}

TEST(Server, CannotStartWhereHttpIsTakenUnlessItMayDoWithout) {
  const TemporaryFolder folder, other;
  ServerOptions options = OptionsFor(folder);
  options.http_listen = "127.0.0.1:0";
  Running running(options);
  ServerOptions second = OptionsFor(other);
  second.http_listen = running.server->http_address();
  EXPECT_EQ(Server::Start(second).status().code(), absl::StatusCode::kUnavailable);
  second.http_optional = true;
  const auto started = Server::Start(second);
  ASSERT_TRUE(started.ok()) << started.status();
  EXPECT_EQ((*started)->http_port(), 0);
}

TEST(Server, RefusesADamagedDatabaseAndLeavesItAsItIs) {
  const TemporaryFolder folder;
  const std::string database = folder.path() + "/jobs.sqlite3";
  std::ofstream(database) << "this is no database, and it is long enough to be looked at closely";
  const auto size = std::filesystem::file_size(database);
  const absl::Status status = Server::Start(OptionsFor(folder)).status();
  EXPECT_THAT(status.code(),
              ::testing::AnyOf(absl::StatusCode::kDataLoss, absl::StatusCode::kFailedPrecondition));
  EXPECT_EQ(std::filesystem::file_size(database), size);
}

TEST(CheckedOptions, NamesTheOptionTheRuleAndTheValue) {
  struct Row {
    const char* field;
    void (*spoil)(ServerOptions&);
  };
  const Row rows[] = {
      {"data_dir", [](ServerOptions& o) { o.data_dir.clear(); }},
      {"listen", [](ServerOptions& o) { o.listen = "127.0.0.1:99999"; }},
      {"listen", [](ServerOptions& o) { o.listen = "127.0.0.1"; }},
      {"listen", [](ServerOptions& o) { o.listen = ":80x"; }},
      {"listen", [](ServerOptions& o) { o.listen = "0.0.0.0:50051"; }},
      {"listen", [](ServerOptions& o) { o.listen = "[::]:50051"; }},
      {"http_listen", [](ServerOptions& o) { o.http_listen = "10.0.0.1:8080"; }},
      {"http_listen", [](ServerOptions& o) { o.http_listen = "8080"; }},
      {"http_host", [](ServerOptions& o) { o.http_hosts = {"proxy.example:8443"}; }},
      {"http_host",
       [](ServerOptions& o) {
         o.http_hosts = {"a", "a b"};
       }},
      {"http_host", [](ServerOptions& o) { o.http_hosts = {""}; }},
      {"http_host", [](ServerOptions& o) { o.http_hosts = {"a..b"}; }},
      {"http_host", [](ServerOptions& o) { o.http_hosts = {"https://a"}; }},
      {"http_host", [](ServerOptions& o) { o.http_hosts = {"bücher.example"}; }},
      {"http_host", [](ServerOptions& o) { o.http_hosts = {std::string(64, 'a')}; }},
      {"tls_key_file", [](ServerOptions& o) { o.tls_cert_file = "server.crt"; }},
      {"tls_cert_file", [](ServerOptions& o) { o.tls_key_file = "server.key"; }},
      {"tls_client_ca_file", [](ServerOptions& o) { o.tls_client_ca_file = "clients.crt"; }},
      {"store", [](ServerOptions& o) { o.store = "host=localhost dbname=jobs"; }},
      {"store_password_file", [](ServerOptions& o) { o.store_password_file = "secret"; }},
      {"store_connections", [](ServerOptions& o) { o.store_connections = 0; }},
      {"blobs", [](ServerOptions& o) { o.blobs = "file:///shared"; }},  // without store
      {"blobs",
       [](ServerOptions& o) {
         o.store = "postgresql://host/jobs";
         o.blobs = "s3://bucket?key=secret";
       }},
      {"blobs_credentials_file",
       [](ServerOptions& o) {
         o.store = "postgresql://host/jobs";
         o.blobs = "file:///shared";
         o.blobs_credentials_file = "keys";
       }},
      {"blobs_credentials_file", [](ServerOptions& o) { o.blobs_credentials_file = "keys"; }},
      {"blob_cache_bytes", [](ServerOptions& o) { o.blob_cache_bytes = -1; }},
      {"workers", [](ServerOptions& o) { o.workers = 0; }},
      {"threads_per_job", [](ServerOptions& o) { o.threads_per_job = -1; }},
      {"max_queued_jobs", [](ServerOptions& o) { o.max_queued_jobs = 0; }},
      {"max_tensor_bytes", [](ServerOptions& o) { o.max_tensor_bytes = 0; }},
      {"max_total_bytes", [](ServerOptions& o) { o.max_total_bytes = -5; }},
      {"max_job_memory_bytes", [](ServerOptions& o) { o.max_job_memory_bytes = -1; }},
      {"max_message_bytes", [](ServerOptions& o) { o.max_message_bytes = 1; }},
      {"max_chunk_bytes", [](ServerOptions& o) { o.max_chunk_bytes = o.max_message_bytes; }},
      {"checkpoint_interval", [](ServerOptions& o) { o.checkpoint_interval = absl::Seconds(-1); }},
      {"progress_interval", [](ServerOptions& o) { o.progress_interval = absl::ZeroDuration(); }},
      {"lease", [](ServerOptions& o) { o.lease = absl::ZeroDuration(); }},
      {"heartbeat", [](ServerOptions& o) { o.heartbeat = absl::InfiniteDuration(); }},
      {"tensor_grace", [](ServerOptions& o) { o.tensor_grace = absl::ZeroDuration(); }},
      {"collect_interval", [](ServerOptions& o) { o.collect_interval = absl::ZeroDuration(); }},
  };
  for (const Row& row : rows) {
    ServerOptions options;
    options.data_dir = "somewhere";
    row.spoil(options);
    EXPECT_EQ(FieldAtFault(CheckedOptions(options, {.cores = 4}).status()), row.field);
  }
}

TEST(CheckedOptions, TakesNamesAndAddressesForHosts) {
  ServerOptions options;
  options.data_dir = "somewhere";
  options.http_hosts = {"proxy.example", "attnprune", "my_server-1", "192.0.2.1", "::1"};
  EXPECT_TRUE(CheckedOptions(options, {.cores = 4}).ok());
}

TEST(CheckedOptions, LeavesLoopbackOnlyUnderAFlagThatIsNamed) {
  ServerOptions options;
  options.data_dir = "somewhere";
  options.listen = "0.0.0.0:50051";
  options.http_listen = "0.0.0.0:8080";
  EXPECT_THAT(std::string(CheckedOptions(options, {.cores = 4}).status().message()),
              HasSubstr("--allow-unauthenticated-network"));
  options.allow_unauthenticated_network = true;
  EXPECT_TRUE(CheckedOptions(options, {.cores = 4}).ok());
}

TEST(MayFaceTheNetwork, WithTlsAndTokensOrWhereAFlagAllowsIt) {
  EXPECT_FALSE(MayFaceTheNetwork({}));
  EXPECT_FALSE(MayFaceTheNetwork({.tls = true}));
  EXPECT_FALSE(MayFaceTheNetwork({.tokens = true}));
  EXPECT_TRUE(MayFaceTheNetwork({.tls = true, .tokens = true}));
  EXPECT_TRUE(MayFaceTheNetwork({.allowed = true}));
}

TEST(CheckedOptions, SharesTheMachineAmongTheWorkers) {
  ServerOptions options;
  options.data_dir = "somewhere";
  options.workers = 3;
  const auto checked = CheckedOptions(options, {.cores = 8, .memory_bytes = 3000});
  ASSERT_TRUE(checked.ok());
  EXPECT_EQ(checked->threads_per_job, 2);
  EXPECT_EQ(checked->max_job_memory_bytes, 1000);
  options.workers = 16;
  EXPECT_EQ(CheckedOptions(options, {.cores = 8})->threads_per_job, 1);
}

TEST(CheckedOptions, LeavesOpenFilesToTheRestOfTheServer) {
  ServerOptions options;
  options.data_dir = "somewhere";
  const auto connections = [&](int64_t open_files) {
    return CheckedOptions(options, {.open_files = open_files})->max_http_connections;
  };
  EXPECT_EQ(connections(1'000'000), 2000);
  EXPECT_EQ(connections(2000), 1488);
  EXPECT_EQ(connections(1024), 512);
  EXPECT_EQ(connections(100), 50);
  options.tls_cert_file = options.tls_key_file = "server.pem";
  EXPECT_EQ(connections(1'000'000), 2000);
  EXPECT_EQ(CheckedOptions(options, {.memory_bytes = int64_t{300} << 20, .open_files = 4096})
                ->max_http_connections,
            600);
  options.max_http_connections = 7;
  EXPECT_EQ(connections(100), 7);
}

}  // namespace
}  // namespace attnprune::rpc
