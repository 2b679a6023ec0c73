// gzip, for what browsers and Prometheus load.
#ifndef ATTNPRUNE_SERVER_HTTP_COMPRESS_H_
#define ATTNPRUNE_SERVER_HTTP_COMPRESS_H_

#include <string>

#include "absl/strings/string_view.h"

namespace attnprune::http {

// level: 1 (fast) to 9 (small). Pure.
std::string Gzip(absl::string_view bytes, int level);

// Whether an Accept-Encoding header takes gzip: "gzip, deflate;q=0.5" does, "gzip;q=0" does not.
bool TakesGzip(absl::string_view accept_encoding);

}  // namespace attnprune::http

#endif  // ATTNPRUNE_SERVER_HTTP_COMPRESS_H_
