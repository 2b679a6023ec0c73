// Shared blob stores of one place, a folder or a bucket, and one database, on one clock that the
// test moves.
#ifndef ATTNPRUNE_TESTS_SERVER_BLOBS_SHARED_SHARED_PLACE_H_
#define ATTNPRUNE_TESTS_SERVER_BLOBS_SHARED_SHARED_PLACE_H_

#include <cstdlib>
#include <iostream>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/blobs/postgres/postgres_blob_ledger.h"
#include "server/blobs/shared/shared_blob_store.h"
#include "server/objects/folder_objects.h"
#include "server/objects/s3_objects.h"
#include "server/queue/postgres/postgres_job_store.h"
#include "tests/server/blobs/store_fixture.h"
#include "tests/server/objects/s3_server.h"
#include "tests/server/queue/postgres/postgres_server.h"

namespace attnprune::testing {

enum class PlaceKind { kFolder, kBucket };

// A database with the tables of a job store, and none of the ledger's rows.
inline const std::string& EmptyDatabase() {
  static const std::string& url = *new std::string([] {
    const TempFolder folder;
    PostgresJobStoreOptions options;
    options.url = PostgresServer::Shared().NewDatabase();
    options.checkpoint_folder = folder.path();
    options.tensors = "shared";
    options.owner = "nobody";
    const auto made = OpenPostgresJobStore(options);
    if (!made.ok()) GiveUp(made.status().ToString());
    return options.url;
  }());
  const auto emptied = PostgresServer::Connect(url).Script(
      "DELETE FROM attnprune.blobs; DELETE FROM attnprune.blob_objects;"
      "DELETE FROM attnprune.blob_uploads; DELETE FROM attnprune.blob_place;"
      "DELETE FROM attnprune.duties");
  if (!emptied.ok()) GiveUp(emptied.status().ToString());
  return url;
}

class SharedPlace {
 public:
  explicit SharedPlace(PlaceKind kind) : kind_(kind), database_(EmptyDatabase()) {}

  FakeClock& clock() { return clock_; }
  const std::string& database() const { return database_; }

  std::shared_ptr<ObjectPlace> OpenObjects() const {
    auto place = kind_ == PlaceKind::kFolder ? OpenFolderObjects(folder_.path() + "/shared")
                                             : OpenS3Objects(Url(), S3Server::Shared().keys());
    if (!place.ok()) GiveUp(place.status().ToString());
    return *std::move(place);
  }
  std::unique_ptr<BlobLedger> OpenLedger() {
    return postgres::PostgresBlobLedger::Open({.url = database_, .clock = &clock_}).value();
  }
  // Of a server of this name; defaults but for its folder.
  SharedBlobStoreOptions OptionsOf(const std::string& name) const {
    return {.local_folder = absl::StrCat(folder_.path(), "/", name),
            .name = name,
            .min_free_disk_bytes = 0};
  }
  absl::StatusOr<std::unique_ptr<BlobStore>> TryOpen(const SharedBlobStoreOptions& options) {
    return OpenSharedBlobStore(options, OpenObjects(), OpenLedger());
  }
  std::unique_ptr<BlobStore> Open(const SharedBlobStoreOptions& options) {
    auto store = TryOpen(options);
    if (!store.ok()) GiveUp(store.status().ToString());
    return *std::move(store);
  }

  // The only value of a statement's only row.
  std::string Ask(const std::string& sql) const {
    const auto result = PostgresServer::Connect(database_).Script(sql);
    if (!result.ok()) GiveUp(result.status().ToString());
    return result->rows() == 0 ? "" : result->Text(0, 0);
  }
  std::string ObjectOf(const std::string& sha256) const {
    return Ask(absl::StrCat("SELECT object FROM attnprune.blobs WHERE digest = '", sha256, "'"));
  }
  std::string FileOf(const std::string& object) const {
    if (kind_ == PlaceKind::kFolder) return absl::StrCat(folder_.path(), "/shared/", object);
    return S3Server::Shared().FileOf(absl::StrCat(Url().prefix, "/", object));
  }

  // Objects that are neither tensors nor kept as damaged, half objects, and local files.
  int UnfinishedFiles() const {
    const std::shared_ptr<ObjectPlace> place = OpenObjects();
    const auto objects =
        static_cast<int>(place->List("sha256")->size() + place->List("uploads")->size());
    const int settled =
        std::stoi(Ask("SELECT count(*) FROM attnprune.blob_objects WHERE state IN (1, 3)"));
    const int parts = S3Server::Shared().CountParts() - others_parts_;
    const std::string local = folder_.path() + "/server/uploads";
    return objects - settled + parts + (std::filesystem::exists(local) ? FilesIn(local) : 0);
  }

 private:
  BlobsUrl Url() const {
    return S3Server::Shared().Url(folder_.path().substr(folder_.path().rfind('/') + 1));
  }

  const PlaceKind kind_;
  const TempFolder folder_;
  const std::string database_;
  const int others_parts_ = S3Server::Shared().CountParts();  // of tests before
  FakeClock clock_;
};

}  // namespace attnprune::testing

#endif  // ATTNPRUNE_TESTS_SERVER_BLOBS_SHARED_SHARED_PLACE_H_
