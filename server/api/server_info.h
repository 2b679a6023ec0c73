// What GetServerInfo says of the program and the machine.
#ifndef ATTNPRUNE_SERVER_API_SERVER_INFO_H_
#define ATTNPRUNE_SERVER_API_SERVER_INFO_H_

#include "attnprune/v1/prune_service.pb.h"

namespace attnprune::api {

// Version, CPU, BLAS and every method with its parameters.
v1::ServerInfo DescribeBuild();

}  // namespace attnprune::api

#endif  // ATTNPRUNE_SERVER_API_SERVER_INFO_H_
