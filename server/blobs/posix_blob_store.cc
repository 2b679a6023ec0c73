#include "server/blobs/posix_blob_store.h"

#include <algorithm>
#include <cstdint>
#include <future>
#include <unordered_set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "core/io/file.h"
#include "core/io/kept_in_place.h"
#include "core/io/sha256.h"
#include "server/blobs/blob_folder.h"
#include "server/blobs/disk_room.h"
#include "server/blobs/file_reader.h"
#include "server/blobs/upload_folder.h"
#include "server/blobs/upload_rules.h"

namespace attnprune {
namespace {

constexpr int64_t kWriteBackBytes = int64_t{8} << 20;
constexpr int64_t kAheadBytes = int64_t{8} << 20;

// An upload into the store. It has no files before its first bytes.
class PosixUpload final : public Upload {
 public:
  // What it works with must outlive it. It is "already there" until Begin.
  PosixUpload(const UploadSpec& spec, const DiskRoom& disk, const Clock* clock, BlobFolder* blobs,
              UploadFolder* uploads)
      : Upload(spec), disk_(disk), clock_(clock), blobs_(blobs), uploads_(uploads) {}
  ~PosixUpload() override;

  // The caller has called UploadFolder::Hold: from now on this releases it.
  void TakeHold() { holds_id_ = true; }
  absl::Status Begin(int64_t offset);
  void Discard() override;

  bool already_there() const override { return !begun_; }
  int64_t received() const override { return received_; }
  using Upload::Append;
  absl::Status Append(absl::Span<const char> data, absl::FunctionRef<void()> on_written) override;
  absl::Status Finish() override;

 private:
  absl::Status Open();
  absl::Status Write(absl::Span<const char> data);
  absl::Status TakeDisk(int64_t end);
  absl::Status Seal();

