// The real server under load: what creating a job takes while 1,000 wait, and what 200 watchers
// cost the solver. Prints both, and exits with 1 where the promises of docs/server.md are missed.
// Flags:
// --jobs=1000 --watchers=200 --rounds=7 --seconds=4 --folder=/tmp --server=PATH
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
#include <iostream>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "attnprune/v1/prune_service.grpc.pb.h"
#include "client/library/client.h"
#include "core/problem/synthetic.h"
#include "tests/support/timing.h"

namespace attnprune {
namespace {

using testing::Clock;
using testing::Median;
using testing::SecondsSince;

struct Flags {
  int jobs = 1000;
  int watchers = 200;
  int rounds = 7;
  int seconds = 4;
  std::string folder = "/tmp";
  std::string server;
};

void Require(bool holds, const std::string& what) {
  if (holds) return;
  std::cerr << "service_load_bench: " << what << "\n";
  std::_Exit(2);
}

// attnprune-server on a folder of its own; one thread solves, so that another core can serve.
class ServerProcess {
 public:
  ServerProcess(const std::string& program, const std::string& folder) {
    const std::string port_file = folder + "/port";
    pid_ = fork();
    if (pid_ == 0) {
      execl(program.c_str(), program.c_str(), "--listen", "127.0.0.1:0", "--data-dir",
            (folder + "/data").c_str(), "--threads-per-job", "1", "--port-file", port_file.c_str(),
            "--log-level", "error", static_cast<char*>(nullptr));
      std::_Exit(127);
    }
    const Clock::time_point start = Clock::now();
    while (!std::filesystem::exists(port_file)) {
      Require(SecondsSince(start) < 30, "the server did not start: " + program);
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    std::ifstream(port_file) >> port_;
  }
  ~ServerProcess() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;

  std::string address() const { return absl::StrCat("127.0.0.1:", port_); }

 private:
  pid_t pid_ = -1;
  int port_ = 0;
};

absl::Span<const char> BytesOf(MatrixView matrix) {
  return {reinterpret_cast<const char*>(matrix.data()),
          static_cast<size_t>(matrix.size()) * sizeof(float)};
}

client::LocalTensor Tensor(MatrixView matrix, std::vector<int64_t> shape) {
  v1::TensorRef ref;
  ref.set_dtype(v1::F32);
  for (const int64_t extent : shape) ref.add_shape(extent);
  return client::MakeLocalTensor(ref, BytesOf(matrix));
}

// The paper's problem, d = 64, n = 128, k = 16, as a job of a method.
struct PaperJob {
  explicit PaperJob(const std::string& method, double steps) {
    const Index d = problem.features(), k = problem.calibration.count();
    tensors.push_back(Tensor(problem.fused_weights().w, {d, d}));
    tensors.push_back(Tensor(problem.calibration.all(), {k, problem.calibration.length(0), d}));
    *job.mutable_problem()->mutable_fused()->mutable_weight() = tensors[0].ref;
    *job.add_calibration() = tensors[1].ref;
    job.mutable_sparsity()->set_fraction(0.5);
    job.add_methods()->set_name(method);
    if (steps > 0) (*job.mutable_methods(0)->mutable_parameters())["steps"] = steps;
  }
  v1::CreateJobRequest Request() const {
    v1::CreateJobRequest request;
    *request.mutable_job() = job;
    return request;
  }

  Problem problem = *SyntheticProblem({});
  std::vector<client::LocalTensor> tensors;
  v1::Job job;
};

// Follows a job on a connection of its own until it is told to leave; counts the steps and events.
class Watcher {
 public:
  Watcher(const std::string& address, const std::string& name)
      : stub_(v1::PruneService::NewStub(Connect(address))),
        thread_([this, name] { Follow(name); }) {}
  ~Watcher() { context_.TryCancel(); }

  // Of the newest step seen: its number and, by the server's clock, when it was written.
  struct Seen {
    int64_t step = 0;
    double seconds = 0;
  };
  Seen seen() const {
    const std::lock_guard<std::mutex> lock(mutex_);
    return seen_;
  }

 private:
  static std::shared_ptr<grpc::Channel> Connect(const std::string& address) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);  // a connection each
    return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
  }
  void Follow(const std::string& name) {
    v1::WatchJobRequest request;
    request.set_name(name);
    const auto stream = stub_->WatchJob(&context_, request);
    v1::JobEvent event;
    while (stream->Read(&event)) {
      if (!event.has_progress()) continue;
      const std::lock_guard<std::mutex> lock(mutex_);
      seen_ = {event.progress().step(),
               static_cast<double>(event.time().seconds()) + 1e-9 * event.time().nanos()};
    }
    stream->Finish();
  }

