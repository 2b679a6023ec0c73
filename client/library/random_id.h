// Ids that no other client has.
#ifndef ATTNPRUNE_CLIENT_LIBRARY_RANDOM_ID_H_
#define ATTNPRUNE_CLIENT_LIBRARY_RANDOM_ID_H_

#include <string>

namespace attnprune::client {

// 32 hexadecimal digits of the system's randomness, for a request_id.
std::string RandomId();

}  // namespace attnprune::client

#endif  // ATTNPRUNE_CLIENT_LIBRARY_RANDOM_ID_H_
