// The job store's news as log lines.
#ifndef ATTNPRUNE_SERVER_OBSERVE_JOB_LOG_H_
#define ATTNPRUNE_SERVER_OBSERVE_JOB_LOG_H_

#include <string>

#include "server/jobs/job_store.h"

namespace attnprune {

// One line an event; progress at debug level, warnings and failed jobs at warning level.
// Thread-safe.
class JobLog final : public JobStoreListener {
 public:
  void OnEvents(const std::string& job_id, absl::Span<const StoredEvent> events) override;
  void OnCancelRequested(const std::string& job_id) override;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_OBSERVE_JOB_LOG_H_
