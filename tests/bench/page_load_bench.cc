// What viewers of a job's live events cost its solver: the real server, 500 connections of one
// process, each following the same job. Rounds alternate alone, watched, alone; prints each, and
// exits with 1 if the median of the ratios is below 0.95. Flags:
// --viewers=500 --rounds=7 --seconds=4 --bin=FOLDER (of the programs)
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "tests/support/timing.h"

namespace attnprune {
namespace {

using testing::Clock;
using testing::Median;
using testing::SecondsSince;

struct Flags {
  int viewers = 500;
  int rounds = 7;
  int seconds = 4;
  std::string bin;
};

void Require(bool holds, const std::string& what) {
  if (holds) return;
  std::cerr << "page_load_bench: " << what << "\n";
  std::_Exit(2);
}

std::string ReadFile(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

pid_t Start(const std::vector<std::string>& command, const std::string& output) {
  const pid_t pid = fork();
  if (pid != 0) return pid;
  std::vector<char*> arguments;
  for (const std::string& word : command) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  if (std::freopen(output.c_str(), "w", stdout) == nullptr) std::_Exit(127);
  execv(arguments[0], arguments.data());
  std::_Exit(127);
}

std::string Run(const std::vector<std::string>& command, const std::string& output) {
  int status = 0;
  waitpid(Start(command, output), &status, 0);
  Require(status == 0, absl::StrCat(absl::StrJoin(command, " "), " failed"));
  return ReadFile(output);
}

// One thread solves, so that another core can serve.
class ServerProcess {
 public:
  ServerProcess(const std::string& bin, const std::string& folder)
      : pid_(Start(
            {bin + "/attnprune-server", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0",
             "--data-dir", folder + "/data", "--threads-per-job", "1", "--port-file",
             folder + "/port", "--http-port-file", folder + "/http", "--log-level", "error"},
            folder + "/server.out")) {
    const Clock::time_point start = Clock::now();
    while (!std::filesystem::exists(folder + "/port")) {
      Require(SecondsSince(start) < 60, "the server did not start");
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    Require(absl::SimpleAtoi(ReadFile(folder + "/http"), &http_port), "no HTTP port");
    Require(absl::SimpleAtoi(ReadFile(folder + "/port"), &port), "no port");
  }
  ~ServerProcess() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;

  int port = 0, http_port = 0;

 private:
  const pid_t pid_;
};

int Connect(int port, const std::string& target) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(static_cast<uint16_t>(port));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  Require(connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0,
          "cannot connect");
  const std::string ask = absl::StrCat("GET ", target,
                                       " HTTP/1.1\r\nHost: localhost\r\n"
                                       "Connection: close\r\n\r\n");
  Require(send(fd, ask.data(), ask.size(), 0) == static_cast<ssize_t>(ask.size()), "cannot ask");
  return fd;
}

// Steps of gd so far, from /metrics.
double StepsTaken(int port) {
  const int fd = Connect(port, "/metrics");
  std::string text;
  std::array<char, 65536> bytes;
  for (ssize_t n; (n = recv(fd, bytes.data(), bytes.size(), 0)) > 0;) {
    text.append(bytes.data(), static_cast<size_t>(n));
  }
  close(fd);
  constexpr absl::string_view kName = "\nattnprune_solver_steps_total{method=\"gd\"} ";
  const size_t found = text.find(kName.data());
  double steps = 0;
  Require(found != std::string::npos &&
              absl::SimpleAtod(text.substr(found + kName.size(),
                                           text.find('\n', found + 1) - found - kName.size()),
                               &steps),
          "no steps in /metrics");
  return steps;
}

double StepRate(int port, int seconds) {
  const Clock::time_point start = Clock::now();
  const double before = StepsTaken(port);
  std::this_thread::sleep_for(std::chrono::seconds(seconds));
  return (StepsTaken(port) - before) / SecondsSince(start);
}

// Viewers who read what comes, on one thread of theirs, and count events.
class Viewers {
 public:
  Viewers(int port, const std::string& target, int count) : epoll_(epoll_create1(0)) {
    for (int i = 0; i < count; ++i) {
      const int fd = Connect(port, target);
      epoll_event event{};
      event.events = EPOLLIN;
      event.data.fd = fd;
      epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
      events_[fd] = 0;
    }
    thread_ = std::jthread([this](const std::stop_token& stop) { Read(stop); });
  }
  ~Viewers() {
    thread_.request_stop();
    thread_.join();
    for (const auto& [fd, events] : events_) close(fd);
    close(epoll_);
  }
  Viewers(const Viewers&) = delete;
  Viewers& operator=(const Viewers&) = delete;

  // That have had an event.
  int served() const { return served_; }
  int64_t events() const { return all_events_; }
  int64_t bytes() const { return bytes_; }

 private:
  void Read(const std::stop_token& stop) {
    std::array<epoll_event, 64> ready;
    while (!stop.stop_requested()) {
      const int n = epoll_wait(epoll_, ready.data(), static_cast<int>(ready.size()), 50);
      for (int i = 0; i < n; ++i) ReadOne(ready[static_cast<size_t>(i)].data.fd);
    }
  }
  void ReadOne(int fd) {
    const ssize_t n = recv(fd, buffer_.data(), buffer_.size(), MSG_DONTWAIT);
    Require(n > 0, "a viewer was cut off");
    bytes_ += n;
    const absl::string_view text(buffer_.data(), static_cast<size_t>(n));
    int64_t events = 0;
    for (size_t at = text.find("\nid: "); at != absl::string_view::npos;
         at = text.find("\nid: ", at + 1)) {
      ++events;
    }
    if (events_[fd] == 0 && events > 0) ++served_;
    events_[fd] += events;
    all_events_ += events;
  }

  const int epoll_;
  std::map<int, int64_t> events_;
  std::array<char, 65536> buffer_;
  std::atomic<int> served_{0};
  std::atomic<int64_t> all_events_{0}, bytes_{0};
  std::jthread thread_;
};

double Watched(const Flags& flags, int port, const std::string& target) {
  const Clock::time_point start = Clock::now();
  const Viewers viewers(port, target, flags.viewers);
  while (viewers.served() < flags.viewers) {
    Require(SecondsSince(start) < 60, "not every viewer is served");
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  const double joined = SecondsSince(start);
  std::this_thread::sleep_for(std::chrono::seconds(1));  // of the crowd's joining
  const int64_t events = viewers.events(), bytes = viewers.bytes();
  const double rate = StepRate(port, flags.seconds);
  const double share = flags.seconds * flags.viewers;
  std::printf("   %d viewers joined in %.2f s, then %.1f events and %.1f kB a second each\n",
              flags.viewers, joined, static_cast<double>(viewers.events() - events) / share,
              static_cast<double>(viewers.bytes() - bytes) / share / 1000);
  return rate;
}

bool Measure(const Flags& flags, int port, const std::string& target) {
  std::vector<double> ratios;
  for (int round = 0; round < flags.rounds; ++round) {
    const double before = StepRate(port, flags.seconds);
    const double with = Watched(flags, port, target);
    const double after = StepRate(port, flags.seconds);
    ratios.push_back(with / ((before + after) / 2));
    std::printf("round %d   alone %.1f and %.1f steps/s   watched %.1f   ratio %.3f\n", round,
                before, after, with, ratios.back());
  }
  std::printf("%d viewers: the solver keeps %.1f %% of its steps per second (median of %d)\n",
              flags.viewers, 100 * Median(ratios), flags.rounds);
  return Median(ratios) > 0.95;
}

// The paper's problem, d = 64, n = 128, k = 16, for a million steps.
std::string Submit(const Flags& flags, const std::string& folder, int port) {
  Run({flags.bin + "/attnprune", "synth", "--d", "64", "--n", "128", "--k", "16", "--rank", "4",
       "--output", folder},
      folder + "/synth.out");
  std::string name =
      Run({flags.bin + "/attnprune", "submit", "--server", absl::StrCat("127.0.0.1:", port),
           "--weights", folder + "/weights.safetensors", "--fused-product", "w_q,w_k",
           "--calibration", folder + "/calibration.safetensors", "--method", "gd:steps=1000000"},
          folder + "/submit.out");
  return name.substr(0, name.find('\n'));
}

void RaiseFileLimit() {
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

bool ParseFlag(const std::string& argument, Flags* flags) {
  const std::vector<std::string> sides = absl::StrSplit(argument, absl::MaxSplits('=', 1));
  if (sides.size() != 2) return false;
  if (sides[0] == "--viewers") return absl::SimpleAtoi(sides[1], &flags->viewers);
  if (sides[0] == "--rounds") return absl::SimpleAtoi(sides[1], &flags->rounds);
  if (sides[0] == "--seconds") return absl::SimpleAtoi(sides[1], &flags->seconds);
  if (sides[0] == "--bin") flags->bin = sides[1];
  return sides[0] == "--bin";
}

int Main(int argc, char** argv) {
  Flags flags;
  flags.bin = std::filesystem::path(argv[0]).parent_path();
  for (int i = 1; i < argc; ++i) {
    Require(ParseFlag(argv[i], &flags), absl::StrCat("unknown flag ", argv[i]));
  }
  RaiseFileLimit();
  std::string folder = std::filesystem::temp_directory_path() / "page-load-XXXXXX";
  Require(mkdtemp(folder.data()) != nullptr, "cannot make a folder");
  bool kept = false;
  {
    const ServerProcess server(flags.bin, folder);
    const std::string name = Submit(flags, folder, server.port);
    kept = Measure(flags, server.http_port, absl::StrCat("/api/v1/", name, "/events"));
  }
  std::filesystem::remove_all(folder);
  return kept ? 0 : 1;
}

}  // namespace
}  // namespace attnprune

int main(int argc, char** argv) { return attnprune::Main(argc, argv); }
