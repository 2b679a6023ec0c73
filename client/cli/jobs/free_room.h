// Whether this machine has room for work, asked before it begins.
#ifndef ATTNPRUNE_CLIENT_CLI_JOBS_FREE_ROOM_H_
#define ATTNPRUNE_CLIENT_CLI_JOBS_FREE_ROOM_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/types/optional.h"
#include "client/cli/files/job_tensors.h"

namespace attnprune::cli {

// What the kernel says programs can take without swapping (MemAvailable of ROOT/proc/meminfo), in
// bytes; nothing where it does not say. root: "" but in tests.
absl::optional<int64_t> FreeMemory(const std::string& root = "");

// RESOURCE_EXHAUSTED says what work of that memory lacks of `free`.
absl::Status CheckMemoryRoom(int64_t bytes, absl::optional<int64_t> free);

// RESOURCE_EXHAUSTED where the disk of `path`, which may not be there yet, has not so much free.
absl::Status CheckRoomAt(const std::string& path, int64_t bytes);

int64_t BytesOf(const JobTensors& tensors);
int64_t BytesOf(const std::string& source);  // of a file, or of all files in a folder

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_JOBS_FREE_ROOM_H_
