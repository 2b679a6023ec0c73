// SHA-256, the name of a tensor (OpenSSL).
#ifndef ATTNPRUNE_CLIENT_LIBRARY_DIGEST_H_
#define ATTNPRUNE_CLIENT_LIBRARY_DIGEST_H_

#include <string>

#include "absl/types/span.h"

namespace attnprune::client {

// 64 lower-case hexadecimal digits. Pure.
std::string DigestOf(absl::Span<const char> bytes);

}  // namespace attnprune::client

#endif  // ATTNPRUNE_CLIENT_LIBRARY_DIGEST_H_
