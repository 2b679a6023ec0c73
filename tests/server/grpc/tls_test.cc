// gRPC's port over TLS, with certificates made on the spot.
#include <grpcpp/grpcpp.h>

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/tls/live_credentials.h"
#include "tests/server/grpc/service_fixture.h"
#include "tests/server/tls/tls_files.h"
#include "tests/support/value_or_die.h"

namespace attnprune::rpc {
namespace {

using testing::Authority;
using testing::Identity;
using testing::ValueOrDie;
using tls::LiveCredentials;
using tls::TlsFiles;

using Channel = std::shared_ptr<grpc::Channel>;

std::unique_ptr<LiveCredentials> Live(const TlsFiles& files, const std::string& client_ca = "") {
  static const RealClock clock;
  return ValueOrDie(LiveCredentials::Open({.files = {files.certificate(), files.key(), client_ca},
                                           .interval = absl::Hours(24),
                                           .clock = &clock}));
}

// A connection of its own.
Channel Connect(const Service& service, const Authority& authority, const Identity& own = {}) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  return grpc::CreateCustomChannel(
      "127.0.0.1:" + std::to_string(service.port()),
      grpc::SslCredentials({authority.certificate(), own.key, own.certificate}), arguments);
}

grpc::Status Ask(const Channel& channel) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
  v1::ServerInfo info;
  return v1::PruneService::NewStub(channel)->GetServerInfo(&context, {}, &info);
}

struct Secure {
  Secure() : live(Live(files)), service({.tls = live.get(), .channel = Trusted()}) {}
  std::shared_ptr<grpc::ChannelCredentials> Trusted() const {
    return grpc::SslCredentials({files.authority.certificate(), "", ""});
  }

  TlsFiles files;
  std::unique_ptr<LiveCredentials> live;
  Service service;
};

TEST(GrpcTls, ServesThoseWhoTrustItsCertificateAndNobodyElse) {
  Secure secure;
  EXPECT_TRUE(Ask(secure.service.channel()).ok());
  EXPECT_EQ(Ask(Connect(secure.service, Authority("another"))).error_code(),
            grpc::StatusCode::UNAVAILABLE);
  const Channel plain = grpc::CreateChannel("127.0.0.1:" + std::to_string(secure.service.port()),
                                            grpc::InsecureChannelCredentials());
  EXPECT_EQ(Ask(plain).error_code(), grpc::StatusCode::UNAVAILABLE);
}

// The next certificate is of an authority that the streams' clients do not even trust.
TEST(GrpcTls, ExchangesItsCertificateUnderOpenStreams) {
  Secure secure;
  const v1::Job job = secure.service.Create(secure.service.GoodJob());
  struct Stream {
    Channel channel;
    grpc::ClientContext context;
    std::unique_ptr<grpc::ClientReader<v1::JobEvent>> reader;
  };
  v1::WatchJobRequest request;
  request.set_name(job.name());
  v1::JobEvent event;
  std::vector<std::unique_ptr<Stream>> streams;
  for (int i = 0; i < 20; ++i) {
    streams.push_back(std::make_unique<Stream>());
    Stream& stream = *streams.back();
    stream.channel = Connect(secure.service, secure.files.authority);
    stream.reader = v1::PruneService::NewStub(stream.channel)->WatchJob(&stream.context, request);
    EXPECT_TRUE(stream.reader->Read(&event));
  }
  const Authority next("next");
  EXPECT_FALSE(Ask(Connect(secure.service, next)).ok());
  secure.files.Write(next.Issue());
  secure.live->Look();
  EXPECT_TRUE(Ask(Connect(secure.service, next)).ok());
  EXPECT_FALSE(Ask(Connect(secure.service, secure.files.authority)).ok());
  EXPECT_TRUE(Cancel(secure.service, job.name()).status.ok());
  for (const auto& stream : streams) {
    while (stream->reader->Read(&event)) {
    }
    EXPECT_TRUE(event.has_terminal());
    EXPECT_TRUE(stream->reader->Finish().ok());
  }
}

TEST(GrpcTls, KeepsItsCertificateWhileTheNextOneHasNoKey) {
  Secure secure;
  testing::WriteText(secure.files.certificate(), secure.files.authority.Issue().certificate);
  secure.live->Look();
  EXPECT_TRUE(Ask(Connect(secure.service, secure.files.authority)).ok());
}

TEST(GrpcTls, WantsACertificateOfItsClientsAuthority) {
  const TlsFiles files;
  const Authority of_clients("of clients");
  files.AskClients(of_clients);
  const auto live = Live(files, files.client_ca());
  const Service service({.tls = live.get()});
  const auto code = [&](const Identity& identity) {
    return Ask(Connect(service, files.authority, identity)).error_code();
  };
  EXPECT_EQ(code(of_clients.Issue("DNS:me")), grpc::StatusCode::OK);
  EXPECT_EQ(code({}), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(code(files.authority.Issue("DNS:me")), grpc::StatusCode::UNAVAILABLE);
  const absl::Time past = absl::Now() - absl::Hours(1);
  EXPECT_EQ(code(of_clients.Issue("DNS:me", {.from = past - absl::Hours(1), .to = past})),
            grpc::StatusCode::UNAVAILABLE);
  const Authority next("next of clients");
  files.AskClients(next);
  live->Look();
  EXPECT_EQ(code(of_clients.Issue("DNS:me")), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(code(next.Issue("DNS:me")), grpc::StatusCode::OK);
}

}  // namespace
}  // namespace attnprune::rpc
