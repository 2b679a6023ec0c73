// How fast a tenant's uploads may come, all of them together.
#ifndef ATTNPRUNE_SERVER_API_UPLOAD_PACE_H_
#define ATTNPRUNE_SERVER_API_UPLOAD_PACE_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/time/time.h"
#include "core/base/clock.h"
#include "core/base/mutex.h"

namespace attnprune::api {

// Thread-safe.
class UploadPace {
 public:
  // bytes_per_second 0: no limit. clock must outlive it.
  UploadPace(int64_t bytes_per_second, const Clock* clock)
      : bytes_per_second_(bytes_per_second), clock_(clock) {}

  // So many bytes of that tenant's have come: how long to wait before more are read. What was not
  // used counts for a second; streams of one tenant wait for each other's bytes too.
  absl::Duration After(const std::string& tenant, int64_t bytes);

 private:
  const int64_t bytes_per_second_;
  const Clock* const clock_;
  Mutex mutex_;
  // When all that has come would have come at that rate.
  std::map<std::string, absl::Time> due_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace attnprune::api

#endif  // ATTNPRUNE_SERVER_API_UPLOAD_PACE_H_
