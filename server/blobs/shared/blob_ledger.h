// What a shared blob store knows of its tensors, in a database that all its servers have: which
// are there, under which objects, since when nobody asked for them, and how far each upload is. The
// place of the objects has bytes alone.
//
// Every object has a name of its own, used once: a tensor that is stored again is another object.
// Before it is written the ledger is told (Reserve), so that nothing is left that nobody knows of,
// and what is removed is first struck out here: a removal, however late, meets no new tensor.
#ifndef ATTNPRUNE_SERVER_BLOBS_SHARED_BLOB_LEDGER_H_
#define ATTNPRUNE_SERVER_BLOBS_SHARED_BLOB_LEDGER_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "server/blobs/blob_store.h"
#include "server/blobs/upload_spec.h"

namespace attnprune {

struct StoredBlob {
  std::string sha256, object;
  int64_t size = 0;
};

// An object that is of no use, to be removed and then forgotten.
struct SpareObject {
  std::string object;
  std::string writing = {};  // of its parts (ObjectPlace::BeginParts); empty: it has none
};
using SpareObjects = std::vector<SpareObject>;

// How far an upload is: whole parts of an object, and what came behind them as one of its own.
struct UploadExtent {
  std::string object, writing;     // empty: no part yet
  std::vector<std::string> parts;  // as ObjectPlace::PutPart told of them
  int64_t part_bytes = 0;
  std::string tail;  // object; empty: none
  int64_t tail_bytes = 0;

  int64_t bytes() const { return part_bytes + tail_bytes; }
};

struct HeldUpload {
  UploadExtent extent;
  SpareObjects spare;  // of what was there before, where it begins anew
};

struct LedgerFigures {
  int64_t blobs = 0, blob_bytes = 0;
  int64_t uploads = 0, upload_bytes = 0;
  std::map<std::string, int64_t> upload_bytes_of;  // by tenant
};

// Thread-safe. Times are the database's. Every call is one transaction, which can be repeated
// where its answer was lost. UNAVAILABLE: the database does not answer.
class BlobLedger {
 public:
  virtual ~BlobLedger() = default;

  // 32 digits, drawn once for the database, by which its place is known.
  virtual absl::StatusOr<std::string> PlaceId() = 0;

  // --- Tensors ---

  // Those that are there; their grace begins anew.
  virtual absl::StatusOr<std::vector<StoredBlob>> Touch(absl::Span<const std::string> digests) = 0;
  virtual absl::StatusOr<absl::optional<StoredBlob>> Find(const std::string& sha256) = 0;
  // As BlobStore::List and LookAt.
  virtual absl::StatusOr<std::vector<BlobFacts>> List(const std::string& after, int limit) = 0;
  virtual absl::StatusOr<std::vector<BlobFacts>> LookAt(absl::Span<const std::string> digests) = 0;
  // The object is about to be written; once more with what writes its parts.
  virtual absl::Status Reserve(const SpareObject& object) = 0;
  // The reserved object, which is whole, is the tensor from now on, unless another of this size is:
  // then it is spare. One of another size is replaced. ABORTED: the reservation has lapsed.
  virtual absl::StatusOr<SpareObjects> Publish(const StoredBlob& blob) = 0;
  enum class Fate { kSpare, kKept };  // kept: for the operator; nobody removes it
  // The tensor is there no more, if the object still is it.
  virtual absl::StatusOr<SpareObjects> Withdraw(const StoredBlob& blob, Fate fate) = 0;

  // --- Uploads, each by UploadSpec::Key ---

  // Makes `holder` the upload's only writer, for `lease` unless it renews; errors as of
  // BlobStore::StartUpload.
  virtual absl::StatusOr<HeldUpload> Hold(const UploadSpec& spec, int64_t offset,
                                          const std::string& holder, absl::Duration lease,
                                          const BlobStoreLimits& limits) = 0;
  virtual absl::Status Renew(absl::Span<const std::string> holders, absl::Duration lease) = 0;
  // Ends the holds of a server of this name that is no more: holders "NAME/…".
  virtual absl::Status EndHoldsOf(const std::string& name) = 0;
  // How far it now is. A tail that was there before is spare. ABORTED: another holds it.
  virtual absl::StatusOr<SpareObjects> Record(const std::string& key, const std::string& holder,
                                              const UploadExtent& extent) = 0;
  // Record, and nobody holds it; where it has no bytes it is forgotten.
  virtual absl::StatusOr<SpareObjects> Release(const std::string& key, const std::string& holder,
                                               const UploadExtent& extent) = 0;
  virtual absl::StatusOr<SpareObjects> Drop(const std::string& key, const std::string& holder) = 0;
  virtual absl::StatusOr<SpareObjects> DropUnlessHeld(const std::string& key) = 0;
  virtual absl::StatusOr<int64_t> CommittedBytes(const std::string& key) = 0;
  // As BlobStore::ListUploads, as far as each is recorded.
  virtual absl::StatusOr<std::vector<UploadFacts>> ListUploads(
      const absl::optional<std::string>& tenant, const std::string& after, int limit) = 0;

  // --- Upkeep ---

  // Whether `holder` is to do the duty now: nobody else does until `lease` is over.
  virtual absl::StatusOr<bool> TakeDuty(const std::string& duty, const std::string& holder,
                                        absl::Duration lease) = 0;
  // Of tensors whose grace is over.
  virtual absl::StatusOr<std::vector<std::string>> FindOld(absl::Duration grace) = 0;
  // Strikes out those of them whose grace is still over. Their objects are spare (FindSpare).
  virtual absl::StatusOr<Collected> TakeOut(absl::Span<const std::string> digests,
                                            absl::Duration grace) = 0;
  // Drops uploads that nobody holds, nor one of `holders`, for as long. How many.
  virtual absl::StatusOr<int64_t> DropOld(absl::Duration grace,
                                          absl::Span<const std::string> holders) = 0;
  // Objects to be removed, those among them whose reservation is of before `lapse` ago.
  virtual absl::StatusOr<SpareObjects> FindSpare(absl::Duration lapse, int limit) = 0;
  virtual absl::Status Forget(absl::Span<const std::string> objects) = 0;
  // Of uploads, those of `holders` not counted.
  virtual absl::StatusOr<LedgerFigures> Figures(absl::Span<const std::string> holders) = 0;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_BLOBS_SHARED_BLOB_LEDGER_H_
