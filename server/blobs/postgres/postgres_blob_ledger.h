// A blob ledger in the database of a PostgreSQL job store.
#ifndef ATTNPRUNE_SERVER_BLOBS_POSTGRES_POSTGRES_BLOB_LEDGER_H_
#define ATTNPRUNE_SERVER_BLOBS_POSTGRES_POSTGRES_BLOB_LEDGER_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/base/clock.h"
#include "server/blobs/shared/blob_ledger.h"
#include "server/queue/postgres/connection_pool.h"

namespace attnprune::postgres {

struct PostgresBlobLedgerOptions {
  std::string url, password_file;  // as PostgresJobStoreOptions
  int max_connections = 4;
  absl::Duration statement_timeout = absl::Seconds(10);
  const Clock* clock = nullptr;  // nullptr: the database's. For tests
};

// Its tables are those of postgres_schema.h, which a job store has made.
class PostgresBlobLedger final : public BlobLedger {
 public:
  static absl::StatusOr<std::unique_ptr<PostgresBlobLedger>> Open(
      const PostgresBlobLedgerOptions& options);

  absl::StatusOr<std::string> PlaceId() override;
  absl::StatusOr<std::vector<StoredBlob>> Touch(absl::Span<const std::string> digests) override;
  absl::StatusOr<absl::optional<StoredBlob>> Find(const std::string& sha256) override;
  absl::StatusOr<std::vector<BlobFacts>> List(const std::string& after, int limit) override;
  absl::StatusOr<std::vector<BlobFacts>> LookAt(absl::Span<const std::string> digests) override;
  absl::Status Reserve(const SpareObject& object) override;
  absl::StatusOr<SpareObjects> Publish(const StoredBlob& blob) override;
  absl::StatusOr<SpareObjects> Withdraw(const StoredBlob& blob, Fate fate) override;

  absl::StatusOr<HeldUpload> Hold(const UploadSpec& spec, int64_t offset, const std::string& holder,
                                  absl::Duration lease, const BlobStoreLimits& limits) override;
  absl::Status Renew(absl::Span<const std::string> holders, absl::Duration lease) override;
  absl::Status EndHoldsOf(const std::string& name) override;
  absl::StatusOr<SpareObjects> Record(const std::string& key, const std::string& holder,
                                      const UploadExtent& extent) override;
  absl::StatusOr<SpareObjects> Release(const std::string& key, const std::string& holder,
                                       const UploadExtent& extent) override;
  absl::StatusOr<SpareObjects> Drop(const std::string& key, const std::string& holder) override;
  absl::StatusOr<SpareObjects> DropUnlessHeld(const std::string& key) override;
  absl::StatusOr<int64_t> CommittedBytes(const std::string& key) override;
  absl::StatusOr<std::vector<UploadFacts>> ListUploads(const absl::optional<std::string>& tenant,
                                                       const std::string& after,
                                                       int limit) override;

  absl::StatusOr<bool> TakeDuty(const std::string& duty, const std::string& holder,
                                absl::Duration lease) override;
  absl::StatusOr<std::vector<std::string>> FindOld(absl::Duration grace) override;
  absl::StatusOr<Collected> TakeOut(absl::Span<const std::string> digests,
                                    absl::Duration grace) override;
  absl::StatusOr<int64_t> DropOld(absl::Duration grace,
                                  absl::Span<const std::string> holders) override;
  absl::StatusOr<SpareObjects> FindSpare(absl::Duration lapse, int limit) override;
  absl::Status Forget(absl::Span<const std::string> objects) override;
  absl::StatusOr<LedgerFigures> Figures(absl::Span<const std::string> holders) override;

 private:
  struct Turn {  // a transaction under way
    Connection& connection;
    int64_t now;  // nanoseconds since 1970
  };
  using Body = absl::FunctionRef<absl::Status(const Turn&)>;

  PostgresBlobLedger(const PostgresBlobLedgerOptions& options, const StoreUrl& url);

  absl::Status Write(Body body);
  absl::StatusOr<std::vector<BlobFacts>> ReadFacts(const std::string& which,
                                                   absl::Span<const Value> values);
  absl::Status WriteOnce(Connection& connection, Body body);
  static absl::StatusOr<SpareObjects> MakeSpare(const Turn& turn,
                                                absl::Span<const std::string> objects);
  static absl::Status ReplaceSmaller(const Turn& turn, const StoredBlob& blob,
                                     const std::string& former, SpareObjects& spare);
  static absl::StatusOr<HeldUpload> BeginAnew(const Turn& turn, const UploadSpec& spec,
                                              const std::string& holder, int64_t until,
                                              const std::vector<std::string>& former);
  static absl::Status MakeRoom(const Turn& turn, const BlobStoreLimits& limits);
  static absl::StatusOr<SpareObjects> Delete(const Turn& turn, const std::string& condition,
                                             absl::Span<const Value> values, int64_t* count);

  const Clock* const clock_;
  const std::string begin_;
  ConnectionPool pool_;
};

// For string_to_array(…, '\n').
std::string Lines(absl::Span<const std::string> texts);

}  // namespace attnprune::postgres

#endif  // ATTNPRUNE_SERVER_BLOBS_POSTGRES_POSTGRES_BLOB_LEDGER_H_
