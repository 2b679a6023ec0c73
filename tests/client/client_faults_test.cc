// The client against servers that fail in ways a test decides: which calls are tried again, what is
// sent twice, what a watcher sees.
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "attnprune/v1/prune_service.grpc.pb.h"
#include "attnprune/v1/tensor_service.grpc.pb.h"
#include "client/library/client.h"
#include "core/io/sha256.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace attnprune::client {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::SizeIs;

constexpr int64_t kChunk = 1000;

grpc::Status Error(grpc::StatusCode code) { return grpc::Status(code, "as the test wants"); }

// Answers each call with the next code of `codes`, then with OK. One client thread at a time.
class FaultyJobs final : public v1::PruneService::Service {
 public:
  std::deque<grpc::StatusCode> codes;
  std::vector<std::string> request_ids;
  int calls = 0;
  // One list of events a watch, and how that watch ends.
  struct Stream {
    std::vector<v1::JobEvent> events;
    grpc::StatusCode end;
  };
  std::deque<Stream> streams;
  std::vector<int64_t> watched_after;

  grpc::Status GetJob(grpc::ServerContext*, const v1::GetJobRequest*, v1::Job*) override {
    return Next();
  }
  grpc::Status DeleteJob(grpc::ServerContext*, const v1::DeleteJobRequest*,
                         google::protobuf::Empty*) override {
    return Next();
  }
  grpc::Status CreateJob(grpc::ServerContext*, const v1::CreateJobRequest* request,
                         v1::Job*) override {
    request_ids.push_back(request->request_id());
    return Next();
  }
  grpc::Status GetServerInfo(grpc::ServerContext*, const v1::GetServerInfoRequest*,
                             v1::ServerInfo* info) override {
    info->mutable_limits()->set_max_chunk_bytes(kChunk);
    return grpc::Status::OK;
  }
  grpc::Status WatchJob(grpc::ServerContext*, const v1::WatchJobRequest* request,
                        grpc::ServerWriter<v1::JobEvent>* writer) override {
    watched_after.push_back(request->after_sequence());
    if (streams.empty()) return Error(grpc::StatusCode::INTERNAL);
    const Stream stream = streams.front();
    streams.pop_front();
    for (const v1::JobEvent& event : stream.events) writer->Write(event);
    return stream.end == grpc::StatusCode::OK ? grpc::Status::OK : Error(stream.end);
  }

 private:
  grpc::Status Next() {
    ++calls;
    if (codes.empty()) return grpc::Status::OK;
    const grpc::StatusCode code = codes.front();
    codes.pop_front();
    return code == grpc::StatusCode::OK ? grpc::Status::OK : Error(code);
  }
};

// Keeps one upload and breaks its streams after so many bytes each; `cuts` used up: no more.
class FaultyTensors final : public v1::TensorService::Service {
 public:
  std::deque<size_t> cuts;           // of uploads: bytes received in a stream before it breaks
  std::deque<size_t> download_cuts;  // the same for downloads
  std::deque<grpc::StatusCode> cut_codes;  // of uploads; used up: UNAVAILABLE
  std::string committed;
  size_t received = 0, sent = 0;
  bool spoil = false;  // downloads

  grpc::Status FindMissingTensors(grpc::ServerContext*,
                                  const v1::FindMissingTensorsRequest* request,
                                  v1::FindMissingTensorsResponse* response) override {
    for (const std::string& digest : request->sha256()) {
      if (Sha256Of(committed) != digest) response->add_missing(digest);
    }
    return grpc::Status::OK;
  }
  grpc::Status QueryUpload(grpc::ServerContext*, const v1::QueryUploadRequest*,
                           v1::QueryUploadResponse* response) override {
    response->set_committed_bytes(static_cast<int64_t>(committed.size()));
    return grpc::Status::OK;
  }
  grpc::Status UploadTensor(grpc::ServerContext*,
                            grpc::ServerReader<v1::UploadTensorRequest>* reader,
                            v1::UploadTensorResponse*) override {
    v1::UploadTensorRequest message;
    reader->Read(&message);
    if (message.header().offset() != static_cast<int64_t>(committed.size())) {
      return Error(grpc::StatusCode::OUT_OF_RANGE);
    }
    size_t here = 0;
    while (reader->Read(&message)) {
      here += message.data().size();
      received += message.data().size();
      if (!cuts.empty() && here >= cuts.front()) return Cut();  // this chunk is lost
      committed += message.data();
    }
    return grpc::Status::OK;
  }
  grpc::Status DownloadTensor(grpc::ServerContext*, const v1::DownloadTensorRequest* request,
                              grpc::ServerWriter<v1::DownloadTensorResponse>* writer) override {
    v1::DownloadTensorResponse message;
    size_t here = 0;
    for (size_t at = static_cast<size_t>(request->offset()); at < committed.size(); at += kChunk) {
      if (!download_cuts.empty() && here >= download_cuts.front()) {
        download_cuts.pop_front();
        return Error(grpc::StatusCode::UNAVAILABLE);
      }
      message.set_data(committed.substr(at, kChunk));
      here += message.data().size();
      sent += message.data().size();
      if (spoil) message.mutable_data()->at(0) ^= 1;
      writer->Write(message);
    }
    return grpc::Status::OK;
  }

