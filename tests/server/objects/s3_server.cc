#include "tests/server/objects/s3_server.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace attnprune::testing {
namespace {

constexpr char kProgram[] = ATTNPRUNE_SOURCE_DIR "/tests/support/s3_server.py";
constexpr char kServing[] = "serving ";

[[noreturn]] void EndTests(const std::string& why) {
  std::cerr << why << "\n";
  std::abort();
}

std::string ReadLine(int output) {
  std::string line;
  char byte = 0;
  while (read(output, &byte, 1) == 1 && byte != '\n') line.push_back(byte);
  return line;
}

}  // namespace

S3Server::S3Server() : keys_(folder() + "/keys") {
  std::ofstream(keys_) << "[default]\naws_access_key_id = tester\n"
                       << "aws_secret_access_key = opensesame\n";
  Start();
}

S3Server::~S3Server() { Stop(); }

S3Server& S3Server::Shared() {
  static S3Server server;
  return server;
}

void S3Server::Start() {
  int output[2];
  if (pipe2(output, O_CLOEXEC) != 0) EndTests("no pipe");
  const std::string port = endpoint_.empty() ? "0" : endpoint_.substr(endpoint_.rfind(':') + 1);
  process_ = fork();
  if (process_ == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    dup2(output[1], STDOUT_FILENO);
    execl("/usr/bin/python3", "python3", "-B", kProgram, folder().c_str(), port.c_str(), nullptr);
    _exit(127);
  }
  close(output[1]);
  const std::string line = ReadLine(output[0]);
  close(output[0]);
  if (!absl::StartsWith(line, kServing)) EndTests("s3_server.py does not start: " + line);
  endpoint_ = line.substr(sizeof kServing - 1);
}

void S3Server::Stop() {
  if (process_ <= 0) return;
  kill(process_, SIGKILL);
  waitpid(process_, nullptr, 0);
  process_ = -1;
}

BlobsUrl S3Server::Url(const std::string& prefix) const {
  BlobsUrl url;
  url.bucket = "tensors";
  url.prefix = prefix;
  url.endpoint = endpoint_;
  url.region = "us-east-1";
  return url;
}

void S3Server::SetFault(const std::string& json) const {
  std::ofstream(folder() + "/fault.new") << json;
  std::filesystem::rename(folder() + "/fault.new", folder() + "/fault");
}

void S3Server::SetMachineKeys(const std::string& json) const {
  if (json.empty()) {
    std::filesystem::remove(folder() + "/machine_keys");
    return;
  }
  std::ofstream(folder() + "/machine_keys.new") << json;
  std::filesystem::rename(folder() + "/machine_keys.new", folder() + "/machine_keys");
}

bool S3Server::HasFault() const { return std::filesystem::exists(folder() + "/fault"); }

std::string S3Server::FileOf(const std::string& key) const {
  return absl::StrCat(folder(), "/objects/", absl::StrReplaceAll(key, {{"/", "%2F"}}));
}

int S3Server::CountParts() const {
  return static_cast<int>(
      std::distance(std::filesystem::directory_iterator(folder() + "/parts"), {}));
}

}  // namespace attnprune::testing
