// The blob store of any number of servers: tensors as objects of one place, and a ledger of them in
// the servers' database.
//
//   sha256/ab/<64 digits>.<32 digits>   a tensor, or one being written; the ledger says which
//   uploads/<32 digits>                 what came of an upload behind its last whole part
//   place                               the id of the database that the place is of
//
// An upload's bytes wait in nameless files of this machine's until they are a part (8 MiB) that is
// sent. A kill loses what was not, two parts at most, CommittedBytes tells; a stream that just
// breaks loses none. An upload that went on after a break, or at another server, is read once at
// its end, to be hashed: parts cannot be read before.
//
// Where objects are no files of this machine's, tensors are read from copies in a cache; the digest
// is checked whenever one is made.
#ifndef ATTNPRUNE_SERVER_BLOBS_SHARED_SHARED_BLOB_STORE_H_
#define ATTNPRUNE_SERVER_BLOBS_SHARED_SHARED_BLOB_STORE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/blobs/blob_store.h"
#include "server/blobs/shared/blob_ledger.h"
#include "server/objects/object_place.h"

namespace attnprune {

struct SharedBlobStoreOptions {
  std::string local_folder;  // of this server alone: has uploads/ and cache/, which are made
  std::string name;          // of this server alone, and kept when it starts again: a word
  BlobStoreLimits limits;    // for all servers together; what others take is known a second later
  int64_t min_free_disk_bytes = int64_t{64} << 20;  // of local_folder's disk, beside uploads
  int64_t cache_bytes = int64_t{32} << 30;
  int64_t largest_put_bytes = int64_t{256} << 20;  // a result above that is stored in parts
};

// FAILED_PRECONDITION: the place is another database's, or not that of the ledger's tensors;
// else the errors of place and ledger.
absl::StatusOr<std::unique_ptr<BlobStore>> OpenSharedBlobStore(
    const SharedBlobStoreOptions& options, std::shared_ptr<ObjectPlace> place,
    std::unique_ptr<BlobLedger> ledger);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_BLOBS_SHARED_SHARED_BLOB_STORE_H_
