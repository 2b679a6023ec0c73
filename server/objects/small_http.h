// Requests for a few bytes, to addresses that answer at once or not at all.
#ifndef ATTNPRUNE_SERVER_OBJECTS_SMALL_HTTP_H_
#define ATTNPRUNE_SERVER_OBJECTS_SMALL_HTTP_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"

namespace attnprune {

// libcurl's, before its first use. Thread-safe.
void InitializeCurl();

struct SmallRequest {
  std::string url;
  std::vector<std::string> headers = {};  // "Name: value"
  bool put = false;                       // with an empty body; else a GET
  // Names and values of a form; not empty: a POST of it.
  std::vector<std::pair<std::string, std::string>> form = {};
};

struct SmallAnswer {
  int http = 0;      // the status code
  std::string body;  // 64 KiB at most
};

// UNAVAILABLE: no answer, or a longer one, after a second to connect and five in all. No proxy is
// used and no redirect followed; AWS_CA_BUNDLE has the authorities of https. Thread-safe.
absl::StatusOr<SmallAnswer> FetchSmall(const SmallRequest& request);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_OBJECTS_SMALL_HTTP_H_
