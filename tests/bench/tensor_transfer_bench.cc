// Upload and download of a tensor over loopback, against a bare gRPC stream of the same chunks that
// nobody stores or reads from a disk, alternating in one run. Each server is a process of its own,
// so that its memory can be told apart. Flags: --mib=512 --rounds=5 --chunk_kib=1024 --folder=/tmp
#include <grpcpp/grpcpp.h>
#include <signal.h>
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

  std::unique_ptr<v1::TensorService::Stub> Connect() const {
    return v1::TensorService::NewStub(
        grpc::CreateChannel(absl::StrCat("127.0.0.1:", port_), grpc::InsecureChannelCredentials()));
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

// attnprune's tensors as attnprune-server serves them.
int StartReal(const std::string& folder) {
  static const RealClock clock;
  static absl::StatusOr<std::unique_ptr<BlobStore>> store =
      OpenPosixBlobStore({.folder = folder}, &clock);
  Require(store.ok(), store.status().ToString());
  static const absl::StatusOr<std::unique_ptr<access::Gate>> gate = access::Gate::Open({});
  static const api::TensorApi tensors(store->get(), nullptr);
  static const std::unique_ptr<grpc::Service> service = NewTensorService({}, gate->get(), &tensors);
  static absl::StatusOr<std::unique_ptr<GrpcHost>> host =
      GrpcHost::Start({.listen = "127.0.0.1:0"}, {service.get()});
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

void Report(const char* what, double mib, const Took& bare, const Took& real) {
  const double bare_rate = mib / Median(bare.seconds), real_rate = mib / Median(real.seconds);
  std::printf(
      "%-9s bare %6.0f MiB/s (CPU %.2f s)   tensors %6.0f MiB/s (CPU %.2f s)   ratio %.2f\n", what,
      bare_rate, Median(bare.cpu_seconds), real_rate, Median(real.cpu_seconds),
      real_rate / bare_rate);
}

void Run(const Flags& flags, const std::string& folder) {
  const ServerProcess bare([&] { return StartBare(flags); });
  const ServerProcess real([&] { return StartReal(folder); });
  const auto bare_stub = bare.Connect(), real_stub = real.Connect();
  const auto chunk = static_cast<size_t>(flags.chunk_kib << 10);

  std::string bytes(static_cast<size_t>(flags.mib << 20), '\0');
  std::mt19937_64 random(1);
  for (size_t i = 0; i + 8 <= bytes.size(); i += 8) {
    const uint64_t value = random();
    std::copy_n(reinterpret_cast<const char*>(&value), 8, &bytes[i]);
  }
  // Warm both up: connections, allocators, code.
  const std::string little = bytes.substr(0, 8 << 20);
  Upload(bare_stub.get(), little, Sha256Of(little), chunk);
  Upload(real_stub.get(), little, Sha256Of(little), chunk);
  Download(real_stub.get(), Sha256Of(little), little.size());

  const double before = real.StatusMib("VmRSS");
  real.ResetPeak();
  Took bare_up, real_up, bare_down, real_down;
  std::string sha256;
  for (int64_t round = 0; round < flags.rounds; ++round) {
    bytes[0] = static_cast<char>(round);  // another tensor each time
    sha256 = Sha256Of(bytes);
    bare_up.Add(bare, [&] { Upload(bare_stub.get(), bytes, sha256, chunk); });
    real_up.Add(real, [&] { Upload(real_stub.get(), bytes, sha256, chunk); });
    bare_down.Add(bare, [&] { Download(bare_stub.get(), sha256, bytes.size()); });
    real_down.Add(real, [&] { Download(real_stub.get(), sha256, bytes.size()); });
    std::printf(
        "round %d   upload bare %.3f s, tensors %.3f s   download bare %.3f s, tensors %.3f s\n",
        static_cast<int>(round), bare_up.seconds.back(), real_up.seconds.back(),
        bare_down.seconds.back(), real_down.seconds.back());
  }
  const auto mib = static_cast<double>(flags.mib);
  std::printf("%lld MiB in chunks of %lld KiB, median of %lld rounds\n",
              static_cast<long long>(flags.mib), static_cast<long long>(flags.chunk_kib),
              static_cast<long long>(flags.rounds));
  Report("upload", mib, bare_up, real_up);
  Report("download", mib, bare_down, real_down);
  std::printf("server's peak memory: %.1f MiB above the %.1f MiB before\n",
              real.StatusMib("VmHWM") - before, before);
  constexpr int kSlowReaders = 16;
  std::printf("%d readers that read one message and stop: %.1f MiB each\n", kSlowReaders,
              SlowReadersMib(real, real_stub.get(), sha256, kSlowReaders) / kSlowReaders);
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
