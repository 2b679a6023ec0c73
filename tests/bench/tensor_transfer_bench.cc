// Upload and download of a tensor over loopback, in plain text and over TLS, against a bare gRPC
// stream of the same chunks that nobody stores or reads from a disk, alternating in one run. Each
// server is a process of its own, so that its memory can be told apart. Flags: --mib=512 --rounds=5
// --chunk_kib=1024 --folder=/tmp
#include <grpcpp/grpcpp.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "attnprune/v1/tensor_service.grpc.pb.h"
#include "core/base/clock.h"
#include "core/io/sha256.h"
#include "server/blobs/posix_blob_store.h"
#include "server/grpc/grpc_host.h"
#include "server/grpc/tensor_service.h"
#include "server/tls/live_credentials.h"
#include "tests/support/certificates.h"
#include "tests/support/timing.h"

namespace attnprune::rpc {
namespace {

using testing::Median;

struct Flags {
  int64_t mib = 512;
  int64_t rounds = 5;
  int64_t chunk_kib = 1024;
  std::string folder = "/tmp";
};

void Require(bool holds, const std::string& what) {
  if (holds) return;
  std::cerr << "tensor_transfer_bench: " << what << "\n";
  std::_Exit(1);
}

void Require(const grpc::Status& status) { Require(status.ok(), status.error_message()); }

// --- the bare stream ----------------------------------------------------------------------------

class BareUpload final : public grpc::ServerReadReactor<v1::UploadTensorRequest> {
 public:
  BareUpload() { StartRead(&request_); }
  void OnReadDone(bool ok) override { ok ? StartRead(&request_) : Finish(grpc::Status::OK); }
  void OnDone() override { delete this; }

 private:
  v1::UploadTensorRequest request_;
};

class BareDownload final : public grpc::ServerWriteReactor<v1::DownloadTensorResponse> {
 public:
  BareDownload(int64_t chunk, int64_t size) : left_(size / chunk) {
    response_.set_data(std::string(static_cast<size_t>(chunk), 'x'));
    StartWrite(&response_);
  }
  void OnWriteDone(bool ok) override {
    ok && --left_ > 0 ? StartWrite(&response_) : Finish(grpc::Status::OK);
  }
  void OnDone() override { delete this; }

 private:
  int64_t left_;
  v1::DownloadTensorResponse response_;
};

class BareService final : public v1::TensorService::CallbackService {
 public:
  explicit BareService(const Flags& flags) : flags_(flags) {}
  grpc::ServerReadReactor<v1::UploadTensorRequest>* UploadTensor(
      grpc::CallbackServerContext*, v1::UploadTensorResponse*) override {
    return new BareUpload();
  }
  grpc::ServerWriteReactor<v1::DownloadTensorResponse>* DownloadTensor(
      grpc::CallbackServerContext*, const v1::DownloadTensorRequest*) override {
    return new BareDownload(flags_.chunk_kib << 10, flags_.mib << 20);
  }

 private:
  const Flags flags_;
};

// --- servers in processes of their own ----------------------------------------------------------

class ServerProcess {
 public:
  // `start` starts a server in the child, for good, and returns its port.
  explicit ServerProcess(const std::function<int()>& start) {
    int ends[2];
    Require(pipe(ends) == 0, "cannot make a pipe");
    pid_ = fork();
    if (pid_ == 0) Serve(start(), ends[1]);
    Require(read(ends[0], &port_, sizeof(port_)) == sizeof(port_), "the server did not start");
    close(ends[0]);
    close(ends[1]);
  }
  ~ServerProcess() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;

  std::unique_ptr<v1::TensorService::Stub> Connect(
      const std::shared_ptr<grpc::ChannelCredentials>& credentials =
          grpc::InsecureChannelCredentials()) const {
    return v1::TensorService::NewStub(
        grpc::CreateChannel(absl::StrCat("127.0.0.1:", port_), credentials));
  }

  double StatusMib(const std::string& field) const {  // of /proc/PID/status, VmRSS or VmHWM
    std::ifstream status(absl::StrCat("/proc/", pid_, "/status"));
    std::string line;
    while (std::getline(status, line)) {
      if (absl::StartsWith(line, field)) return std::atof(line.c_str() + field.size() + 1) / 1024;
    }
    return 0;
  }
  double CpuSeconds() const {  // of all its threads so far: fields 14 and 15 of /proc/PID/stat
    std::ifstream stat(absl::StrCat("/proc/", pid_, "/stat"));
    std::string field;
    double ticks = 0;
    for (int i = 1; i <= 15 && stat >> field; ++i) ticks += i >= 14 ? std::atof(field.c_str()) : 0;
    return ticks / static_cast<double>(sysconf(_SC_CLK_TCK));
  }
  void ResetPeak() const { std::ofstream(absl::StrCat("/proc/", pid_, "/clear_refs")) << "5"; }

 private:
  [[noreturn]] static void Serve(int port, int report) {
    Require(write(report, &port, sizeof(port)) == sizeof(port), "cannot report the port");
    while (true) pause();
  }

