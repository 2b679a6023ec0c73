// The client against the whole server in the process.
#include <cstring>
#include <memory>
#include <stop_token>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/library/client.h"
#include "client/library/status_details.h"
#include "core/base/field_error.h"
#include "core/io/sha256.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/server.h"
#include "tests/server/api/temporary_folder.h"

namespace attnprune::client {
namespace {

using ::testing::IsEmpty;
using ::testing::Not;

std::unique_ptr<Server> StartServer(const std::string& folder, int port) {
  ServerOptions options;
  options.listen = absl::StrCat("127.0.0.1:", port);
  options.data_dir = folder;
  options.threads_per_job = 1;
  options.checkpoint_interval = absl::Milliseconds(50);
  auto server = Server::Start(options);
  if (!server.ok()) {
    ADD_FAILURE() << server.status();
    std::abort();
  }
  return *std::move(server);
}

std::unique_ptr<Client> ClientOf(const std::string& address, std::stop_token interrupt = {}) {
  ClientOptions options;
  options.server = address;
  options.interrupt = std::move(interrupt);
  return *Client::Create(options);
}

// Floats in [-1, 1) as bytes.
std::string FloatBytes(size_t count, uint32_t seed) {
  std::string bytes(count * sizeof(float), '\0');
  for (size_t i = 0; i < count; ++i) {
    seed = seed * 1664525 + 1013904223;
    const float value = static_cast<float>(seed >> 8) / 0x1p23f - 1;
    memcpy(bytes.data() + i * sizeof(float), &value, sizeof(float));
  }
  return bytes;
}

// A fused job of d = 8 on 2 x `length` tokens, and its tensors.
struct SmallJob {
  explicit SmallJob(int steps, int length = 6)
      : weight(FloatBytes(64, 1)), tokens(FloatBytes(size_t{16} * length, 2)) {
    tensors.push_back(Tensor(weight, {8, 8}));
    tensors.push_back(Tensor(tokens, {2, length, 8}));
    *job.mutable_problem()->mutable_fused()->mutable_weight() = tensors[0].ref;
    *job.add_calibration() = tensors[1].ref;
    job.mutable_sparsity()->set_fraction(0.5);
    v1::Method& gd = *job.add_methods();
    gd.set_name("gd");
    (*gd.mutable_parameters())["steps"] = steps;
  }
  static LocalTensor Tensor(const std::string& bytes, std::initializer_list<int64_t> shape) {
    v1::TensorRef ref;
    ref.set_dtype(v1::F32);
    for (const int64_t extent : shape) ref.add_shape(extent);
    return MakeLocalTensor(ref, bytes);
  }
  v1::CreateJobRequest Request() const {
    v1::CreateJobRequest request;
    *request.mutable_job() = job;
    return request;
  }

