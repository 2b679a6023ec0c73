// Connections, limits, streams and ends over real sockets, with a handler of the test's own.
#include "server/http/http_server.h"

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/http/web_metrics.h"
#include "tests/server/http/echo_server.h"
#include "tests/server/http/http_client.h"

namespace attnprune::http {
namespace {

using ::testing::HasSubstr;

TEST(HttpServer, AnswersManyRequestsOnOneConnection) {
  Running running;
  HttpClient client(running.port());
  for (int i = 0; i < 100; ++i) {
    const Received received = client.Ask("POST", absl::StrCat("/", i), "", "body");
    EXPECT_EQ(received.status, 200);
    EXPECT_EQ(received.body, absl::StrCat("/", i, " localhost body"));
  }
  EXPECT_EQ(running.metrics.connections, 1);
}

TEST(HttpServer, AnswersRequestsThatComeTogetherInOrder) {
  Running running;
  HttpClient client(running.port());
  client.Send("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
  EXPECT_EQ(client.Receive().body, "/1 a ");
  EXPECT_EQ(client.Receive().body, "/2 a ");
}

TEST(HttpServer, SendsNoBodyToHead) {
  Running running;
  HttpClient client(running.port());
  const Received head = client.Ask("HEAD", "/x");
  EXPECT_EQ(head.headers.at("content-length"), "13");
  EXPECT_EQ(client.Get("/y").body, "/y localhost ");
}

TEST(HttpServer, ClosesWhenAsked) {
  Running running;
  HttpClient client(running.port());
  const Received received = client.Get("/", "Connection: close\r\n");
  EXPECT_EQ(received.headers.at("connection"), "close");
  EXPECT_TRUE(client.ClosedByServer());
}

TEST(HttpServer, RefusesWhatIsNoRequest) {
  struct Row {
    std::string bytes;
    int status;
  };
  const std::string host = "Host: localhost\r\n";
  const Row rows[] = {
      {"\x16\x03\x01\x02 TLS says hello\r\n\r\n", 400},
      {"GET / HTTP/9.9\r\n\r\n", 400},
      {"GET nothing HTTP/1.1\r\n" + host + "\r\n", 400},
      {"GET /%00 HTTP/1.1\r\n" + host + "\r\n", 400},
      {"GET / HTTP/1.1\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\n" + host + host + "\r\n", 400},
      {"GET / HTTP/1.1\r\n" + host + "host: evil.example\r\n\r\n", 400},
      {"POST / HTTP/1.1\r\n" + host + "Content-Length: x\r\n\r\n", 400},
      {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip\r\n\r\n", 400},
      {"POST / HTTP/1.1\r\n" + host + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\n" + host + "Origin: http://localhost\r\nOrigin: http://a\r\n\r\n", 400},
      {"GET / HTTP/1.1\r\n" + host + "X: " + std::string(1 << 20, 'x') + "\r\n\r\n", 431},
      {"GET /" + std::string(1 << 18, 'x') + " HTTP/1.1\r\n" + host + "\r\n", 431},
      {"POST / HTTP/1.1\r\n" + host + "Content-Length: 1000000000\r\n\r\n", 413},
  };
  Running running;
  for (const Row& row : rows) {
    HttpClient client(running.port());
    client.Send(row.bytes);
    EXPECT_EQ(client.Receive().status, row.status) << row.bytes.substr(0, 40);
  }
  HttpClient client(running.port());
  EXPECT_EQ(client.Get("/still").status, 200);
}

TEST(HttpServer, ReadsNothingBehindATransferEncodingThatItDoesNotKnow) {
  Running running;
  HttpClient client(running.port());
  client.Send(
      "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n"
      "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
  const auto received = client.Receive();
  EXPECT_EQ(received.status, 400);
  EXPECT_EQ(received.headers.at("connection"), "close");
  EXPECT_TRUE(client.ClosedByServer());
}

TEST(HttpServer, LeavesARequestOfHttp10WithoutHostToTheHandler) {
  Running running;
  HttpClient client(running.port());
  client.Send("GET /old HTTP/1.0\r\n\r\n");
  EXPECT_EQ(client.Receive().body, "/old  ");
}

TEST(HttpServer, DropsWhoSaysNothingOrNotEnough) {
  HttpServerOptions options;
  options.request_timeout = absl::Milliseconds(50);
  Running running(options);
  HttpClient silent(running.port()), slow(running.port());
  slow.Send("GET / HTTP/1.1\r\nHost: lo");
  EXPECT_TRUE(silent.ClosedByServer());
  EXPECT_TRUE(slow.ClosedByServer());
}

TEST(HttpServer, TakesNoMoreConnectionsThanItMay) {
  HttpServerOptions options;
  options.max_connections = 2;
  Running running(options);
  {
    HttpClient viewer(running.port()), asker(running.port());
    EXPECT_EQ(viewer.Open("/stream").status, 200);
    asker.Send("GET /later HTTP/1.1\r\nHost: localhost\r\n\r\n");
    WaitFor([&] { return running.echo.asked_later == 1; });
    HttpClient three(running.port());
    EXPECT_EQ(three.Receive().status, 503);
    EXPECT_EQ(running.metrics.refused_connections.value(), 1);
    running.echo.later(Answer());
    EXPECT_EQ(asker.Receive().status, 200);
  }
  WaitFor([&] { return running.metrics.connections == 0; });
  HttpClient again(running.port());
  EXPECT_EQ(again.Get("/").status, 200);
}

// One that says nothing, one that stops within a request, one that has had its answer.
TEST(HttpServer, MakesRoomWhereConnectionsOnlyWaitLongestFirst) {
  HttpServerOptions options;
  options.max_connections = 3;
  Running running(options);
  HttpClient slow(running.port());
  slow.Send("GET / HTTP/1.1\r\nHost: lo");
  WaitFor([&] { return running.metrics.connections == 1; });
  HttpClient silent(running.port());
  WaitFor([&] { return running.metrics.connections == 2; });
  HttpClient idle(running.port());
  EXPECT_EQ(idle.Get("/").status, 200);
  HttpClient four(running.port());
  EXPECT_EQ(four.Get("/").status, 200);
  EXPECT_TRUE(slow.ClosedByServer());
  HttpClient five(running.port());
  EXPECT_EQ(five.Get("/").status, 200);
  EXPECT_TRUE(silent.ClosedByServer());
  EXPECT_EQ(idle.Get("/").status, 200);
  EXPECT_EQ(running.metrics.evicted_connections.value(), 2);
  EXPECT_EQ(running.metrics.refused_connections.value(), 0);
}

TEST(HttpServer, MakesRoomWhereAReaderTakesNothingOfHisAnswer) {
  HttpServerOptions options;
  options.max_connections = 1;
  Running running(options);
  HttpClient reader(running.port(), 4096);
  reader.Send("GET /later HTTP/1.1\r\nHost: localhost\r\n\r\n");
  WaitFor([&] { return running.echo.asked_later == 1; });
  Answer answer;
  answer.response.body = std::make_shared<const std::string>(8 << 20, 'x');
  running.echo.later(std::move(answer));
  HttpClient other(running.port());
  EXPECT_EQ(other.Get("/").status, 200);
}

TEST(HttpServer, SaysWhyItCannotListen) {
  Running running;
  HttpServerOptions options;
  options.listen = running.server->address();
  const absl::Status taken =
      HttpServer::Start(options, &running.loop, &running.echo, &running.metrics).status();
  EXPECT_EQ(taken.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(std::string(taken.message()), HasSubstr("Address already in use"));
}

TEST(HttpServer, StreamsPiecesAndEndsInOrder) {
  Running running;
  HttpClient client(running.port());
  EXPECT_EQ(client.Open("/stream").headers.at("transfer-encoding"), "chunked");
  for (const char* text : {"first", "second"}) {
    OnLoop(running, [text](Echo::Feed& feed) { feed.Add(absl::StrCat("data: ", text, "\n\n")); });
    EXPECT_EQ(client.Next()->data, text);
  }
  OnLoop(running, [](Echo::Feed& feed) { feed.End(); });
  EXPECT_FALSE(client.Next().has_value());
  EXPECT_TRUE(client.ClosedByServer());
  WaitFor([&] { return running.echo.streams == 0; });
}

TEST(HttpServer, NoticesAReaderWhoLeavesASilentStream) {
  Running running;
  {
    HttpClient client(running.port());
    client.Open("/stream");
    WaitFor([&] { return running.echo.streams == 1; });
  }
  WaitFor([&] { return running.echo.streams == 0; });
}

TEST(HttpServer, DropsAReaderOfAStreamWhoTakesNothing) {
  HttpServerOptions options;
  options.write_timeout = absl::Milliseconds(50);
  Running running(options);
  HttpClient client(running.port(), 4096);
  client.Open("/stream");
  OnLoop(running, [](Echo::Feed& feed) { feed.Add(std::string(8 << 20, 'x')); });
  WaitFor([&] { return running.echo.streams == 0; });
}

TEST(HttpServer, ShutdownEndsStreamsAndIdleConnectionsAndAnswersTheRest) {
  Running running;
  HttpClient idle(running.port()), viewer(running.port()), asker(running.port());
  EXPECT_EQ(idle.Get("/").status, 200);
  viewer.Open("/stream");
  OnLoop(running, [](Echo::Feed& feed) { feed.Add("data: 1\n\n"); });
  EXPECT_EQ(viewer.Next()->data, "1");
  asker.Send("GET /later HTTP/1.1\r\nHost: localhost\r\n\r\n");
  WaitFor([&] { return running.echo.asked_later == 1; });
  std::thread shutdown([&] { running.server->Shutdown(absl::Now() + absl::Seconds(60)); });
  EXPECT_TRUE(idle.ClosedByServer());
  EXPECT_FALSE(viewer.Next().has_value());
  Answer answer;
  answer.response.body = std::make_shared<const std::string>("at last");
  running.echo.later(std::move(answer));
  EXPECT_EQ(asker.Receive().body, "at last");
  shutdown.join();
  EXPECT_EQ(running.metrics.connections, 0);
}

TEST(HttpServer, ShutdownWaitsForNobodyBeyondItsDeadline) {
  Running running;
  HttpClient asker(running.port());
  asker.Send("GET /later HTTP/1.1\r\nHost: localhost\r\n\r\n");
  WaitFor([&] { return running.echo.asked_later == 1; });
  running.server->Shutdown(absl::Now() + absl::Milliseconds(20));
  EXPECT_EQ(asker.Receive().status, 0);
  running.echo.later(Answer());  // comes too late, and does no harm
}

// Streams leave what only the loop may touch, also when their connection has gone.
TEST(HttpServer, DestroysAStreamThatComesTooLateOnTheLoop) {
  Running running;
  HttpClient asker(running.port());
  asker.Send("GET /later HTTP/1.1\r\nHost: localhost\r\n\r\n");
  WaitFor([&] { return running.echo.asked_later == 1; });
  running.server->Shutdown(absl::InfinitePast());
  EXPECT_EQ(asker.Receive().status, 0);
  std::atomic<std::thread::id> loop_thread;
  running.loop.Post([&] { loop_thread = std::this_thread::get_id(); });
  WaitFor([&] { return loop_thread.load() != std::thread::id(); });
  Answer answer;
  answer.stream = std::make_unique<Echo::Feed>(&running.echo);
  running.echo.later(std::move(answer));
  WaitFor([&] { return running.echo.streams == 0; });
  EXPECT_EQ(running.echo.stream_ended_on.load(), loop_thread.load());
}

}  // namespace
}  // namespace attnprune::http
