// Page tokens of List: where the page before ended and for which filter it was.
#ifndef ATTNPRUNE_SERVER_QUEUE_PAGE_TOKEN_H_
#define ATTNPRUNE_SERVER_QUEUE_PAGE_TOKEN_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/queue/job_store.h"

namespace attnprune {

// Base64url of 24 bytes, little-endian: the filter's hash, the number, the hash of these two.
std::string EncodePageToken(const JobFilter& filter, int64_t last_number);

// The number. INVALID_ARGUMENT naming page_token: not such a token, or of another filter.
absl::StatusOr<int64_t> DecodePageToken(const JobFilter& filter, absl::string_view token);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_QUEUE_PAGE_TOKEN_H_
