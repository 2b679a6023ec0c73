// What the system says of this process and its disk.
#ifndef ATTNPRUNE_SERVER_OBSERVE_PROCESS_METRICS_H_
#define ATTNPRUNE_SERVER_OBSERVE_PROCESS_METRICS_H_

#include <string>

#include "server/observe/exposition.h"

namespace attnprune {

// process_*, from /proc. What cannot be read is left out.
void AddProcessMetrics(Exposition& out);

// attnprune_disk_*, of the file system that `folder` is on.
void AddDiskMetrics(const std::string& folder, Exposition& out);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_OBSERVE_PROCESS_METRICS_H_
