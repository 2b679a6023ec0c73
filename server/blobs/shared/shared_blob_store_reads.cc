// What a shared blob store does with a tensor that is there: finds, checks and reads it.
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/io/sha256.h"
#include "server/blobs/shared/shared_blobs.h"

namespace attnprune {
namespace {

constexpr size_t kMostWholeObjects = 10'000;
constexpr char kPlaceObject[] = "place";

}  // namespace

absl::Status WrongObjectSize(const std::string& sha256, int64_t wanted, int64_t size) {
  return absl::DataLossError(
      absl::StrCat("tensor ", sha256, ": must have ", wanted, " bytes, its object has ", size));
}

std::string NewBlobObject(const std::string& sha256) {
  return absl::StrCat("sha256/", sha256.substr(0, 2), "/", sha256, ".", RandomDigits());
}

absl::Status SharedBlobs::Open() {
  const std::string uploads = options_.local_folder + "/uploads";
  ATTNPRUNE_RETURN_IF_ERROR(MakeWritableFolder(options_.local_folder));
  ATTNPRUNE_RETURN_IF_ERROR(MakeWritableFolder(uploads));
  ATTNPRUNE_RETURN_IF_ERROR(CheckNoLink(uploads));
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListFolder(uploads));
  for (const std::string& name : names) RemoveFile(absl::StrCat(uploads, "/", name));
  ATTNPRUNE_ASSIGN_OR_RETURN(
      cache_, BlobCache::Open(options_.local_folder + "/cache", options_.cache_bytes));
  ATTNPRUNE_RETURN_IF_ERROR(CheckPlace());
  return ledger_->EndHoldsOf(options_.name);
}

// A place that is empty is taken by the first database that comes; one whose tensors are gone, an
// unmounted folder for one, is not.
absl::Status SharedBlobs::CheckPlace() {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::string id, ledger_->PlaceId());
  std::string found;
  absl::Status read = place_->Read(kPlaceObject, [&](absl::Span<const char> bytes) {
    if (found.size() <= id.size()) found.append(bytes.data(), bytes.size());
    return absl::OkStatus();
  });
  if (read.ok() && found == id) return absl::OkStatus();
  if (read.ok()) {
    return absl::FailedPreconditionError(
        absl::StrCat("blobs: must be a place of this database's own, got ", place_->display(),
                     ", which is another's: its object \"place\" says so"));
  }
  if (!absl::IsNotFound(read)) return read;
  ATTNPRUNE_ASSIGN_OR_RETURN(const LedgerFigures figures, ledger_->Figures({}));
  if (figures.blobs > 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("blobs: must be the place of the database's ", figures.blobs, " tensors, got ",
                     place_->display(), ", which has no object \"place\""));
  }
  const absl::Span<const char> pieces[] = {id};
  return place_->Put(kPlaceObject, pieces);
}

void SharedBlobs::Sweep(const SpareObjects& spare) const {
  std::vector<std::string> removed;
  for (const SpareObject& object : spare) {
    absl::Status status;
    if (!object.writing.empty()) status = place_->AbandonParts(object.object, object.writing);
    if (status.ok()) status = place_->Remove(object.object);
    if (status.ok()) removed.push_back(object.object);
  }
  ledger_->Forget(removed).IgnoreError();
}

absl::Status SharedBlobs::Publish(const StoredBlob& blob) {
  absl::StatusOr<SpareObjects> spare = ledger_->Publish(blob);
  held_.Invalidate();
  ATTNPRUNE_RETURN_IF_ERROR(spare.status());
  Sweep(*spare);
  return absl::OkStatus();
}

// Only a server that was stopped for hours, or a clock that was set, comes too late.
absl::Status SharedBlobs::PutNew(const std::string& sha256, int64_t size,
                                 absl::FunctionRef<absl::Status(const std::string& object)> put) {
  constexpr int kTries = 3;
  absl::Status status;
  for (int attempt = 0; attempt < kTries; ++attempt) {
    const std::string object = NewBlobObject(sha256);
    ATTNPRUNE_RETURN_IF_ERROR(ledger_->Reserve({object}));
    status = put(object);
    if (status.ok()) status = Publish({sha256, object, size});
    if (!absl::IsAborted(status)) return status;
  }
  return absl::UnavailableError(status.message());
}