  const DiskRoom& disk_;
  const Clock* const clock_;
  BlobFolder* const blobs_;
  UploadFolder* const uploads_;
  File file_;
  Sha256 hash_;
  int64_t received_ = 0;
  int64_t reserved_ = 0;  // of the disk, from the file's beginning
  bool begun_ = false;
  bool holds_id_ = false;  // false when already there, finished or removed
};

absl::Status PosixUpload::Begin(int64_t offset) {
  ATTNPRUNE_RETURN_IF_ERROR(disk_.CheckBeginning(spec().size_bytes - offset));
  received_ = reserved_ = offset;
  begun_ = true;
  if (offset == 0) return absl::OkStatus();
  ATTNPRUNE_RETURN_IF_ERROR(Open());
  return ForEachPiece(file_, offset, [this](absl::Span<const char> piece) { hash_.Update(piece); });
}

absl::Status PosixUpload::Open() {
  ATTNPRUNE_ASSIGN_OR_RETURN(
      file_, File::OpenForWriting(uploads_->DataPath(spec().Key()), Readers::kOwner));
  if (received_ > 0) return absl::OkStatus();
  // In this order, so that no spec ever stands beside another tensor's bytes.
  ATTNPRUNE_RETURN_IF_ERROR(file_.Truncate(0));
  return uploads_->WriteSpec(spec());
}

// Up to the file's byte `end`, which is about to be written. What is reserved together is written
// several times cheaper, so as much again as has come is reserved ahead, some MiB at most: who
// sends little keeps little from others.
absl::Status PosixUpload::TakeDisk(int64_t end) {
  if (end <= reserved_) return absl::OkStatus();
  ATTNPRUNE_RETURN_IF_ERROR(disk_.CheckNext(end - reserved_));
  const int64_t ahead = std::min({received_, kAheadBytes, spec().size_bytes - end});
  reserved_ = end;
  if (disk_.CheckNext(end - received_ + ahead).ok() && file_.Reserve(end + ahead).ok()) {
    reserved_ += ahead;
  }
  return absl::OkStatus();
}

absl::Status PosixUpload::Write(absl::Span<const char> data) {
  const auto size = static_cast<int64_t>(data.size());
  ATTNPRUNE_RETURN_IF_ERROR(
      uploads_->TakeRoom(spec().Key(), size, [this] { return blobs_->Bytes(); }));
  if (file_.fd() < 0) ATTNPRUNE_RETURN_IF_ERROR(Open());
  ATTNPRUNE_RETURN_IF_ERROR(TakeDisk(received_ + size));
  return file_.WriteAt(received_, data);
}

PosixUpload::~PosixUpload() {
  if (!holds_id_) return;
  if (file_.fd() >= 0) {
    file_.Truncate(received_).IgnoreError();  // gives back what was reserved beyond
    // For a store that opens the folder later; failing means only a shorter grace.
    file_.SetTime(clock_->Now()).IgnoreError();
  }
  uploads_->Release(spec().Key());
}

void PosixUpload::Discard() {
  uploads_->Forget(spec().Key());
  holds_id_ = false;
}

absl::Status PosixUpload::Append(absl::Span<const char> data,
                                 absl::FunctionRef<void()> on_written) {
  const auto size = static_cast<int64_t>(data.size());
  ATTNPRUNE_RETURN_IF_ERROR(CheckUploadEnd(spec(), received_, size));
  const absl::Status written = data.empty() ? absl::OkStatus() : Write(data);
  if (absl::IsResourceExhausted(written)) Discard();
  ATTNPRUNE_RETURN_IF_ERROR(written);
  const int64_t before = std::exchange(received_, received_ + size);
  uploads_->RecordProgress(spec().Key(), received_);
  on_written();
  hash_.Update(data);
  if (before / kWriteBackBytes != received_ / kWriteBackBytes) {
    file_.StartWriteBack(before / kWriteBackBytes * kWriteBackBytes, kWriteBackBytes);
  }
  return absl::OkStatus();
}

absl::Status PosixUpload::Finish() {
  ATTNPRUNE_RETURN_IF_ERROR(CheckUploadWhole(spec(), received_));
  absl::Status status = CheckUploadDigest(spec(), hash_.Finish());
  if (status.ok()) status = Seal();
  Discard();  // its bytes are in place or of no use
  return status;
}

absl::Status PosixUpload::Seal() {
  ATTNPRUNE_RETURN_IF_ERROR(file_.SetTime(clock_->Now()));
  ATTNPRUNE_RETURN_IF_ERROR(file_.Sync());
  return blobs_->Publish(file_.path(), spec().sha256, spec().size_bytes);
}

// Finished tensors are the BlobFolder's, unfinished ones the UploadFolder's. Lock order: uploads,
// then blobs.
class PosixBlobStore final : public BlobStore {
 public:
  PosixBlobStore(const PosixBlobStoreOptions& options, const Clock* clock)
      : options_(options),
        disk_(options.folder, options.min_free_disk_bytes),
        clock_(clock),
        blobs_(options.folder + "/tensors", clock),
        uploads_(options.folder + "/uploads", options.limits, clock) {}

  absl::Status Open();

  absl::StatusOr<std::vector<std::string>> FindMissing(
      absl::Span<const std::string> digests) override;
  using BlobStore::StartUpload;
  absl::StatusOr<std::unique_ptr<Upload>> StartUpload(const UploadSpec& spec, int64_t offset,
                                                      IfStored if_stored) override;
  using BlobStore::CommittedBytes;
  absl::StatusOr<int64_t> CommittedBytes(const std::string& tenant,
                                         const std::string& upload_id) const override {
    return uploads_.CommittedBytes(tenant, upload_id);
  }
  using BlobStore::Put;
  absl::StatusOr<std::string> Put(absl::Span<const char> bytes, absl::string_view tail) override;
  absl::Status Remove(const std::string& sha256) override {
    Collected removed;
    blobs_.CollectBlob(sha256, absl::ZeroDuration(), &removed);
    return absl::OkStatus();
  }
  absl::StatusOr<int64_t> SizeOf(const std::string& sha256) const override {
    return blobs_.SizeOf(sha256);
  }
  absl::StatusOr<std::vector<BlobFacts>> List(const std::string& after, int limit) const override {
    return blobs_.List(after, limit);
  }
  absl::StatusOr<std::vector<BlobFacts>> LookAt(
      absl::Span<const std::string> digests) const override {
    return blobs_.LookAt(digests);
  }
  absl::StatusOr<std::vector<UploadFacts>> ListUploads(const absl::optional<std::string>& tenant,
                                                       const std::string& after,
                                                       int limit) const override {
    return uploads_.List(tenant, after, limit);
  }
  absl::StatusOr<MappedFile> Map(const std::string& sha256, int64_t size_bytes) const override {
    return blobs_.Map(sha256, size_bytes);
  }
  absl::StatusOr<std::unique_ptr<BlobReader>> OpenForReading(
      const std::string& sha256) const override;
  absl::Status Verify(const std::string& sha256) override { return blobs_.Verify(sha256); }
  absl::StatusOr<Collected> Collect(const std::unordered_set<std::string>& referenced,
                                    absl::Duration grace) override;
  BlobStoreUsage Usage() const override;
  int64_t UploadBytesOf(const std::string& tenant) const override {
    return uploads_.BytesOf(tenant);
  }
  absl::Status CheckInPlace() const override { return in_place_.Check(); }

