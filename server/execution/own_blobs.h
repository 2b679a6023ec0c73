// Bulk that a run keeps in the blob store for itself: hidden states, moments. A tail behind the
// bytes makes each blob the run's own, so that it can remove it.
#ifndef ATTNPRUNE_SERVER_EXECUTION_OWN_BLOBS_H_
#define ATTNPRUNE_SERVER_EXECUTION_OWN_BLOBS_H_

#include <string>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "server/execution/claimed_job.h"

namespace attnprune {

template <typename T>
absl::Span<const char> BytesOf(absl::Span<const T> values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T)};
}

template <typename T>
absl::Span<char> MutableBytesOf(absl::Span<T> values) {
  return {reinterpret_cast<char*>(values.data()), values.size() * sizeof(T)};
}

// Fills `out` with the blob's bytes before its tail, once its digest is checked. DATA_LOSS: it is
// damaged or has another size; NOT_FOUND; CANCELLED: the job is to stop.
absl::Status ReadOwnBlob(ClaimedJob& job, const std::string& digest, const std::string& tail,
                         absl::Span<char> out);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_EXECUTION_OWN_BLOBS_H_
