// The tables of the PostgreSQL job store, in a schema of their own.
#ifndef ATTNPRUNE_SERVER_QUEUE_POSTGRES_POSTGRES_SCHEMA_H_
#define ATTNPRUNE_SERVER_QUEUE_POSTGRES_POSTGRES_SCHEMA_H_

#include <string>

#include "absl/status/status.h"
#include "server/queue/postgres/connection.h"

namespace attnprune::postgres {

inline constexpr int64_t kSchemaVersion = 2;

// Makes the tables where there are none, or brings those of an older version up to date, once,
// whoever else tries to. A newer version's are used as they are where it says that this version
// can, so that old and new servers run side by side while they are exchanged; else
// FAILED_PRECONDITION.
//
// tensors: names the place where the jobs' tensors and checkpoints are, which is noted. Of a
// database that has jobs whose tensors are elsewhere: FAILED_PRECONDITION.
absl::Status PrepareSchema(Connection& connection, const std::string& tensors);

}  // namespace attnprune::postgres

#endif  // ATTNPRUNE_SERVER_QUEUE_POSTGRES_POSTGRES_SCHEMA_H_