 private:
  absl::StatusOr<bool> IsThere(const UploadSpec& spec, IfStored if_stored);
  absl::Status WriteSynced(const std::string& path, absl::Span<const char> bytes,
                           absl::string_view tail) const;

  const PosixBlobStoreOptions options_;
  const DiskRoom disk_;
  const Clock* const clock_;
  BlobFolder blobs_;
  UploadFolder uploads_;
  KeptInPlace in_place_;
};

absl::Status PosixBlobStore::Open() {
  const bool is_new = !IsFolder(options_.folder);
  ATTNPRUNE_RETURN_IF_ERROR(MakeWritableFolder(options_.folder));
  ATTNPRUNE_RETURN_IF_ERROR(MakeWritableFolder(options_.folder + "/tensors"));
  ATTNPRUNE_RETURN_IF_ERROR(CheckNoLink(options_.folder + "/tensors"));
  ATTNPRUNE_RETURN_IF_ERROR(blobs_.Open());
  ATTNPRUNE_RETURN_IF_ERROR(uploads_.Open());
  for (const char* const name : {"", "/tensors", "/tensors/sha256", "/uploads"}) {
    in_place_.Add(options_.folder + name);
  }
  ATTNPRUNE_RETURN_IF_ERROR(SyncFolder(options_.folder));
  return is_new ? SyncFolder(options_.folder + "/..") : absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> PosixBlobStore::FindMissing(
    absl::Span<const std::string> digests) {
  for (size_t i = 0; i < digests.size(); ++i) {
    ATTNPRUNE_RETURN_IF_ERROR(CheckSha256(absl::StrCat("sha256[", i, "]"), digests[i]));
  }
  std::vector<std::string> missing;
  for (const std::string& digest : digests) {
    if (!blobs_.FindAndTouch(digest).has_value()) missing.push_back(digest);
  }
  return missing;
}

absl::StatusOr<std::unique_ptr<Upload>> PosixBlobStore::StartUpload(const UploadSpec& spec,
                                                                    int64_t offset,
                                                                    IfStored if_stored) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckUploadSpec(spec));
  ATTNPRUNE_RETURN_IF_ERROR(in_place_.Check());
  if (offset < 0) {
    return MustError("header.offset", "be at least 0", offset);
  }
  auto upload = std::make_unique<PosixUpload>(spec, disk_, clock_, &blobs_, &uploads_);
  ATTNPRUNE_ASSIGN_OR_RETURN(const bool there, IsThere(spec, if_stored));
  if (there) {
    uploads_.ForgetUnlessHeld(spec.Key());
    return upload;
  }
  ATTNPRUNE_RETURN_IF_ERROR(uploads_.Hold(spec, offset, [this] { return blobs_.Bytes(); }));
  upload->TakeHold();
  ATTNPRUNE_ASSIGN_OR_RETURN(const bool there_now, IsThere(spec, if_stored));
  if (there_now) {  // another stream finished it since
    upload->Discard();
    return upload;
  }
  const absl::Status status = upload->Begin(offset);
  if (status.ok()) return upload;
  if (offset == 0) upload->Discard();  // there is nothing to be resumed
  return status;
}

absl::StatusOr<bool> PosixBlobStore::IsThere(const UploadSpec& spec, IfStored if_stored) {
  if (if_stored == IfStored::kSendAllTheSame) return false;
  const absl::optional<int64_t> size = blobs_.FindAndTouch(spec.sha256);
  if (!size.has_value()) return false;
  if (*size == spec.size_bytes) return true;
  // One of the two is wrong. A damaged file makes way for the upload.
  const absl::Status status = blobs_.VerifyOnce(spec.sha256);
  if (absl::IsDataLoss(status) || absl::IsNotFound(status)) return false;
  ATTNPRUNE_RETURN_IF_ERROR(status);
  return WrongSize(spec, *size);
}

// The disk writes while the bytes are hashed.
absl::StatusOr<std::string> PosixBlobStore::Put(absl::Span<const char> bytes,
                                                absl::string_view tail) {
  if (bytes.empty()) return absl::InvalidArgumentError("a tensor must have at least 1 byte");
  ATTNPRUNE_RETURN_IF_ERROR(in_place_.Check());
  const std::string temporary = uploads_.NewPutPath();
  // Where no thread can be had it is written after the hashing.
  std::future<absl::Status> written =
      std::async([&] { return WriteSynced(temporary, bytes, tail); });
  Sha256 hash;
  hash.Update(bytes);
  hash.Update({tail.data(), tail.size()});
  const std::string sha256 = hash.Finish();
  const auto size = static_cast<int64_t>(bytes.size() + tail.size());
  absl::Status status = written.get();
  const bool there = blobs_.FindAndTouch(sha256) == size;
  if (status.ok() && !there) status = blobs_.Publish(temporary, sha256, size);
  if (status.ok() && !there) return sha256;
  RemoveFile(temporary);
  if (there) return sha256;
  return status;
}

absl::Status PosixBlobStore::WriteSynced(const std::string& path, absl::Span<const char> bytes,
                                         absl::string_view tail) const {
  ATTNPRUNE_ASSIGN_OR_RETURN(File file, File::OpenForWriting(path, Readers::kOwner));
  ATTNPRUNE_RETURN_IF_ERROR(file.WriteAt(0, bytes));
  ATTNPRUNE_RETURN_IF_ERROR(
      file.WriteAt(static_cast<int64_t>(bytes.size()), {tail.data(), tail.size()}));
  ATTNPRUNE_RETURN_IF_ERROR(file.SetTime(clock_->Now()));
  return file.Sync();
}

absl::StatusOr<std::unique_ptr<BlobReader>> PosixBlobStore::OpenForReading(
    const std::string& sha256) const {
  ATTNPRUNE_ASSIGN_OR_RETURN(File file, blobs_.OpenForReading(sha256));
  ATTNPRUNE_ASSIGN_OR_RETURN(const int64_t size, file.Size());
  return std::make_unique<FileReader>(std::move(file), size);
}

absl::StatusOr<Collected> PosixBlobStore::Collect(const std::unordered_set<std::string>& referenced,
                                                  absl::Duration grace) {
  Collected collected;
  ATTNPRUNE_RETURN_IF_ERROR(blobs_.Collect(referenced, grace, &collected));
  collected.uploads = uploads_.Collect(grace);
  return collected;
}

BlobStoreUsage PosixBlobStore::Usage() const {
  return {.blobs = blobs_.Count(),
          .blob_bytes = blobs_.Bytes(),
          .uploads = uploads_.Count(),
          .upload_bytes = uploads_.Bytes(),
          .max_bytes = options_.limits.max_total_bytes};
}

}  // namespace

std::string TensorFile(absl::string_view sha256) {
  return absl::StrCat("tensors/sha256/", sha256.substr(0, 2), "/", sha256);
}

absl::StatusOr<std::unique_ptr<BlobStore>> OpenPosixBlobStore(const PosixBlobStoreOptions& options,
                                                              const Clock* clock) {
  auto store = std::make_unique<PosixBlobStore>(options, clock);
  ATTNPRUNE_RETURN_IF_ERROR(store->Open());
  return store;
}

}  // namespace attnprune
