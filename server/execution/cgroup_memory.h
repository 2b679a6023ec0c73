// The memory that a container, a systemd unit or a pod's cgroup leaves this process.
#ifndef ATTNPRUNE_SERVER_EXECUTION_CGROUP_MEMORY_H_
#define ATTNPRUNE_SERVER_EXECUTION_CGROUP_MEMORY_H_

#include <cstdint>
#include <string>

#include "absl/types/optional.h"

namespace attnprune {

// The smallest limit, in bytes, of the cgroup that this process is in and of all those above it:
// each binds. Nothing where none has one. Reads ROOT/proc/self/cgroup and below ROOT/sys/fs/cgroup:
//
//   0::/system.slice/attnprune.service     version 2: memory.max of that folder and its parents,
//                                          also where version 1 is mounted beside it (unified/)
//   4:memory:/docker/0123                  version 1: memory.limit_in_bytes, below memory/
//
// A container may see its own cgroup as the topmost one while the file has the host's path:
// folders that are not there are passed over. root: "/" but in tests.
absl::optional<int64_t> CgroupMemoryLimit(const std::string& root);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_EXECUTION_CGROUP_MEMORY_H_
