#include "server/blobs/shared/shared_blob_store.h"

#include <algorithm>
#include <atomic>
#include <map>
#include <set>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/clock.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "core/io/sha256.h"
#include "server/blobs/file_reader.h"
#include "server/blobs/shared/shared_blobs.h"
#include "server/blobs/shared/shared_upload.h"
#include "server/blobs/upload_rules.h"

namespace attnprune {
namespace {

constexpr char kCollecting[] = "collect tensors";
constexpr absl::Duration kCollectingLease = absl::Minutes(10);
constexpr absl::Duration kLeastLapse = absl::Hours(1);  // nobody writes one object for longer
constexpr size_t kAtOnce = 500;                         // tensors of one transaction
constexpr size_t kLookers = 8;  // threads that ask the place for many tensors

// The part of two spans, one behind the other, from `from` on, `size` bytes at most.
std::vector<absl::Span<const char>> Slice(absl::Span<const char> bytes, absl::string_view tail,
                                          size_t from, size_t size) {
  std::vector<absl::Span<const char>> pieces;
  if (from < bytes.size()) pieces.push_back(bytes.subspan(from, size));
  const size_t taken = pieces.empty() ? 0 : pieces[0].size();
  const size_t behind = from + taken - bytes.size();
  if (from + taken >= bytes.size() && taken < size && behind < tail.size()) {
    pieces.push_back(absl::MakeConstSpan(tail.data(), tail.size()).subspan(behind, size - taken));
  }
  return pieces;
}

class SharedBlobStore final : public BlobStore {
 public:
  SharedBlobStore(const SharedBlobStoreOptions& options, std::shared_ptr<ObjectPlace> place,
                  std::unique_ptr<BlobLedger> ledger)
      : blobs_(options, std::move(place), std::move(ledger)) {}

  // Nobody waits for what is still being fetched.
  ~SharedBlobStore() override { blobs_.place().Stop(); }

  absl::Status Open() { return blobs_.Open(); }

  absl::StatusOr<std::vector<std::string>> FindMissing(
      absl::Span<const std::string> digests) override;
  using BlobStore::StartUpload;
  absl::StatusOr<std::unique_ptr<Upload>> StartUpload(const UploadSpec& spec, int64_t offset,
                                                      IfStored if_stored) override;
  using BlobStore::CommittedBytes;
  absl::StatusOr<int64_t> CommittedBytes(const std::string& tenant,
                                         const std::string& upload_id) const override;
  using BlobStore::Put;
  absl::StatusOr<std::string> Put(absl::Span<const char> bytes, absl::string_view tail) override;
  absl::Status Remove(const std::string& sha256) override;
  absl::StatusOr<int64_t> SizeOf(const std::string& sha256) const override;
  absl::StatusOr<std::vector<BlobFacts>> List(const std::string& after, int limit) const override {
    return blobs_.ledger().List(after, limit);
  }
  absl::StatusOr<std::vector<BlobFacts>> LookAt(
      absl::Span<const std::string> digests) const override {
    return blobs_.ledger().LookAt(digests);
  }
  absl::StatusOr<std::vector<UploadFacts>> ListUploads(const absl::optional<std::string>& tenant,
                                                       const std::string& after,
                                                       int limit) const override;
  absl::StatusOr<MappedFile> Map(const std::string& sha256, int64_t size_bytes) const override;
  absl::StatusOr<std::unique_ptr<BlobReader>> OpenForReading(
      const std::string& sha256) const override;
  absl::Status Verify(const std::string& sha256) override { return blobs_.Verify(sha256); }
  absl::StatusOr<Collected> Collect(const std::unordered_set<std::string>& referenced,
                                    absl::Duration grace) override;
  BlobStoreUsage Usage() const override { return blobs_.held().Usage(); }
  int64_t UploadBytesOf(const std::string& tenant) const override {
    return blobs_.held().BytesOf(tenant);
  }
  absl::Status CheckInPlace() const override { return blobs_.place().Check(); }

 private:
  absl::StatusOr<std::set<std::string>> FindIntact(const std::vector<std::string>& digests);
  absl::StatusOr<bool> IsThere(const UploadSpec& spec, IfStored if_stored);
  absl::Status PutInParts(const std::string& object, absl::Span<const char> bytes,
                          absl::string_view tail);
  absl::Status CollectSpare(absl::Duration lapse);

