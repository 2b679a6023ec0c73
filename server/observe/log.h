// Structured logs: one line an event, on stderr, for people or for machines.
#ifndef ATTNPRUNE_SERVER_OBSERVE_LOG_H_
#define ATTNPRUNE_SERVER_OBSERVE_LOG_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace attnprune {

enum class LogFormat {
  kText,  // 2026-01-31T12:00:00.000Z info job.state job=jobs/x state=RUNNING
  kJson,  // {"time":"2026-01-31T12:00:00.000Z","level":"info","message":"job.state","job":"jobs/x"}
};
enum class LogLevel { kDebug, kInfo, kWarning, kError };

// Before the first line; otherwise text from kInfo on, to stdout at once. Not thread-safe. From
// here on no line waits for stderr's reader: while it takes none, the newest are dropped
// (log_queue.h), and a line "log.dropped" stands in their place.
void StartLogging(LogFormat format, LogLevel lowest);

// Waits until all lines are written, at most so long: before the process ends, which loses others.
void FlushLog(absl::Duration timeout);

// Of this process. Thread-safe.
int64_t DroppedLogLines();

using LogFields = std::vector<std::pair<std::string, std::string>>;

// Whether a line of that level is written. Thread-safe.
bool Logs(LogLevel level);

// Thread-safe; a line is written whole. Values with anything but plain characters are quoted. JSON
// is valid whatever the bytes: those that are no UTF-8 are replaced. No field may be named time,
// level or message.
void Log(LogLevel level, absl::string_view event, const LogFields& fields = {});

// The line without time and level, for tests: "job.state job=jobs/x", or JSON's part after level.
std::string FormatEvent(LogFormat format, absl::string_view event, const LogFields& fields);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_OBSERVE_LOG_H_
