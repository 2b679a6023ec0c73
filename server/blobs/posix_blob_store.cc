#include "server/blobs/posix_blob_store.h"

#include <unordered_set>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "core/io/file.h"
#include "core/io/sha256.h"
#include "server/blobs/blob_folder.h"
#include "server/blobs/posix_upload.h"
#include "server/blobs/upload_folder.h"

namespace attnprune {
namespace {

class FileReader final : public BlobReader {
 public:
  FileReader(File file, int64_t size) : file_(std::move(file)), size_(size) {}

  int64_t size() const override { return size_; }
  absl::Status ReadAt(int64_t offset, absl::Span<char> out) const override {
    return file_.ReadAt(offset, out);
  }

 private:
  const File file_;
  const int64_t size_;
};

// Finished tensors are the BlobFolder's, unfinished ones the UploadFolder's. Lock order: uploads,
// then blobs.
class PosixBlobStore final : public BlobStore {
 public:
  PosixBlobStore(const PosixBlobStoreOptions& options, const Clock* clock)
      : options_(options),
        clock_(clock),
        blobs_(options.folder + "/tensors", clock),
        uploads_(options.folder + "/uploads", options.limits, clock) {}

  absl::Status Open();

  absl::StatusOr<std::vector<std::string>> FindMissing(
      absl::Span<const std::string> digests) override;
  absl::StatusOr<std::unique_ptr<Upload>> StartUpload(const UploadSpec& spec,
                                                      int64_t offset) override;
  absl::StatusOr<int64_t> CommittedBytes(const std::string& upload_id) const override {
    return uploads_.CommittedBytes(upload_id);
  }
  absl::StatusOr<std::string> Put(absl::Span<const char> bytes) override;
  absl::StatusOr<int64_t> SizeOf(const std::string& sha256) const override {
    return blobs_.SizeOf(sha256);
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

 private:
  absl::StatusOr<bool> IsThere(const UploadSpec& spec);
  absl::Status WriteSynced(const std::string& path, absl::Span<const char> bytes) const;

  const PosixBlobStoreOptions options_;
  const Clock* const clock_;
  BlobFolder blobs_;
  UploadFolder uploads_;
};

absl::Status PosixBlobStore::Open() {
  const bool is_new = !IsFolder(options_.folder);
  ATTNPRUNE_RETURN_IF_ERROR(MakeWritableFolder(options_.folder));
  ATTNPRUNE_RETURN_IF_ERROR(MakeWritableFolder(options_.folder + "/tensors"));
  ATTNPRUNE_RETURN_IF_ERROR(blobs_.Open());
  ATTNPRUNE_RETURN_IF_ERROR(uploads_.Open());
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
                                                                    int64_t offset) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckUploadSpec(spec));
  if (offset < 0) {
    return MustError("header.offset", "be at least 0", offset);
  }
  auto upload = std::make_unique<PosixUpload>(spec, options_, clock_, &blobs_, &uploads_);
  ATTNPRUNE_ASSIGN_OR_RETURN(const bool there, IsThere(spec));
  if (there) {
    uploads_.ForgetUnlessHeld(spec.upload_id);
    return upload;
  }
  ATTNPRUNE_RETURN_IF_ERROR(uploads_.Hold(spec, offset, [this] { return blobs_.Bytes(); }));
  upload->TakeHold();
  ATTNPRUNE_ASSIGN_OR_RETURN(const bool there_now, IsThere(spec));
  if (there_now) {  // another stream finished it since
    upload->Remove();
    return upload;
  }
  const absl::Status status = upload->Begin(offset);
  if (status.ok()) return upload;
  if (offset == 0) upload->Remove();  // there is nothing to be resumed
  return status;
}

absl::StatusOr<bool> PosixBlobStore::IsThere(const UploadSpec& spec) {
  const absl::optional<int64_t> size = blobs_.FindAndTouch(spec.sha256);
  if (!size.has_value()) return false;
  if (*size == spec.size_bytes) return true;
  // One of the two is wrong. A damaged file makes way for the upload.
  const absl::Status status = Verify(spec.sha256);
  if (absl::IsDataLoss(status) || absl::IsNotFound(status)) return false;
  ATTNPRUNE_RETURN_IF_ERROR(status);
  return FieldError("header.size_bytes", absl::StrCat("must be ", *size, ", the size of tensor ",
                                                      spec.sha256, ", got ", spec.size_bytes));
}

absl::StatusOr<std::string> PosixBlobStore::Put(absl::Span<const char> bytes) {
  if (bytes.empty()) return absl::InvalidArgumentError("a tensor must have at least 1 byte");
  const std::string sha256 = Sha256Of(bytes);
  const auto size = static_cast<int64_t>(bytes.size());
  if (blobs_.FindAndTouch(sha256) == size) return sha256;
  const std::string temporary = uploads_.NewPutPath();
  absl::Status status = WriteSynced(temporary, bytes);
  if (status.ok()) status = blobs_.Publish(temporary, sha256, size);
  if (status.ok()) return sha256;
  RemoveFile(temporary);
  return status;
}

absl::Status PosixBlobStore::WriteSynced(const std::string& path,
                                         absl::Span<const char> bytes) const {
  ATTNPRUNE_ASSIGN_OR_RETURN(File file, File::OpenForWriting(path));
  ATTNPRUNE_RETURN_IF_ERROR(file.WriteAt(0, bytes));
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

absl::StatusOr<std::unique_ptr<BlobStore>> OpenPosixBlobStore(const PosixBlobStoreOptions& options,
                                                              const Clock* clock) {
  auto store = std::make_unique<PosixBlobStore>(options, clock);
  ATTNPRUNE_RETURN_IF_ERROR(store->Open());
  return store;
}

}  // namespace attnprune