  mutable SharedBlobs blobs_;
};

// Those that are there: told by the ledger, which thereby keeps them, and then by the place.
absl::StatusOr<std::set<std::string>> SharedBlobStore::FindIntact(
    const std::vector<std::string>& digests) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<StoredBlob> known, blobs_.ledger().Touch(digests));
  std::vector<absl::StatusOr<bool>> intact(known.size(), absl::UnknownError(""));
  std::atomic<size_t> next{0};
  const auto look = [&] {
    for (size_t i = next++; i < known.size(); i = next++) intact[i] = blobs_.IsIntact(known[i]);
  };
  {
    std::vector<std::jthread> lookers;
    for (size_t i = 1; i < std::min(kLookers, known.size()); ++i) lookers.emplace_back(look);
    look();
  }
  std::set<std::string> there;
  for (size_t i = 0; i < known.size(); ++i) {
    ATTNPRUNE_RETURN_IF_ERROR(intact[i].status());
    if (*intact[i]) there.insert(known[i].sha256);
  }
  return there;
}

absl::StatusOr<std::vector<std::string>> SharedBlobStore::FindMissing(
    absl::Span<const std::string> digests) {
  for (size_t i = 0; i < digests.size(); ++i) {
    ATTNPRUNE_RETURN_IF_ERROR(CheckSha256(absl::StrCat("sha256[", i, "]"), digests[i]));
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::set<std::string> there,
                             FindIntact({digests.begin(), digests.end()}));
  std::vector<std::string> missing;
  for (const std::string& digest : digests) {
    if (there.count(digest) == 0) missing.push_back(digest);
  }
  return missing;
}

absl::StatusOr<bool> SharedBlobStore::IsThere(const UploadSpec& spec, IfStored if_stored) {
  if (if_stored == IfStored::kSendAllTheSame) return false;
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<StoredBlob> known,
                             blobs_.ledger().Touch({spec.sha256}));
  if (known.empty()) return false;
  ATTNPRUNE_ASSIGN_OR_RETURN(const bool intact, blobs_.IsIntact(known[0]));
  if (!intact) return false;
  if (known[0].size == spec.size_bytes) return true;
  // One of the two is wrong. A damaged object makes way for the upload.
  const absl::Status status = blobs_.VerifyOnce(spec.sha256);
  if (absl::IsDataLoss(status) || absl::IsNotFound(status)) return false;
  ATTNPRUNE_RETURN_IF_ERROR(status);
  return WrongSize(spec, known[0].size);
}

absl::StatusOr<std::unique_ptr<Upload>> SharedBlobStore::StartUpload(const UploadSpec& spec,
                                                                     int64_t offset,
                                                                     IfStored if_stored) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckUploadSpec(spec));
  if (offset < 0) return MustError("header.offset", "be at least 0", offset);
  auto upload = std::make_unique<SharedUpload>(spec, &blobs_);
  ATTNPRUNE_ASSIGN_OR_RETURN(const bool there, IsThere(spec, if_stored));
  if (there) {
    if (blobs_.held().Received(spec.Key()).has_value()) return upload;
    ATTNPRUNE_ASSIGN_OR_RETURN(const SpareObjects spare,
                               blobs_.ledger().DropUnlessHeld(spec.Key()));
    blobs_.held().Invalidate();
    blobs_.Sweep(spare);
    return upload;
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(HeldUploads::Hold hold, blobs_.held().Take(spec, offset));
  upload->TakeHold(std::move(hold));
  ATTNPRUNE_ASSIGN_OR_RETURN(const bool there_now, IsThere(spec, if_stored));
  if (there_now) {  // another stream finished it since
    upload->Discard();
    return upload;
  }
  const absl::Status status = upload->Begin(offset);
  if (status.ok()) return upload;
  // There is nothing to be resumed, or what there was is lost.
  const bool useless = offset == 0 || absl::IsDataLoss(status) || absl::IsNotFound(status);
  if (useless) upload->Discard();
  return status;
}