 private:
  grpc::Status Cut() {
    cuts.pop_front();
    if (cut_codes.empty()) return Error(grpc::StatusCode::UNAVAILABLE);
    const grpc::StatusCode code = cut_codes.front();
    cut_codes.pop_front();
    return Error(code);
  }
};

class FaultyServer : public ::testing::Test {
 protected:
  FaultyServer() {
    int port = 0;
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(&jobs_);
    builder.RegisterService(&tensors_);
    server_ = builder.BuildAndStart();
    ClientOptions options;
    options.server = "127.0.0.1:" + std::to_string(port);
    options.sleep = [this](absl::Duration wait) {
      waits_.push_back(wait);
      return true;
    };
    client_ = *Client::Create(options);
  }
  ~FaultyServer() override { server_->Shutdown(); }

  FaultyJobs jobs_;
  FaultyTensors tensors_;
  std::vector<absl::Duration> waits_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<Client> client_;
};

using ClientFaults = FaultyServer;

TEST_F(ClientFaults, TriesAgainWhatIsUnavailableWithGrowingWaits) {
  jobs_.codes = {grpc::StatusCode::UNAVAILABLE, grpc::StatusCode::UNAVAILABLE,
                 grpc::StatusCode::UNAVAILABLE};
  EXPECT_TRUE(client_->GetJob("jobs/x").ok());
  EXPECT_EQ(jobs_.calls, 4);
  ASSERT_THAT(waits_, SizeIs(3));
  EXPECT_LT(waits_[0], waits_[1]);
  EXPECT_LT(waits_[1], waits_[2]);
}

TEST_F(ClientFaults, TriesNothingElseAgain) {
  for (int code = 1; code <= 16; ++code) {
    if (code == grpc::StatusCode::UNAVAILABLE || code == grpc::StatusCode::CANCELLED) continue;
    jobs_.calls = 0;
    jobs_.codes = {static_cast<grpc::StatusCode>(code)};
    EXPECT_EQ(static_cast<int>(client_->GetJob("jobs/x").status().code()), code);
    EXPECT_EQ(jobs_.calls, 1) << "code " << code;
  }
}

// gRPC answers so what arrives while a server shuts down; it ended watches as if by Ctrl-C.
TEST_F(ClientFaults, TakesACancelThatNobodyAskedForAsAServerThatShutsDown) {
  jobs_.codes = {grpc::StatusCode::CANCELLED};
  EXPECT_TRUE(client_->GetJob("jobs/x").ok());
  EXPECT_EQ(jobs_.calls, 2);
}