absl::Status SharedBlobs::Withdraw(const StoredBlob& blob, BlobLedger::Fate fate) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const SpareObjects spare, ledger_->Withdraw(blob, fate));
  cache_->Drop(blob.sha256);
  held_.Invalidate();
  Sweep(spare);
  return absl::OkStatus();
}

absl::StatusOr<bool> SharedBlobs::IsIntact(const StoredBlob& blob) {
  const absl::StatusOr<int64_t> size = place_->SizeOf(blob.object);
  if (size.ok() && *size == blob.size) return true;
  if (!size.ok() && !absl::IsNotFound(size.status())) return size.status();
  ATTNPRUNE_RETURN_IF_ERROR(
      Withdraw(blob, size.ok() ? BlobLedger::Fate::kKept : BlobLedger::Fate::kSpare));
  return false;
}

absl::StatusOr<StoredBlob> SharedBlobs::Find(const std::string& sha256) const {
  if (!IsSha256(sha256)) return NoSuchTensor(sha256);
  ATTNPRUNE_ASSIGN_OR_RETURN(absl::optional<StoredBlob> blob, ledger_->Find(sha256));
  if (!blob.has_value()) return NoSuchTensor(sha256);
  return *std::move(blob);
}

BlobCache::Source SharedBlobs::SourceOf(const StoredBlob& blob) const {
  return [place = place_, blob](BlobCache::Visit visit) {
    const absl::Status read = place->Read(blob.object, visit);
    return absl::IsNotFound(read) ? NoSuchTensor(blob.sha256) : read;
  };
}

absl::StatusOr<std::shared_ptr<const File>> SharedBlobs::FetchCopy(const StoredBlob& blob,
                                                                   BlobCache::Check check) const {
  return cache_->Fetch(blob, check, SourceOf(blob));
}

// Who asks is told at once, not in the middle of an answer.
absl::StatusOr<std::unique_ptr<BlobReader>> SharedBlobs::FollowCopy(const StoredBlob& blob) const {
  if (!cache_->Has(blob.sha256)) {
    const absl::StatusOr<int64_t> size = place_->SizeOf(blob.object);
    if (absl::IsNotFound(size.status())) return NoSuchTensor(blob.sha256);
    ATTNPRUNE_RETURN_IF_ERROR(size.status());
    if (*size != blob.size) return WrongObjectSize(blob.sha256, blob.size, *size);
  }
  return cache_->Follow(blob, SourceOf(blob));
}

absl::Status SharedBlobs::HashObject(const StoredBlob& blob) const {
  Sha256 hash;
  int64_t size = 0;
  const absl::Status read = place_->Read(blob.object, [&](absl::Span<const char> bytes) {
    hash.Update(bytes);
    size += static_cast<int64_t>(bytes.size());
    return absl::OkStatus();
  });
  if (absl::IsNotFound(read)) return NoSuchTensor(blob.sha256);
  ATTNPRUNE_RETURN_IF_ERROR(read);
  const std::string got = hash.Finish();
  if (got == blob.sha256 && size == blob.size) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat("tensor ", blob.sha256, ": its ", size, " bytes now hash to ", got));
}

absl::Status SharedBlobs::Verify(const std::string& sha256) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const StoredBlob blob, Find(sha256));
  const bool is_file = !place_->FileOf(blob.object).empty();
  absl::Status status =
      is_file ? HashObject(blob) : FetchCopy(blob, BlobCache::Check::kNow).status();
  if (!absl::IsDataLoss(status)) return status;
  ATTNPRUNE_RETURN_IF_ERROR(Withdraw(blob, BlobLedger::Fate::kKept));
  return absl::DataLossError(
      absl::StrCat(status.message(), "; kept as ", blob.object, " of ", place_->display()));
}

absl::Status SharedBlobs::VerifyOnce(const std::string& sha256) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const StoredBlob blob, Find(sha256));
  {
    const MutexLock lock(&mutex_);
    if (whole_.count(blob.object) > 0) return absl::OkStatus();
  }
  ATTNPRUNE_RETURN_IF_ERROR(Verify(sha256));
  const MutexLock lock(&mutex_);
  if (whole_.size() >= kMostWholeObjects) whole_.clear();
  whole_.insert(blob.object);
  return absl::OkStatus();
}

}  // namespace attnprune
