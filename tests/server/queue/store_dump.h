// All that a job store holds, as text to compare.
#ifndef ATTNPRUNE_TESTS_SERVER_QUEUE_STORE_DUMP_H_
#define ATTNPRUNE_TESTS_SERVER_QUEUE_STORE_DUMP_H_

#include <string>
#include <vector>

#include "server/queue/job_store.h"

namespace attnprune::testing {

// Whether state events' reasons and failure messages, which are for people, are part of the dump.
enum class Wording { kExact, kLeftOut };

std::string DumpJob(const JobRecord& job, const std::vector<StoredEvent>& events, Wording wording);

// Jobs in order of creation, named by it, with their events; then the tensors referred to.
// A failed read is part of the text, with "ERROR".
std::string DumpStore(JobStore& store);

// Claims every queued job for its checkpoint: not for a store that is still to be used.
std::string DumpCheckpoints(JobStore& store);

}  // namespace attnprune::testing

#endif  // ATTNPRUNE_TESTS_SERVER_QUEUE_STORE_DUMP_H_
