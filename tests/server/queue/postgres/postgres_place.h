// Servers of one database and one folder of checkpoints, in one process.
#ifndef ATTNPRUNE_TESTS_SERVER_QUEUE_POSTGRES_POSTGRES_PLACE_H_
#define ATTNPRUNE_TESTS_SERVER_QUEUE_POSTGRES_POSTGRES_PLACE_H_

#include <iostream>
#include <memory>
#include <string>
#include <utility>

#include "server/queue/postgres/postgres_job_store.h"
#include "tests/server/queue/postgres/postgres_server.h"
#include "tests/server/queue/test_places.h"

namespace attnprune::testing {

inline constexpr absl::Duration kTestLease = absl::Seconds(30);

class SharedDatabase {
 public:
  // Of a server named `owner`, by the database's clock.
  PostgresJobStoreOptions OptionsOf(const std::string& owner) const {
    PostgresJobStoreOptions options;
    options.url = url_;
    options.checkpoint_folder = folder_ / "checkpoints";
    options.tensors = "here";
    options.owner = owner;
    return options;
  }
  static std::unique_ptr<JobStore> Open(const PostgresJobStoreOptions& options) {
    auto store = OpenPostgresJobStore(options);
    if (!store.ok()) {
      std::cerr << "cannot open the store: " << store.status() << "\n";
      std::abort();  // no test can go on
    }
    return *std::move(store);
  }
  std::unique_ptr<JobStore> Open(const std::string& owner) const { return Open(OptionsOf(owner)); }
  // A session of the test's own.
  postgres::Connection Connect() const { return PostgresServer::Shared().Connect(url_); }
  // The only value of a statement's only row.
  std::string Ask(const std::string& sql) const {
    postgres::Connection connection = Connect();
    const auto result = connection.Script(sql);
    if (!result.ok()) return result.status().ToString();
    return result->rows() == 0 ? "" : result->Text(0, 0);
  }

  const std::string& url() const { return url_; }
  const ScratchFolder& folder() const { return folder_; }

 private:
  ScratchFolder folder_;
  const std::string url_ = PostgresServer::Shared().NewDatabase();
};

}  // namespace attnprune::testing

#endif  // ATTNPRUNE_TESTS_SERVER_QUEUE_POSTGRES_POSTGRES_PLACE_H_