TEST_F(ClientFaults, GivesUpWhenItsPatienceIsUsedUp) {
  jobs_.codes.assign(1000, grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(client_->GetJob("jobs/x").status().code(), absl::StatusCode::kUnavailable);
  absl::Duration waited;
  for (const absl::Duration wait : waits_) waited += wait;
  EXPECT_EQ(waited, RetryOptions().patience);
}

TEST_F(ClientFaults, CreatesUnderOneRequestIdHoweverOftenItTries) {
  jobs_.codes = {grpc::StatusCode::UNAVAILABLE, grpc::StatusCode::UNAVAILABLE};
  EXPECT_TRUE(client_->CreateJob({}).ok());
  ASSERT_THAT(jobs_.request_ids, SizeIs(3));
  EXPECT_THAT(jobs_.request_ids, Each(jobs_.request_ids.front()));
  EXPECT_THAT(jobs_.request_ids.front(), SizeIs(32));
  EXPECT_TRUE(client_->CreateJob({}).ok());
  EXPECT_NE(jobs_.request_ids.back(), jobs_.request_ids.front()) << "another job";
}

TEST_F(ClientFaults, CountsAJobAsDeletedThatALostFirstTryHasDeleted) {
  jobs_.codes = {grpc::StatusCode::UNAVAILABLE, grpc::StatusCode::NOT_FOUND};
  EXPECT_TRUE(client_->DeleteJob("jobs/x").ok());
  jobs_.codes = {grpc::StatusCode::NOT_FOUND};
  EXPECT_EQ(client_->DeleteJob("jobs/x").code(), absl::StatusCode::kNotFound);
}

LocalTensor TensorOf(const std::string& bytes) {
  v1::TensorRef ref;
  ref.set_dtype(v1::BITMASK);
  return MakeLocalTensor(ref, bytes);
}

std::string Bytes(size_t count) {
  std::string bytes;
  for (size_t i = 0; i < count; ++i) bytes += static_cast<char>(i * i / 7);
  return bytes;
}

// In flow control's window more chunks may be under way than the server has read; they are small
// here, so what counts is what the server has received.
TEST_F(ClientFaults, ResumesABrokenUploadWhereTheServerStands) {
  const std::string bytes = Bytes(10'500);
  tensors_.cuts = {3500, 1, 4200};  // the third stream gets that far
  ASSERT_TRUE(client_->Upload({TensorOf(bytes)}).ok());
  EXPECT_EQ(tensors_.committed, bytes);
  EXPECT_TRUE(tensors_.cuts.empty());
  EXPECT_LE(tensors_.received, bytes.size() + 3 * kChunk) << "one chunk a break is sent again";
}

TEST_F(ClientFaults, WaitsForAnotherStreamOfTheSameUploadAndLooksAgainWhenItWasPassed) {
  const std::string bytes = Bytes(5000);
  tensors_.cuts = {1, 1};
  tensors_.cut_codes = {grpc::StatusCode::ABORTED, grpc::StatusCode::OUT_OF_RANGE};
  EXPECT_TRUE(client_->Upload({TensorOf(bytes)}).ok());
  EXPECT_EQ(tensors_.committed, bytes);
}

TEST_F(ClientFaults, HandsOnWhyAnUploadIsRefused) {
  tensors_.cuts = {1};
  tensors_.cut_codes = {grpc::StatusCode::RESOURCE_EXHAUSTED};
  EXPECT_EQ(client_->Upload({TensorOf(Bytes(5000))}).status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(waits_, SizeIs(0));
}

TEST_F(ClientFaults, SendsNothingThatIsThere) {
  tensors_.committed = Bytes(5000);
  const auto progress = client_->Upload({TensorOf(tensors_.committed)});
  ASSERT_TRUE(progress.ok());
  EXPECT_EQ(progress->sent_bytes, 0);
  EXPECT_EQ(tensors_.received, 0u);
}

TEST_F(ClientFaults, ResumesABrokenDownload) {
  tensors_.committed = Bytes(10'500);
  tensors_.download_cuts = {2000, 5000};
  const auto bytes = client_->Download(Sha256Of(tensors_.committed));
  ASSERT_TRUE(bytes.ok()) << bytes.status();
  EXPECT_EQ(*bytes, tensors_.committed);
  EXPECT_EQ(tensors_.sent, tensors_.committed.size());
}

TEST_F(ClientFaults, RefusesADownloadOfAnotherDigest) {
  tensors_.committed = Bytes(2500);
  tensors_.spoil = true;
  EXPECT_EQ(client_->Download(Sha256Of(tensors_.committed)).status().code(),
            absl::StatusCode::kDataLoss);
}

v1::JobEvent Event(int64_t sequence) {
  v1::JobEvent event;
  event.set_sequence(sequence);
  event.mutable_progress()->set_step(static_cast<int>(sequence));
  return event;
}
v1::JobEvent Heartbeat() {
  v1::JobEvent event;
  event.mutable_heartbeat();
  return event;
}
v1::JobEvent Terminal(int64_t sequence) {
  v1::JobEvent event;
  event.set_sequence(sequence);
  event.mutable_terminal()->set_state(v1::SUCCEEDED);
  return event;
}

TEST_F(ClientFaults, HandsOnHeartbeatsThatSayWhatTheJobWaitsFor) {
  v1::JobEvent waiting = Heartbeat();
  waiting.mutable_heartbeat()->mutable_waiting()->set_ahead(2);
  jobs_.streams = {{{Event(1), Heartbeat(), waiting, waiting, Terminal(2)}, grpc::StatusCode::OK}};
  std::vector<std::string> seen;
  const auto job = client_->Watch("jobs/x", 0, [&](const v1::JobEvent& event) {
    seen.push_back(absl::StrCat(event.sequence(), " ", event.heartbeat().waiting().ahead()));
    return true;
  });
  ASSERT_TRUE(job.ok()) << job.status();
  EXPECT_THAT(seen, ElementsAre("1 0", "0 2", "0 2", "2 0"));
}

TEST_F(ClientFaults, ShowsEveryEventOnceThroughBrokenWatches) {
  jobs_.streams = {{{Event(1), Heartbeat(), Event(3)}, grpc::StatusCode::UNAVAILABLE},
                   {{}, grpc::StatusCode::UNAVAILABLE},
                   {{Event(2), Event(3), Event(4)}, grpc::StatusCode::UNAVAILABLE},
                   {{Heartbeat(), Terminal(7)}, grpc::StatusCode::OK}};
  std::vector<int64_t> seen;
  const auto job = client_->Watch("jobs/x", 0, [&](const v1::JobEvent& event) {
    seen.push_back(event.sequence());
    return true;
  });
  ASSERT_TRUE(job.ok()) << job.status();
  EXPECT_EQ(job->state(), v1::SUCCEEDED);
  EXPECT_THAT(seen, ElementsAre(1, 3, 4, 7));
  EXPECT_THAT(jobs_.watched_after, ElementsAre(0, 3, 3, 4));
}

v1::JobEvent RunTerminal(int64_t sequence, v1::JobState state) {
  v1::JobEvent event;
  event.set_sequence(sequence);
  event.mutable_run_terminal()->set_state(state);
  return event;
}

TEST_F(ClientFaults, FollowsAResumedRunToItsNextEnd) {
  jobs_.streams = {
      // Resumed by the time of the watch, then cut off behind an end that is no longer the last.
      {{Event(1), RunTerminal(2, v1::RUNNING)}, grpc::StatusCode::OK},
      {{RunTerminal(3, v1::FAILED), Event(4)}, grpc::StatusCode::UNAVAILABLE},
      {{RunTerminal(5, v1::SUCCEEDED)}, grpc::StatusCode::OK}};
  const auto run = client_->WatchRun("runs/r-x", 0, [](const v1::JobEvent&) { return true; });
  ASSERT_TRUE(run.ok()) << run.status();
  EXPECT_EQ(run->state(), v1::SUCCEEDED);
  EXPECT_THAT(jobs_.watched_after, ElementsAre(0, 2, 4));
}

TEST_F(ClientFaults, EndsAWatchThatIsRefusedOrStopped) {
  jobs_.streams = {{{Event(1)}, grpc::StatusCode::NOT_FOUND}};
  const auto go_on = [](const v1::JobEvent&) { return true; };
  EXPECT_EQ(client_->Watch("jobs/x", 0, go_on).status().code(), absl::StatusCode::kNotFound);
  jobs_.streams = {{{Event(1), Event(2), Terminal(3)}, grpc::StatusCode::OK}};
  int seen = 0;
  const auto stop = [&](const v1::JobEvent&) { return ++seen < 2; };
  EXPECT_EQ(client_->Watch("jobs/x", 0, stop).status().code(), absl::StatusCode::kCancelled);
  EXPECT_EQ(seen, 2);
}

TEST_F(ClientFaults, DoesNotBlockOnAServerThatIsGone) {
  server_->Shutdown();
  EXPECT_EQ(client_->GetJob("jobs/x").status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(client_->CheckHealth().code(), absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace attnprune::client
