// The job store's news as log lines.
#ifndef ATTNPRUNE_SERVER_OBSERVE_JOB_LOG_H_
#define ATTNPRUNE_SERVER_OBSERVE_JOB_LOG_H_

#include <map>
#include <string>

#include "absl/status/status.h"
#include "core/base/mutex.h"
#include "server/observe/log.h"
#include "server/queue/job_store.h"

namespace attnprune {

// One line an event; progress at debug level, warnings and failed jobs at warning level. Every line
// of a job names the request that made it, where that is known. Thread-safe.
class JobLog final : public JobStoreListener {
 public:
  void OnEvents(const std::string& job_id, absl::Span<const StoredEvent> events) override;
  void OnCancelRequested(const std::string& job_id) override;
  void OnRemoteChange(const JobChange& job) override;  // no line: that server has written it

  // A job's figures cannot be written, or a store does not answer. job_id: empty if it is no job's.
  void OnTrouble(const std::string& job_id, const absl::Status& status);

 private:
  LogFields FieldsOf(const std::string& job_id) const;

  mutable Mutex mutex_;
  std::map<std::string, JobOrigin> origins_ ABSL_GUARDED_BY(mutex_);  // of jobs that have not ended
};

// request_id, trace_id and span_id, those that are known: of the call that made the job.
LogFields FieldsOf(const JobOrigin& origin);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_OBSERVE_JOB_LOG_H_
