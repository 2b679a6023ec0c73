// /metrics of a whole server: jobs, solving and calls of both ports are counted.
#include <grpcpp/grpcpp.h>

#include <cstdlib>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "attnprune/v1/prune_service.grpc.pb.h"
#include "core/kernels/blas.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/server.h"
#include "tests/server/api/jobs_for_tests.h"
#include "tests/server/api/temporary_folder.h"
#include "tests/server/grpc/remote_tensors.h"
#include "tests/server/http/http_client.h"

namespace attnprune::http {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;

class ServerMetricsTest : public ::testing::Test {
 protected:
  ServerMetricsTest() {
    static const bool blas = InitializeBlas().ok();
    EXPECT_TRUE(blas);
    Start();
  }

  void Start() {
    ServerOptions options;
    options.listen = options.http_listen = "127.0.0.1:0";
    options.data_dir = folder_.path();
    options.threads_per_job = 1;
    options.checkpoint_interval = absl::Milliseconds(10);
    auto started = Server::Start(options);
    if (!started.ok()) std::abort();
    server_ = *std::move(started);
    channel_ = grpc::CreateChannel(server_->address(), grpc::InsecureChannelCredentials());
    stub_ = v1::PruneService::NewStub(channel_);
  }

  v1::Job Create(int steps) {
    v1::CreateJobRequest request;
    v1::Job& job = *request.mutable_job();
    job = api::LayerJob();
    job.mutable_methods(0)->set_name("gd");
    (*job.mutable_methods(0)->mutable_parameters())["steps"] = steps;
    rpc::UploadTensors(job, channel_);
    grpc::ClientContext context;
    v1::Job created;
    const grpc::Status status = stub_->CreateJob(&context, request, &created);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return created;
  }

  // Reads events until `done` says so or the stream ends.
  template <typename Done>
  void Watch(const v1::Job& job, Done done) {
    HttpClient client(server_->http_port());
    EXPECT_EQ(client.Open(absl::StrCat("/api/v1/", job.name(), "/events")).status, 200);
    while (absl::optional<ReceivedEvent> event = client.Next()) {
      if (done(event->data)) return;
    }
  }

  std::string Scrape() {
    HttpClient client(server_->http_port());
    const Received received = client.Get("/metrics");
    EXPECT_EQ(received.status, 200);
    return received.body;
  }

  // A call, and a job's end, are counted when they are over here, which may be after the client is
  // told.
  void AwaitSample(const std::string& sample) {
    SCOPED_TRACE(sample);
    WaitFor([&] { return Scrape().find(sample) != std::string::npos; });
  }

  const TemporaryFolder folder_;
  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::PruneService::Stub> stub_;
};

TEST_F(ServerMetricsTest, CountAJobFromItsCreationToItsEnd) {
  const v1::Job job = Create(200);
  Watch(job, [](const std::string&) { return false; });
  for (const char* sample :
       {"attnprune_jobs_created_total 1\n", "attnprune_jobs{state=\"succeeded\"} 1\n",
        "attnprune_jobs{state=\"queued\"} 0\n",
        "attnprune_jobs_finished_total{state=\"succeeded\"} 1\n",
        "attnprune_queue_wait_seconds_count 1\n", "attnprune_job_run_seconds_count 1\n",
        "attnprune_solver_steps_total{method=\"gd\"} 200\n",
        "attnprune_solver_step_seconds_count{method=\"gd\"} 200\n",
        "{method=\"gd\",outcome=\"completed\"} 1\n",
        "{rpc=\"attnprune.v1.PruneService/CreateJob\",code=\"OK\"} 1\n",
        "{route=\"events\",code=\"200\"} 1\n", "attnprune_job_store_up 1\n"}) {
    AwaitSample(sample);
  }
}

TEST_F(ServerMetricsTest, ShowWhatRunsBySlotAndNeverByJob) {
  const v1::Job job = Create(1'000'000);
  Watch(job,
        [](const std::string& data) { return data.find("calibrationError") != std::string::npos; });
  const std::string text = Scrape();
  const std::string slot = "{worker=\"0\",method=\"gd\"";
  for (const std::string& sample :
       {absl::StrCat("attnprune_running_attention_loss", slot, "} "),
        absl::StrCat("attnprune_running_relative_error", slot, ",data=\"calibration\"} "),
        absl::StrCat("attnprune_running_relative_error", slot, ",data=\"held_out\"} "),
        absl::StrCat("attnprune_running_checkpoint_age_seconds", slot, "} "),
        std::string("attnprune_worker_busy{worker=\"0\"} 1\n"),
        std::string("attnprune_jobs{state=\"running\"} 1\n")}) {
    EXPECT_THAT(text, HasSubstr(sample));
  }
  EXPECT_EQ(text.find(job.name().substr(5)), std::string::npos);
}

TEST_F(ServerMetricsTest, CountFailedAndUnknownCalls) {
  grpc::ClientContext context;
  v1::GetJobRequest request;
  request.set_name("jobs/none");
  v1::Job job;
  EXPECT_EQ(stub_->GetJob(&context, request, &job).error_code(), grpc::StatusCode::NOT_FOUND);
  AwaitSample("{rpc=\"attnprune.v1.PruneService/GetJob\",code=\"NOT_FOUND\"} 1\n");
}

TEST_F(ServerMetricsTest, KnowAfterARestartHowLongTheQueueWaits) {
  Create(1'000'000);
  const v1::Job waits = Create(1'000'000);
  const absl::Time made = absl::Now();
  server_.reset();
  Start();
  const absl::Time started = absl::Now();
  double oldest = 0;
  const std::string text = Scrape();
  const std::string name = "attnprune_queue_oldest_seconds ";
  const size_t at = text.find("\n" + name);
  ASSERT_NE(at, std::string::npos);
  ASSERT_TRUE(absl::SimpleAtod(
      text.substr(at + 1 + name.size(), text.find('\n', at + 1) - at - 1 - name.size()), &oldest));
  EXPECT_GE(oldest, absl::ToDoubleSeconds(started - made)) << waits.name();
}

// Every line is a comment or a sample; every sample's family was announced; none twice.
TEST_F(ServerMetricsTest, AreWellFormed) {
  Watch(Create(20), [](const std::string&) { return false; });
  std::set<std::string> families, samples;
  std::string family;
  for (const absl::string_view line : absl::StrSplit(Scrape(), '\n', absl::SkipEmpty())) {
    const std::vector<std::string> words = absl::StrSplit(line, ' ');
    if (words[0] == "#") {
      if (words[1] != "TYPE") continue;
      family = words[2];
      EXPECT_TRUE(families.insert(family).second) << line;
      continue;
    }
    EXPECT_THAT(std::string(line), MatchesRegex("[a-z_]+(\\{.*\\})? [-+0-9.eInfNa]+"));
    EXPECT_EQ(line.substr(0, family.size()), family) << line;
    EXPECT_TRUE(samples.insert(words[0]).second) << line;
  }
  EXPECT_GT(families.size(), 50U);
}

}  // namespace
}  // namespace attnprune::http