  pid_t pid_ = -1;
  int port_ = 0;
};

// A server with gRPC's own settings.
int StartBare(const Flags& flags) {
  static const auto service = std::make_unique<BareService>(flags);
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(service.get());
  static const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  return port;
}

// attnprune's tensors as attnprune-server serves them; over TLS where there is an identity.
int StartReal(const std::string& folder, const testing::Identity& identity = {}) {
  static const RealClock clock;
  Require(mkdir(folder.c_str(), 0700) == 0, "cannot make a folder");
  static std::unique_ptr<tls::LiveCredentials> live;
  if (!identity.key.empty()) {
    const tls::CredentialFiles files = {folder + "/server.crt", folder + "/server.key", ""};
    testing::WriteText(files.certificate, identity.certificate);
    testing::WriteText(files.key, identity.key);
    auto opened = tls::LiveCredentials::Open({.files = files, .clock = &clock});
    Require(opened.ok(), opened.status().ToString());
    live = *std::move(opened);
  }
  static absl::StatusOr<std::unique_ptr<BlobStore>> store =
      OpenPosixBlobStore({.folder = folder}, &clock);
  Require(store.ok(), store.status().ToString());
  static const absl::StatusOr<std::unique_ptr<access::Gate>> gate = access::Gate::Open({});
  static const api::TensorApi tensors(store->get(), nullptr);
  static const std::unique_ptr<grpc::Service> service = NewTensorService({}, gate->get(), &tensors);
  static absl::StatusOr<std::unique_ptr<GrpcHost>> host =
      GrpcHost::Start({.listen = "127.0.0.1:0", .tls = live.get()}, {service.get()});
  Require(host.ok(), host.status().ToString());
  return (*host)->port();
}

// --- the client ---------------------------------------------------------------------------------

// What a transfer took: time, and the server's part of it on the CPU.
struct Took {
  std::vector<double> seconds, cpu_seconds;