absl::StatusOr<int64_t> SharedBlobStore::CommittedBytes(const std::string& tenant,
                                                        const std::string& upload_id) const {
  ATTNPRUNE_RETURN_IF_ERROR(CheckUploadId("upload_id", upload_id));
  const std::string key = UploadKey(tenant, upload_id);
  const absl::optional<int64_t> received = blobs_.held().Received(key);
  if (received.has_value()) return *received;
  return blobs_.ledger().CommittedBytes(key);
}

absl::StatusOr<std::vector<UploadFacts>> SharedBlobStore::ListUploads(
    const absl::optional<std::string>& tenant, const std::string& after, int limit) const {
  ATTNPRUNE_ASSIGN_OR_RETURN(std::vector<UploadFacts> uploads,
                             blobs_.ledger().ListUploads(tenant, after, limit));
  for (UploadFacts& upload : uploads) {
    upload.received = blobs_.held().Received(upload.Key()).value_or(upload.received);
  }
  return uploads;
}

absl::Status SharedBlobStore::PutInParts(const std::string& object, absl::Span<const char> bytes,
                                         absl::string_view tail) {
  const size_t size = bytes.size() + tail.size();
  const auto part_bytes = static_cast<size_t>(blobs_.place().PartBytes(static_cast<int64_t>(size)));
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::string writing, blobs_.place().BeginParts(object));
  ATTNPRUNE_RETURN_IF_ERROR(blobs_.ledger().Reserve({object, writing}));
  std::vector<std::string> parts;
  for (size_t from = 0; from < size; from += part_bytes) {
    const std::vector<absl::Span<const char>> pieces = Slice(bytes, tail, from, part_bytes);
    ATTNPRUNE_ASSIGN_OR_RETURN(
        std::string part, blobs_.place().PutPart(object, writing, static_cast<int>(parts.size()),
                                                 static_cast<int64_t>(from), pieces));
    parts.push_back(std::move(part));
  }
  return blobs_.place().CompleteParts(object, writing, parts);
}

absl::StatusOr<std::string> SharedBlobStore::Put(absl::Span<const char> bytes,
                                                 absl::string_view tail) {
  if (bytes.empty()) return absl::InvalidArgumentError("a tensor must have at least 1 byte");
  const absl::Span<const char> pieces[] = {bytes, {tail.data(), tail.size()}};
  Sha256 hash;
  for (const absl::Span<const char> piece : pieces) hash.Update(piece);
  const std::string sha256 = hash.Finish();
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::set<std::string> there, FindIntact({sha256}));
  if (!there.empty()) return sha256;
  const auto size = static_cast<int64_t>(bytes.size() + tail.size());
  const auto put = [&](const std::string& object) {
    return size > blobs_.options().largest_put_bytes ? PutInParts(object, bytes, tail)
                                                     : blobs_.place().Put(object, pieces);
  };
  ATTNPRUNE_RETURN_IF_ERROR(blobs_.PutNew(sha256, size, put));
  return sha256;
}

absl::Status SharedBlobStore::Remove(const std::string& sha256) {
  const absl::StatusOr<StoredBlob> blob = blobs_.Find(sha256);
  if (absl::IsNotFound(blob.status())) return absl::OkStatus();
  ATTNPRUNE_RETURN_IF_ERROR(blob.status());
  return blobs_.Withdraw(*blob, BlobLedger::Fate::kSpare);
}

absl::StatusOr<int64_t> SharedBlobStore::SizeOf(const std::string& sha256) const {
  ATTNPRUNE_ASSIGN_OR_RETURN(const StoredBlob blob, blobs_.Find(sha256));
  return blob.size;
}

absl::StatusOr<MappedFile> SharedBlobStore::Map(const std::string& sha256,
                                                int64_t size_bytes) const {
  ATTNPRUNE_ASSIGN_OR_RETURN(const StoredBlob blob, blobs_.Find(sha256));
  const std::string path = blobs_.place().FileOf(blob.object);
  absl::StatusOr<MappedFile> mapped;
  if (!path.empty()) {
    mapped = MappedFile::Open(path);
  } else {
    ATTNPRUNE_ASSIGN_OR_RETURN(const std::shared_ptr<const File> copy,
                               blobs_.FetchCopy(blob, BlobCache::Check::kOnce));
    mapped = MappedFile::Map(copy->fd(), copy->path());
  }
  if (absl::IsNotFound(mapped.status())) {
    ATTNPRUNE_RETURN_IF_ERROR(CheckInPlace());
    return NoSuchTensor(sha256);
  }
  if (mapped.ok() && mapped->bytes().size() != static_cast<size_t>(size_bytes)) {
    return WrongObjectSize(sha256, size_bytes, static_cast<int64_t>(mapped->bytes().size()));
  }
  return mapped;
}

