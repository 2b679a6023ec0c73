// The conformance suite over PostgreSQL, and what only its store promises.
#include "server/queue/postgres/postgres_job_store.h"

#include <gmock/gmock.h>

#include <iostream>
#include <memory>
#include <string>

#include "tests/server/queue/job_store_conformance.h"
#include "tests/server/queue/postgres/postgres_server.h"
#include "tests/server/queue/test_places.h"

namespace attnprune::testing {
namespace {

// A database, a folder of checkpoints and one server.
class PostgresPlace final : public StoreUnderTest {
 public:
  PostgresPlace() { Open(); }
  JobStore& store() override { return *store_; }
  SteppedClock& clock() override { return clock_; }

  void Reopen() override {
    store_.reset();
    Open();
  }

 private:
  void Open() {
    auto store = OpenPostgresJobStore({.url = url_,
                                       .checkpoint_folder = folder_ / "checkpoints",
                                       .tensors = "here",
                                       .owner = "worker",
                                       .max_queued_jobs = kMaxQueued,
                                       .clock = &clock_});
    if (!store.ok()) {
      std::cerr << "cannot open the store: " << store.status() << "\n";
      std::abort();  // no test can go on
    }
    store_ = *std::move(store);
  }

  SteppedClock clock_;
  ScratchFolder folder_;
  const std::string url_ = PostgresServer::Shared().NewDatabase();
  std::unique_ptr<JobStore> store_;
};

INSTANTIATE_TEST_SUITE_P(Postgres, JobStoreConformance,
                         ::testing::Values([] { return std::make_unique<PostgresPlace>(); }),
                         [](const auto&) { return "JobStore"; });

}  // namespace
}  // namespace attnprune::testing