  const std::unique_ptr<v1::PruneService::Stub> stub_;
  grpc::ClientContext context_;
  mutable std::mutex mutex_;
  Seen seen_;
  std::jthread thread_;
};

// The next step that `control` sees, and so one that was made after this call.
Watcher::Seen Next(const Watcher& control) {
  const int64_t step = control.seen().step;
  while (control.seen().step == step) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  return control.seen();
}

// Steps a second over some seconds, between two that `control` sees: a crowd sees few of them.
double StepRate(const Watcher& control, int seconds) {
  const Watcher::Seen before = Next(control);
  std::this_thread::sleep_for(std::chrono::seconds(seconds));
  const Watcher::Seen after = Next(control);
  return static_cast<double>(after.step - before.step) / (after.seconds - before.seconds);
}

bool MeasureWatchers(const Flags& flags, const std::string& address, const std::string& name) {
  const Watcher control(address, name);
  while (control.seen().step == 0) std::this_thread::sleep_for(std::chrono::milliseconds(5));
  std::vector<double> alone, watched, ratios;
  for (int round = 0; round < flags.rounds; ++round) {
    const double before = StepRate(control, flags.seconds);
    std::vector<std::unique_ptr<Watcher>> watchers;
    for (int i = 0; i < flags.watchers; ++i) {
      watchers.push_back(std::make_unique<Watcher>(address, name));
    }
    // Each has read what was there and follows now.
    const int64_t step = control.seen().step;
    for (const auto& watcher : watchers) {
      while (watcher->seen().step < step) std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    const double with = StepRate(control, flags.seconds);
    watchers.clear();
    const double after = StepRate(control, flags.seconds);
    alone.push_back((before + after) / 2);
    watched.push_back(with);
    ratios.push_back(with / alone.back());
    std::printf("round %d   alone %.1f steps/s   %d watchers %.1f steps/s   ratio %.3f\n", round,
                alone.back(), flags.watchers, with, ratios.back());
  }
  std::printf(
      "%d watchers: the solver keeps %.1f %% of its steps per second (median of %d rounds)\n",
      flags.watchers, 100 * Median(ratios), flags.rounds);
  return Median(ratios) > 0.95;
}

bool MeasureCreate(const Flags& flags, client::Client& client) {
  const PaperJob waiting("magnitude", 0);
  std::vector<double> milliseconds;
  for (int i = 0; i < flags.jobs; ++i) {
    const Clock::time_point start = Clock::now();
    const auto created = client.CreateJob(waiting.Request());
    milliseconds.push_back(1e3 * SecondsSince(start));
    Require(created.ok(), created.status().ToString());
  }
  std::vector<double> sorted = milliseconds;
  std::sort(sorted.begin(), sorted.end());
  const double median = Median(milliseconds);
  std::printf("create, %d times while a job runs: median %.2f ms, 99th percentile %.2f ms\n",
              flags.jobs, median, sorted[sorted.size() * 99 / 100]);
  return median < 10;
}

int Run(const Flags& flags, const std::string& folder) {
  const ServerProcess server(flags.server, folder);
  const auto client = client::Client::Create({.server = server.address()});
  Require(client.ok(), client.status().ToString());
  const PaperJob running("gd", 1e6);
  const auto uploaded = (*client)->Upload(running.tensors);
  Require(uploaded.ok(), uploaded.status().ToString());
  const auto job = (*client)->CreateJob(running.Request());
  Require(job.ok(), job.status().ToString());
  const bool create = MeasureCreate(flags, **client);
  const bool watchers = MeasureWatchers(flags, server.address(), job->name());
  return create && watchers ? 0 : 1;
}

bool ParseFlag(const std::string& argument, Flags* flags) {
  const std::vector<std::string> sides = absl::StrSplit(argument, absl::MaxSplits('=', 1));
  if (sides.size() != 2) return false;
  if (sides[0] == "--jobs") return absl::SimpleAtoi(sides[1], &flags->jobs);
  if (sides[0] == "--watchers") return absl::SimpleAtoi(sides[1], &flags->watchers);
  if (sides[0] == "--rounds") return absl::SimpleAtoi(sides[1], &flags->rounds);
  if (sides[0] == "--seconds") return absl::SimpleAtoi(sides[1], &flags->seconds);
  if (sides[0] == "--folder") flags->folder = sides[1];
  if (sides[0] == "--server") flags->server = sides[1];
  return sides[0] == "--folder" || sides[0] == "--server";
}

}  // namespace
}  // namespace attnprune

int main(int argc, char** argv) {
  attnprune::Flags flags;
  flags.server = std::filesystem::path(argv[0]).parent_path() / "attnprune-server";
  for (int i = 1; i < argc; ++i) {
    attnprune::Require(attnprune::ParseFlag(argv[i], &flags),
                       absl::StrCat("unknown flag ", argv[i]));
  }
  std::string folder = flags.folder + "/service-load-XXXXXX";
  attnprune::Require(mkdtemp(folder.data()) != nullptr, "cannot make a folder");
  const int code = attnprune::Run(flags, folder);
  std::filesystem::remove_all(folder);
  return code;
}
