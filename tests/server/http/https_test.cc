// The HTTP port over TLS, with certificates made on the spot.
#include <openssl/ssl.h>

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "core/base/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/http/http_server.h"
#include "server/tls/live_credentials.h"
#include "tests/server/http/echo_server.h"
#include "tests/server/http/http_client.h"
#include "tests/server/tls/tls_files.h"

namespace attnprune::http {
namespace {

using testing::Authority;
using ::testing::HasSubstr;
using testing::Identity;
using ::testing::IsEmpty;
using tls::LiveCredentials;
using tls::TlsFiles;

std::unique_ptr<LiveCredentials> Live(const TlsFiles& files, const std::string& client_ca = "") {
  static const RealClock clock;
  auto live = LiveCredentials::Open({.files = {files.certificate(), files.key(), client_ca},
                                     .interval = absl::Hours(24),
                                     .clock = &clock});
  EXPECT_TRUE(live.ok()) << live.status();
  return *std::move(live);
}

// A server with a certificate of `files`.
struct Secure {
  explicit Secure(HttpServerOptions options = {}) : live(Live(files)), running(With(options)) {}
  HttpServerOptions With(HttpServerOptions options) const {
    options.tls = live.get();
    return options;
  }
  int port() const { return running.port(); }
  ClientTls client() const { return {.authorities = files.authority.certificate()}; }

  TlsFiles files;
  std::unique_ptr<LiveCredentials> live;
  Running running;
};

TEST(Https, AnswersRequestsAndStreamsUntilTheyEndInOrder) {
  Secure secure;
  HttpClient client(secure.port(), secure.client());
  ASSERT_THAT(client.tls_error(), IsEmpty());
  const std::string body(60'000, 'x');
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(client.Ask("POST", "/a", "", body).body, "/a localhost " + body);
  }
  EXPECT_EQ(client.Open("/stream").status, 200);
  const std::string large(1 << 20, 'y');
  OnLoop(secure.running, [&](Echo::Feed& feed) { feed.Add("data: " + large + "\n\n"); });
  EXPECT_EQ(client.Next()->data, large);
  OnLoop(secure.running, [](Echo::Feed& feed) { feed.End(); });
  EXPECT_FALSE(client.Next().has_value());
  EXPECT_TRUE(client.ClosedByServer());
  EXPECT_TRUE(client.EndedInOrder());
}

TEST(Https, TakesTls12AndNothingOlder) {
  Secure secure;
  ClientTls tls = secure.client();
  tls.newest_version = TLS1_2_VERSION;
  HttpClient newer(secure.port(), tls);
  EXPECT_EQ(newer.Get("/").status, 200);
  tls.newest_version = TLS1_1_VERSION;
  EXPECT_THAT(HttpClient(secure.port(), tls).tls_error(), HasSubstr("protocol version"));
}

TEST(Https, TellsAClientOfPlainHttpThatThisIsTls) {
  Secure secure;
  HttpClient client(secure.port());
  const Received received = client.Get("/");
  EXPECT_EQ(received.status, 400);
  EXPECT_EQ(received.body, "this port speaks TLS: the address begins with https://");
  EXPECT_EQ(received.headers.at("connection"), "close");
  EXPECT_TRUE(client.ClosedByServer());
}

TEST(Https, ClosesOnWhatIsNeitherTlsNorHttp) {
  Secure secure;
  HttpClient client(secure.port());
  client.Send(std::string(100, '\0'));
  EXPECT_TRUE(client.ClosedByServer());
}

TEST(Https, DropsWhoDoesNotShakeHandsAndServesTheOthersMeanwhile) {
  HttpServerOptions options;
  options.request_timeout = absl::Milliseconds(500);
  Secure secure(options);
  HttpClient silent(secure.port()), slow(secure.port());
  slow.Send("\x16\x03\x01\x01");  // the beginning of a handshake
  HttpClient other(secure.port(), secure.client());
  EXPECT_EQ(other.Get("/").status, 200);
  EXPECT_TRUE(silent.ClosedByServer());
  EXPECT_TRUE(slow.ClosedByServer());
}

TEST(Https, MakesRoomWhereOthersDoNotShakeHands) {
  HttpServerOptions options;
  options.max_connections = 1;
  Secure secure(options);
  HttpClient silent(secure.port());
  WaitFor([&] { return secure.running.metrics.connections == 1; });
  HttpClient other(secure.port(), secure.client());
  EXPECT_EQ(other.Get("/").status, 200);
  EXPECT_TRUE(silent.ClosedByServer());
}

TEST(Https, ShutdownEndsConnectionsInOrder) {
  Secure secure;
  HttpClient idle(secure.port(), secure.client()), handshaking(secure.port());
  EXPECT_EQ(idle.Get("/").status, 200);
  WaitFor([&] { return secure.running.metrics.connections == 2; });
  std::thread shutdown([&] { secure.running.server->Shutdown(absl::Now() + absl::Seconds(60)); });
  EXPECT_TRUE(idle.ClosedByServer());
  EXPECT_TRUE(idle.EndedInOrder());
  EXPECT_TRUE(handshaking.ClosedByServer());
  shutdown.join();
}

TEST(Https, ExchangesItsCertificateUnderOpenStreams) {
  Secure secure;
  std::vector<std::unique_ptr<HttpClient>> viewers;
  std::vector<Echo::Feed*> feeds;
  for (int i = 0; i < 20; ++i) {
    viewers.push_back(std::make_unique<HttpClient>(secure.port(), secure.client()));
    EXPECT_EQ(viewers.back()->Open("/stream").status, 200);
    feeds.push_back(secure.running.echo.last_feed);
  }
  secure.files.Write(secure.files.authority.Issue());
  secure.live->Look();
  HttpClient later(secure.port(), secure.client());
  EXPECT_EQ(later.Get("/").status, 200);
  EXPECT_NE(later.ServerSerial(), viewers.front()->ServerSerial());
  for (Echo::Feed* const feed : feeds) {
    secure.running.loop.Post([feed] {
      feed->Add("data: after\n\n");
      feed->End();
    });
  }
  for (const auto& viewer : viewers) {
    EXPECT_EQ(viewer->Next()->data, "after");
    EXPECT_FALSE(viewer->Next().has_value());
  }
}

TEST(Https, WantsACertificateOfItsClientsAuthority) {
  Secure secure;
  const Authority of_clients("of clients");
  secure.files.AskClients(of_clients);
  const auto live = Live(secure.files, secure.files.client_ca());
  HttpServerOptions options;
  options.tls = live.get();
  Running running(options);
  ClientTls tls = secure.client();
  const auto get = [&](const Identity& identity) {
    tls.certificate = identity.certificate;
    tls.key = identity.key;
    HttpClient client(running.port(), tls);
    return client.Get("/").status;  // TLS 1.3 tells a client after its own part of the handshake
  };
  EXPECT_EQ(get(of_clients.Issue()), 200);
  EXPECT_EQ(get({}), 0);
  EXPECT_EQ(get(secure.files.authority.Issue()), 0);
  const absl::Time past = absl::Now() - absl::Hours(1);
  EXPECT_EQ(get(of_clients.Issue("DNS:old", {.from = past - absl::Hours(1), .to = past})), 0);
}

}  // namespace
}  // namespace attnprune::http