  std::string weight, tokens;
  std::vector<LocalTensor> tensors;
  v1::Job job;
};

// A job that runs for minutes: it ends when it is cancelled.
SmallJob LongJob() { return SmallJob(1'000'000, 256); }

TEST(ClientAndServer, GoFromUploadToResult) {
  const TemporaryFolder folder;
  const auto server = StartServer(folder.path(), 0);
  const auto client = ClientOf(server->address());
  EXPECT_TRUE(client->CheckHealth().ok());
  const SmallJob small(20);
  const absl::Status early = client->CreateJob(small.Request()).status();
  EXPECT_EQ(early.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(MissingTensors(early), Not(IsEmpty()));

  ASSERT_TRUE(client->Upload(small.tensors).ok());
  const auto created = client->CreateJob(small.Request());
  ASSERT_TRUE(created.ok()) << created.status();
  const auto ended = client->Watch(created->name(), 0, [](const v1::JobEvent&) { return true; });
  ASSERT_TRUE(ended.ok()) << ended.status();
  EXPECT_EQ(ended->state(), v1::SUCCEEDED);
  const auto mask = client->Download(ended->results(0).matrices(0).mask().sha256());
  ASSERT_TRUE(mask.ok());
  EXPECT_EQ(mask->size(), 8u);
  EXPECT_TRUE(client->DeleteJob(created->name()).ok());
  EXPECT_EQ(client->GetJob(created->name()).status().code(), absl::StatusCode::kNotFound);
}

TEST(ClientAndServer, NameTheFieldAtFault) {
  const TemporaryFolder folder;
  const auto server = StartServer(folder.path(), 0);
  const auto client = ClientOf(server->address());
  const SmallJob small(20);
  ASSERT_TRUE(client->Upload(small.tensors).ok());
  v1::CreateJobRequest request = small.Request();
  request.mutable_job()->set_priority(5000);
  const absl::Status status = client->CreateJob(request).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(FieldAtFault(status), "job.priority");
}

TEST(ClientAndServer, ResumeAnUploadThatAnotherProcessBegan) {
  const TemporaryFolder folder;
  const auto server = StartServer(folder.path(), 0);
  const std::string bytes = FloatBytes(4 << 20, 3);  // 16 MiB
  const LocalTensor tensor = SmallJob::Tensor(bytes, {1 << 10, 1 << 12});
  std::stop_source interrupt;
  const auto first = ClientOf(server->address(), interrupt.get_token());
  const absl::Status stopped = first
                                   ->Upload({tensor},
                                            [&](const UploadProgress& progress) {
                                              if (progress.sent_bytes >= progress.total_bytes / 2)
                                                interrupt.request_stop();
                                            })
                                   .status();
  EXPECT_EQ(stopped.code(), absl::StatusCode::kCancelled);
  const auto second = ClientOf(server->address());
  const auto progress = second->Upload({tensor});
  ASSERT_TRUE(progress.ok()) << progress.status();
  EXPECT_LT(progress->sent_bytes, progress->total_bytes) << "it begins where the first one ended";
  EXPECT_EQ(second->Download(tensor.ref.sha256()).value(), bytes);
}

TEST(ClientAndServer, ShowEveryEventOnceThroughARestart) {
  const TemporaryFolder folder;
  auto server = StartServer(folder.path(), 0);
  const int port = server->port();
  const auto client = ClientOf(server->address());
  const SmallJob job = LongJob();
  ASSERT_TRUE(client->Upload(job.tensors).ok());
  const auto created = client->CreateJob(job.Request());
  ASSERT_TRUE(created.ok()) << created.status();
  int64_t last = 0;
  bool restarted = false, cancelled = false;
  const auto ended = client->Watch(created->name(), 0, [&](const v1::JobEvent& event) {
    EXPECT_GT(event.sequence(), last);
    last = event.sequence();
    if (event.has_progress() && !restarted) {
      restarted = true;
      server->Drain(absl::Minutes(1));
      server.reset();
      server = StartServer(folder.path(), port);
    }
    if (event.state_change().attempt() == 2 && !cancelled) {
      cancelled = true;
      EXPECT_TRUE(ClientOf(server->address())->CancelJob(created->name()).ok());
    }
    return true;
  });
  ASSERT_TRUE(ended.ok()) << ended.status();
  EXPECT_TRUE(restarted);
  EXPECT_EQ(ended->state(), v1::CANCELLED);
  EXPECT_EQ(ended->attempt(), 2);
}

TEST(ClientAndServer, ReplayWhatThereIsOfAJobThatGoesOn) {
  const TemporaryFolder folder;
  const auto server = StartServer(folder.path(), 0);
  const auto client = ClientOf(server->address());
  const SmallJob job = LongJob();
  ASSERT_TRUE(client->Upload(job.tensors).ok());
  const std::string name = client->CreateJob(job.Request())->name();
  int64_t seen = 0;
  (void)client->Watch(name, 0, [&](const v1::JobEvent& event) {
    seen = event.sequence();
    return !event.has_progress();
  });
  int64_t last = 0;
  const auto note = [&last](const v1::JobEvent& event) {
    EXPECT_GT(event.sequence(), last);
    EXPECT_FALSE(event.has_terminal());
    last = event.sequence();
    return true;
  };
  const auto running = client->Replay(name, note);
  ASSERT_TRUE(running.ok()) << running.status();
  EXPECT_EQ(running->state(), v1::RUNNING);
  EXPECT_GE(last, seen);
  ASSERT_TRUE(client->CancelJob(name).ok());
  (void)client->Watch(name, 0, [](const v1::JobEvent&) { return true; });
  bool terminal = false;
  const auto ended = client->Replay(name, [&terminal](const v1::JobEvent& event) {
    terminal = event.has_terminal();
    return true;
  });
  ASSERT_TRUE(ended.ok()) << ended.status();
  EXPECT_TRUE(terminal);
  EXPECT_EQ(ended->state(), v1::CANCELLED);
  EXPECT_EQ(client->Replay("jobs/none", note).status().code(), absl::StatusCode::kNotFound);
}

TEST(ClientAndServer, TellUnderWhichRequestACallWasRefused) {
  const TemporaryFolder folder;
  const auto server = StartServer(folder.path(), 0);
  ClientOptions options;
  options.server = server->address();
  options.request_id = "order/66";
  EXPECT_EQ(RequestIdOf((*Client::Create(options))->GetJob("jobs/none").status()), "order/66");
  options.request_id = "no such id \n";
  const auto client = *Client::Create(options);
  const std::string one = RequestIdOf(client->GetJob("jobs/none").status());
  const std::string two = RequestIdOf(client->GetJob("jobs/none").status());
  EXPECT_EQ(one.size(), 32u);
  EXPECT_NE(one, two);
}

TEST(ClientAndServer, LeaveAJobRunningWhenAWatchIsInterrupted) {
  const TemporaryFolder folder;
  const auto server = StartServer(folder.path(), 0);
  std::stop_source interrupt;
  const auto watcher = ClientOf(server->address(), interrupt.get_token());
  const SmallJob job = LongJob();
  ASSERT_TRUE(watcher->Upload(job.tensors).ok());
  const std::string name = watcher->CreateJob(job.Request())->name();
  const absl::Status stopped = watcher
                                   ->Watch(name, 0,
                                           [&](const v1::JobEvent& event) {
                                             if (event.has_progress()) interrupt.request_stop();
                                             return true;
                                           })
                                   .status();
  EXPECT_EQ(stopped.code(), absl::StatusCode::kCancelled);
  const auto client = ClientOf(server->address());
  EXPECT_EQ(client->GetJob(name)->state(), v1::RUNNING);
  EXPECT_TRUE(client->CancelJob(name).ok());
  EXPECT_EQ(client->Watch(name, 0, [](const v1::JobEvent&) { return true; })->state(),
            v1::CANCELLED);
}

TEST(ClientAndServer, EndAtOnceWhereTheWaitForAServerIsInterrupted) {
  std::stop_source interrupt;
  ClientOptions options;
  options.server = "127.0.0.1:1";  // nobody
  options.retry = {.first = absl::Hours(1), .longest = absl::Hours(1), .patience = absl::Hours(1)};
  options.interrupt = interrupt.get_token();
  const auto client = *Client::Create(options);
  const std::jthread stops([&interrupt] { interrupt.request_stop(); });
  EXPECT_EQ(client->GetServerInfo().status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(client->CheckHealth().code(), absl::StatusCode::kCancelled) << "and what comes later";
}

}  // namespace
}  // namespace attnprune::client
