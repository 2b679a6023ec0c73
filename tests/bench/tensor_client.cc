// One tensor to a server or from it by the client library: the seconds that the call took.
//
//   tensor_client HOST:PORT upload FILE       of float32 values; hashed before
//   tensor_client HOST:PORT download SHA256   its digest is checked, the bytes are dropped
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "client/library/client.h"
#include "core/io/mapped_file.h"
#include "tests/support/timing.h"

namespace attnprune {
namespace {

template <typename Value>
Value Require(absl::StatusOr<Value> value) {
  if (value.ok()) return *std::move(value);
  std::cerr << "tensor_client: " << value.status() << "\n";
  std::_Exit(1);
}

double Upload(client::Client& client, const std::string& path) {
  const MappedFile file = Require(MappedFile::Open(path));
  v1::TensorRef ref;
  ref.set_dtype(v1::F32);
  ref.add_shape(static_cast<int64_t>(file.bytes().size() / sizeof(float)));
  const client::LocalTensor tensor = client::MakeLocalTensor(ref, file.bytes());
  const auto start = testing::Clock::now();
  Require(client.Upload({tensor}));
  return testing::SecondsSince(start);
}

double Download(client::Client& client, const std::string& sha256) {
  const auto start = testing::Clock::now();
  Require(client.Download(sha256));
  return testing::SecondsSince(start);
}

double Transfer(const std::string& server, const std::string& what, const std::string& argument) {
  client::ClientOptions options;
  options.server = server;
  const std::unique_ptr<client::Client> client = Require(client::Client::Create(options));
  Require(client->GetServerInfo());  // connected
  if (what == "upload") return Upload(*client, argument);
  if (what == "download") return Download(*client, argument);
  return Require<double>(absl::InvalidArgumentError(
      absl::StrCat("the second argument must be upload or download, got ", what)));
}

}  // namespace
}  // namespace attnprune

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: tensor_client HOST:PORT upload FILE | download SHA256\n";
    return 2;
  }
  std::printf("%.6f\n", attnprune::Transfer(argv[1], argv[2], argv[3]));
}
