// The keys with which requests to S3 are signed.
#ifndef ATTNPRUNE_SERVER_OBJECTS_S3_KEYS_H_
#define ATTNPRUNE_SERVER_OBJECTS_S3_KEYS_H_

#include <string>

#include "absl/time/time.h"

namespace attnprune {

struct S3Keys {
  std::string id, secret, session_token = {};  // the last may be empty
  absl::Time expires = absl::InfiniteFuture();
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_OBJECTS_S3_KEYS_H_
