#include "server/grpc/received_bytes.h"

#include <linux/tcp.h>  // glibc's own tcp_info ends before what is asked
#include <netinet/in.h>
#include <sys/socket.h>

namespace attnprune::rpc {

int64_t ReceivedBytes(int fd) {
  tcp_info facts{};
  socklen_t size = sizeof(facts);
  if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &facts, &size) != 0) return 0;
  return static_cast<int64_t>(facts.tcpi_bytes_received);
}

}  // namespace attnprune::rpc