  void Add(const ServerProcess& server, const std::function<void()>& transfer) {
    const double cpu_before = server.CpuSeconds();
    const auto start = std::chrono::steady_clock::now();
    transfer();
    seconds.push_back(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    cpu_seconds.push_back(server.CpuSeconds() - cpu_before);
  }
};

void Upload(v1::TensorService::Stub* stub, const std::string& bytes, const std::string& sha256,
            size_t chunk) {
  grpc::ClientContext context;
  v1::UploadTensorResponse response;
  const auto writer = stub->UploadTensor(&context, &response);
  v1::UploadTensorRequest request;
  request.mutable_header()->set_upload_id(sha256);
  request.mutable_header()->set_sha256(sha256);
  request.mutable_header()->set_size_bytes(static_cast<int64_t>(bytes.size()));
  request.mutable_header()->set_dtype(v1::F32);
  writer->Write(request);
  for (size_t at = 0; at < bytes.size(); at += chunk) {
    request.set_data(bytes.data() + at, std::min(chunk, bytes.size() - at));
    if (!writer->Write(request)) break;
  }
  writer->WritesDone();
  Require(writer->Finish());
}

void Download(v1::TensorService::Stub* stub, const std::string& sha256, size_t size) {
  grpc::ClientContext context;
  v1::DownloadTensorRequest request;
  request.set_sha256(sha256);
  const auto reader = stub->DownloadTensor(&context, request);
  v1::DownloadTensorResponse response;
  size_t got = 0;
  while (reader->Read(&response)) got += response.data().size();
  Require(reader->Finish());
  Require(got == size, absl::StrCat("downloaded ", got, " bytes of ", size));
}

// Readers that take one message and no more: what the server then holds for each.
double SlowReadersMib(const ServerProcess& server, v1::TensorService::Stub* stub,
                      const std::string& sha256, int readers) {
  const double before = server.StatusMib("VmRSS");
  v1::DownloadTensorRequest request;
  request.set_sha256(sha256);
  v1::DownloadTensorResponse response;
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts;
  std::vector<std::unique_ptr<grpc::ClientReader<v1::DownloadTensorResponse>>> streams;
  for (int i = 0; i < readers; ++i) {
    contexts.push_back(std::make_unique<grpc::ClientContext>());
    streams.push_back(stub->DownloadTensor(contexts.back().get(), request));
    Require(streams.back()->Read(&response), "a slow reader got nothing");
  }
  std::this_thread::sleep_for(std::chrono::seconds(3));
  const double growth = server.StatusMib("VmRSS") - before;
  for (auto& context : contexts) context->TryCancel();
  for (auto& stream : streams) stream->Finish();
  return growth;
}

// One kind of server, connected, and what its transfers took.
struct Side {
  const char* name;
  const ServerProcess& server;
  std::unique_ptr<v1::TensorService::Stub> stub;
  Took up, down;
};

void TransferOnce(Side& side, const std::string& bytes, const std::string& sha256, size_t chunk) {
  side.up.Add(side.server, [&] { Upload(side.stub.get(), bytes, sha256, chunk); });
  side.down.Add(side.server, [&] { Download(side.stub.get(), sha256, bytes.size()); });
}

void Report(const Flags& flags, const Side& side, const Side& bare) {
  const auto mib = static_cast<double>(flags.mib);
  for (const auto& [what, took, of_bare] :
       {std::tuple("upload", &side.up, &bare.up), std::tuple("download", &side.down, &bare.down)}) {
    std::printf("%-6s %-9s %6.0f MiB/s   %.2f of bare   server's CPU %.2f s\n", side.name, what,
                mib / Median(took->seconds), Median(of_bare->seconds) / Median(took->seconds),
                Median(took->cpu_seconds));
  }
}

std::string RandomBytes(int64_t count) {
  std::string bytes(static_cast<size_t>(count), '\0');
  std::mt19937_64 random(1);
  for (size_t i = 0; i + 8 <= bytes.size(); i += 8) {
    const uint64_t value = random();
    std::copy_n(reinterpret_cast<const char*>(&value), 8, &bytes[i]);
  }
  return bytes;
}

void Run(const Flags& flags, const std::string& folder) {
  const testing::Authority authority;
  const testing::Identity identity = authority.Issue();
  const ServerProcess bare_server([&] { return StartBare(flags); });
  const ServerProcess plain_server([&] { return StartReal(folder + "/plain"); });
  const ServerProcess tls_server([&] { return StartReal(folder + "/tls", identity); });
  Side bare = {"bare", bare_server, bare_server.Connect(), {}, {}};
  Side plain = {"plain", plain_server, plain_server.Connect(), {}, {}};
  Side tls = {"TLS",
              tls_server,
              tls_server.Connect(grpc::SslCredentials({authority.certificate(), "", ""})),
              {},
              {}};
  const auto chunk = static_cast<size_t>(flags.chunk_kib << 10);
  std::string bytes = RandomBytes(flags.mib << 20);

  // Warm all up: connections, allocators, code.
  const std::string little = bytes.substr(0, 8 << 20);
  for (Side* const side : {&bare, &plain, &tls}) {
    Upload(side->stub.get(), little, Sha256Of(little), chunk);
  }
  Download(plain.stub.get(), Sha256Of(little), little.size());

  const double before = plain_server.StatusMib("VmRSS");
  plain_server.ResetPeak();
  std::string sha256;
  for (int64_t round = 0; round < flags.rounds; ++round) {
    bytes[0] = static_cast<char>(round);  // another tensor each time
    sha256 = Sha256Of(bytes);
    for (Side* const side : {&bare, &plain, &tls}) TransferOnce(*side, bytes, sha256, chunk);
    std::printf("round %d   upload bare %.3f s, plain %.3f s, TLS %.3f s\n",
                static_cast<int>(round), bare.up.seconds.back(), plain.up.seconds.back(),
                tls.up.seconds.back());
  }
  std::printf("%lld MiB in chunks of %lld KiB, median of %lld rounds\n",
              static_cast<long long>(flags.mib), static_cast<long long>(flags.chunk_kib),
              static_cast<long long>(flags.rounds));
  for (const Side* const side : {&bare, &plain, &tls}) Report(flags, *side, bare);
  std::printf("TLS takes %.0f %% of an upload's rate, %.0f %% of a download's\n",
              100 * (1 - Median(plain.up.seconds) / Median(tls.up.seconds)),
              100 * (1 - Median(plain.down.seconds) / Median(tls.down.seconds)));
  std::printf("plain server's peak memory: %.1f MiB above the %.1f MiB before\n",
              plain_server.StatusMib("VmHWM") - before, before);
  constexpr int kSlowReaders = 16;
  std::printf("%d readers that read one message and stop: %.1f MiB each\n", kSlowReaders,
              SlowReadersMib(plain_server, plain.stub.get(), sha256, kSlowReaders) / kSlowReaders);
}

bool ParseFlag(absl::string_view argument, Flags* flags) {
  if (absl::ConsumePrefix(&argument, "--mib=")) return absl::SimpleAtoi(argument, &flags->mib);
  if (absl::ConsumePrefix(&argument, "--rounds=")) {
    return absl::SimpleAtoi(argument, &flags->rounds);
  }
  if (absl::ConsumePrefix(&argument, "--chunk_kib=")) {
    return absl::SimpleAtoi(argument, &flags->chunk_kib);
  }
  if (!absl::ConsumePrefix(&argument, "--folder=")) return false;
  flags->folder = std::string(argument);
  return true;
}

}  // namespace
}  // namespace attnprune::rpc

int main(int argc, char** argv) {
  attnprune::rpc::Flags flags;
  for (int i = 1; i < argc; ++i) {
    attnprune::rpc::Require(attnprune::rpc::ParseFlag(argv[i], &flags),
                            absl::StrCat("unknown flag ", argv[i]));
  }
  std::string folder = flags.folder + "/tensor-transfer-XXXXXX";
  attnprune::rpc::Require(mkdtemp(folder.data()) != nullptr, "cannot make a folder");
  attnprune::rpc::Run(flags, folder);
  std::filesystem::remove_all(folder);
}
