// How much a peer has sent.
#ifndef ATTNPRUNE_SERVER_GRPC_RECEIVED_BYTES_H_
#define ATTNPRUNE_SERVER_GRPC_RECEIVED_BYTES_H_

#include <cstdint>

namespace attnprune::rpc {

// By a TCP connection since it was made, what nobody has read yet included; 0: the system does not
// tell.
int64_t ReceivedBytes(int fd);

}  // namespace attnprune::rpc

#endif  // ATTNPRUNE_SERVER_GRPC_RECEIVED_BYTES_H_