absl::StatusOr<std::unique_ptr<BlobReader>> SharedBlobStore::OpenForReading(
    const std::string& sha256) const {
  ATTNPRUNE_ASSIGN_OR_RETURN(const StoredBlob blob, blobs_.Find(sha256));
  const std::string path = blobs_.place().FileOf(blob.object);
  if (path.empty()) return blobs_.FollowCopy(blob);
  absl::StatusOr<File> file = File::OpenForReading(path);
  if (absl::IsNotFound(file.status())) {
    ATTNPRUNE_RETURN_IF_ERROR(CheckInPlace());
    return NoSuchTensor(sha256);
  }
  ATTNPRUNE_RETURN_IF_ERROR(file.status());
  ATTNPRUNE_ASSIGN_OR_RETURN(const int64_t size, file->Size());
  return std::make_unique<FileReader>(*std::move(file), size);
}

// A tensor is struck out of the ledger while its grace is over there, at that moment: what
// FindMissing, an upload or Put has touched since stays. Its object goes after that, and can be no
// other tensor's.
absl::StatusOr<Collected> SharedBlobStore::Collect(
    const std::unordered_set<std::string>& referenced, absl::Duration grace) {
  BlobLedger& ledger = blobs_.ledger();
  const std::string& name = blobs_.options().name;
  ATTNPRUNE_ASSIGN_OR_RETURN(const bool mine, ledger.TakeDuty(kCollecting, name, kCollectingLease));
  if (!mine) return Collected();
  ATTNPRUNE_ASSIGN_OR_RETURN(std::vector<std::string> old, ledger.FindOld(grace));
  std::erase_if(old, [&](const std::string& digest) { return referenced.count(digest) > 0; });
  Collected collected;
  for (size_t from = 0; from < old.size(); from += kAtOnce) {
    const auto some = absl::MakeConstSpan(old).subspan(from, kAtOnce);
    ATTNPRUNE_ASSIGN_OR_RETURN(const Collected gone, ledger.TakeOut(some, grace));
    collected.blobs += gone.blobs;
    collected.blob_bytes += gone.blob_bytes;
    for (const std::string& digest : some) blobs_.cache().Drop(digest);
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(collected.uploads, ledger.DropOld(grace, blobs_.held().Holders()));
  blobs_.held().Invalidate();
  ATTNPRUNE_RETURN_IF_ERROR(CollectSpare(std::max(grace, kLeastLapse)));
  ATTNPRUNE_RETURN_IF_ERROR(ledger.TakeDuty(kCollecting, name, absl::ZeroDuration()).status());
  return collected;
}

absl::Status SharedBlobStore::CollectSpare(absl::Duration lapse) {
  std::set<std::string> seen;  // what cannot be removed comes again
  while (true) {
    ATTNPRUNE_ASSIGN_OR_RETURN(SpareObjects spare,
                               blobs_.ledger().FindSpare(lapse, static_cast<int>(kAtOnce)));
    std::erase_if(spare, [&](const SpareObject& o) { return !seen.insert(o.object).second; });
    if (spare.empty()) return absl::OkStatus();
    blobs_.Sweep(spare);
    ATTNPRUNE_RETURN_IF_ERROR(
        blobs_.ledger().TakeDuty(kCollecting, blobs_.options().name, kCollectingLease).status());
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<BlobStore>> OpenSharedBlobStore(
    const SharedBlobStoreOptions& options, std::shared_ptr<ObjectPlace> place,
    std::unique_ptr<BlobLedger> ledger) {
  auto store = std::make_unique<SharedBlobStore>(options, std::move(place), std::move(ledger));
  ATTNPRUNE_RETURN_IF_ERROR(store->Open());
  return store;
}

}  // namespace attnprune
