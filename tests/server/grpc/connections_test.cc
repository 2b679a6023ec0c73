// Who goes where too many come: connections and the messages of downloads.
#include "server/grpc/connections.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <utility>

#include "server/grpc/fair_share.h"

namespace attnprune::rpc {
namespace {

// Both ends of a connection on loopback.
class Pair {
 public:
  Pair() {
    const int listening = socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(address);
    auto* const plain = reinterpret_cast<sockaddr*>(&address);
    EXPECT_EQ(bind(listening, plain, size), 0);
    EXPECT_EQ(listen(listening, 1), 0);
    EXPECT_EQ(getsockname(listening, plain, &size), 0);
    client_ = socket(AF_INET, SOCK_STREAM, 0);
    EXPECT_EQ(connect(client_, plain, size), 0);
    server_ = accept(listening, nullptr, nullptr);
    close(listening);
  }
  ~Pair() {
    close(client_);
    if (server_ >= 0) close(server_);
  }

  int server() const { return server_; }
  std::string peer() const { return PeerOfSocket(server_); }
  // As gRPC does when the client has left.
  void CloseServer() { close(std::exchange(server_, -1)); }
  void Send(size_t bytes) const {
    const std::string data(bytes, 'x');
    EXPECT_EQ(send(client_, data.data(), bytes, 0), static_cast<ssize_t>(bytes));
  }
  bool is_shut() const {
    char byte = 0;
    return recv(client_, &byte, 1, MSG_DONTWAIT) == 0;
  }
  bool is_reset() const {
    char byte = 0;
    return recv(client_, &byte, 1, MSG_DONTWAIT) < 0 && errno == ECONNRESET;
  }
  // Bytes that came and were not read.
  ssize_t unread() const {
    std::string bytes(1 << 16, '\0');
    return recv(server_, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_PEEK);
  }

 private:
  int client_ = -1, server_ = -1;
};

TEST(Connections, OneMoreTakesThePlaceOfTheOldestThatWasNotLetIn) {
  Connections connections(3);
  const Pair used, idle, later, newest;
  for (const Pair* const pair : {&used, &idle, &later}) {
    EXPECT_TRUE(connections.Add(pair->server()));
  }
  connections.LetIn(used.peer(), "a");
  EXPECT_TRUE(connections.Add(newest.server()));
  EXPECT_TRUE(idle.is_shut());
  EXPECT_FALSE(used.is_shut()) << "calls come by it";
  EXPECT_FALSE(later.is_shut());
}

TEST(Connections, OneThatHasClosedMakesRoom) {
  Connections connections(2);
  Pair left;
  const Pair stays, newest;
  EXPECT_TRUE(connections.Add(left.server()));
  EXPECT_TRUE(connections.Add(stays.server()));
  left.CloseServer();
  EXPECT_TRUE(connections.Add(newest.server()));
  EXPECT_FALSE(stays.is_shut());
}

TEST(Connections, ATenantWithMoreThanHalfGivesWay) {
  Connections connections(3);
  const Pair of_other, first, second, newest;
  for (const Pair* const pair : {&of_other, &first, &second}) {
    EXPECT_TRUE(connections.Add(pair->server()));
  }
  connections.LetIn(of_other.peer(), "other");
  connections.LetIn(first.peer(), "greedy");
  connections.LetIn(second.peer(), "greedy");
  EXPECT_TRUE(connections.Add(newest.server()));
  EXPECT_TRUE(first.is_shut());
  EXPECT_FALSE(of_other.is_shut());
}

TEST(Connections, AreRefusedWhereTenantsShareThemAll) {
  Connections connections(2);
  const Pair a, b, newest;
  EXPECT_TRUE(connections.Add(a.server()));
  EXPECT_TRUE(connections.Add(b.server()));
  connections.LetIn(a.peer(), "a");
  connections.LetIn(b.peer(), "b");
  EXPECT_FALSE(connections.Add(newest.server()));
  EXPECT_FALSE(a.is_shut() || b.is_shut());
}

TEST(Connections, StrangersThatSentMuchAreClosedWithWhatTheySent) {
  Connections connections(4);
  const Pair loud, quiet, known;
  Pair left;
  for (const Pair* const pair : {&loud, &quiet, &known, static_cast<const Pair*>(&left)}) {
    EXPECT_TRUE(connections.Add(pair->server()));
  }
  loud.Send(5000);
  quiet.Send(1000);
  known.Send(5000);
  left.Send(5000);
  left.CloseServer();
  connections.LetIn(known.peer(), "a");
  EXPECT_EQ(connections.CloseStrangers(), 1);
  EXPECT_TRUE(loud.is_reset());
  EXPECT_LE(loud.unread(), 0);
  EXPECT_FALSE(quiet.is_reset() || known.is_reset());
  EXPECT_EQ(known.unread(), 5000);
  EXPECT_TRUE(connections.HasStrangers());
  connections.LetIn(quiet.peer(), "a");
  EXPECT_FALSE(connections.HasStrangers());
}

TEST(Connections, ADescriptorThatIsAnotherFileByNowIsLeftAlone) {
  Connections connections(1);
  Pair left;
  const Pair stranger, newest;
  EXPECT_TRUE(connections.Add(left.server()));
  const int number = left.server();
  left.CloseServer();
  ASSERT_EQ(dup2(stranger.server(), number), number);
  EXPECT_TRUE(connections.Add(newest.server()));
  EXPECT_FALSE(stranger.is_shut());
  close(number);
}

TEST(FairShare, LeavesAQuarterToOthersThanTheOneWhoTakesNothing) {
  FairShare budget(4);
  int sent = 0;
  for (int i = 0; i < 5; ++i) budget.Acquire("stalled", [&] { ++sent; });
  EXPECT_EQ(sent, 3);
  bool other = false;
  budget.Acquire("other", [&] { other = true; });
  EXPECT_TRUE(other);
  budget.Release("other");
  EXPECT_EQ(sent, 3) << "three quarters are its share";
  budget.Release("stalled");
  EXPECT_EQ(sent, 4);
}

TEST(FairShare, TenantsTakeTurns) {
  FairShare budget(1);
  std::string order;
  budget.Acquire("a", [&] { order += 'a'; });
  for (const char* const tenant : {"a", "a", "b", "c", "b"}) {
    budget.Acquire(tenant, [&order, tenant] { order += tenant; });
  }
  for (const char* const tenant : {"a", "b", "c", "a", "b", "a"}) budget.Release(tenant);
  EXPECT_EQ(order, "abcaba");
}

}  // namespace
}  // namespace attnprune::rpc
