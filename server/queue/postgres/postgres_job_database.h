// A job database in PostgreSQL: transactions, tried again where that is safe.
#ifndef ATTNPRUNE_SERVER_QUEUE_POSTGRES_POSTGRES_JOB_DATABASE_H_
#define ATTNPRUNE_SERVER_QUEUE_POSTGRES_POSTGRES_JOB_DATABASE_H_

#include <memory>

#include "absl/status/statusor.h"
#include "server/queue/job_rows.h"
#include "server/queue/postgres/postgres_job_store.h"

namespace attnprune::postgres {

// As OpenPostgresJobStore says of the database.
absl::StatusOr<std::unique_ptr<JobDatabase>> OpenPostgresJobDatabase(
    const PostgresJobStoreOptions& options);

}  // namespace attnprune::postgres

#endif  // ATTNPRUNE_SERVER_QUEUE_POSTGRES_POSTGRES_JOB_DATABASE_H_
