#include "server/blobs/blob_store.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"

namespace attnprune {
namespace {

constexpr int64_t kLongestSidecar = 256;
constexpr absl::string_view kDataSuffix = ".data";
constexpr absl::string_view kSpecSuffix = ".spec";
constexpr absl::string_view kPutSuffix = ".put";

std::string FolderOf(const std::string& path) { return path.substr(0, path.rfind('/')); }

// Whatever their dtypes: those are no part of what is stored.
bool AreOfOneTensor(const UploadSpec& a, const UploadSpec& b) {
  return a.sha256 == b.sha256 && a.size_bytes == b.size_bytes;
}

std::string Describe(const UploadSpec& spec) {
  return absl::StrCat("tensor ", spec.sha256, " of ", spec.size_bytes, " bytes");
}

absl::Status NotStored(absl::string_view sha256) {
  return absl::NotFoundError(absl::StrCat("tensor ", sha256, " is not in the store"));
}

absl::optional<UploadSpec> ReadSidecar(const std::string& upload_id, const std::string& path) {
  const absl::StatusOr<File> file = File::OpenForReading(path);
  if (!file.ok()) return absl::nullopt;
  const absl::StatusOr<int64_t> size = file->Size();
  if (!size.ok() || *size > kLongestSidecar) return absl::nullopt;
  std::string line(static_cast<size_t>(*size), '\0');
  if (!file->ReadAt(0, absl::MakeSpan(line)).ok()) return absl::nullopt;
  return ParseSidecar(upload_id, line);
}

absl::Status WriteSidecar(const UploadSpec& spec, const std::string& path) {
  ATTNPRUNE_ASSIGN_OR_RETURN(File file, File::OpenForWriting(path));
  ATTNPRUNE_RETURN_IF_ERROR(file.Truncate(0));
  return file.WriteAt(0, FormatSidecar(spec));
}

}  // namespace

// --- opening ------------------------------------------------------------------------------------

BlobStore::BlobStore(const BlobStoreOptions& options, const Clock* clock)
    : options_(options),
      clock_(clock),
      blobs_folder_(absl::StrCat(options.folder, "/tensors/sha256")),
      corrupt_folder_(absl::StrCat(options.folder, "/tensors/corrupt")),
      uploads_folder_(absl::StrCat(options.folder, "/uploads")) {}

absl::StatusOr<std::unique_ptr<BlobStore>> BlobStore::Open(const BlobStoreOptions& options,
                                                           const Clock* clock) {
  std::unique_ptr<BlobStore> store(new BlobStore(options, clock));
  ATTNPRUNE_RETURN_IF_ERROR(store->CreateFolders());
  ATTNPRUNE_RETURN_IF_ERROR(store->LoadBlobs());
  ATTNPRUNE_RETURN_IF_ERROR(store->LoadUploads());
  return store;
}

absl::Status BlobStore::CreateFolders() const {
  const std::string tensors = absl::StrCat(options_.folder, "/tensors");
  const bool is_new = !IsFolder(options_.folder);
  for (const std::string& folder :
       {options_.folder, tensors, blobs_folder_, corrupt_folder_, uploads_folder_}) {
    ATTNPRUNE_RETURN_IF_ERROR(MakeFolder(folder));
    ATTNPRUNE_RETURN_IF_ERROR(CheckWritableFolder(folder));
  }
  ATTNPRUNE_RETURN_IF_ERROR(SyncFolder(tensors));
  ATTNPRUNE_RETURN_IF_ERROR(SyncFolder(options_.folder));
  return is_new ? SyncFolder(absl::StrCat(options_.folder, "/..")) : absl::OkStatus();
}

// A former process may have been killed between a rename and the syncs; what is found is on disk
// before it counts.
absl::Status BlobStore::LoadBlobs() {
  ATTNPRUNE_RETURN_IF_ERROR(SyncFolder(blobs_folder_));
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<std::string> folders, BlobFolders());
  for (const std::string& folder : folders) {
    ATTNPRUNE_RETURN_IF_ERROR(SyncFolder(folder));
    ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListFolder(folder));
    for (const std::string& name : names) {
      const absl::optional<FileFacts> facts = LookUp(absl::StrCat(folder, "/", name));
      if (!IsSha256(name) || !facts.has_value()) continue;
      MutexLock lock(&mutex_);
      CountBlobLocked(+1, facts->size);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> BlobStore::BlobFolders() const {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListFolder(blobs_folder_));
  std::vector<std::string> folders;
  for (const std::string& name : names) {
    std::string folder = absl::StrCat(blobs_folder_, "/", name);
    if (IsFolder(folder)) folders.push_back(std::move(folder));
  }
  return folders;
}

absl::Status BlobStore::LoadUploads() {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListFolder(uploads_folder_));
  for (const std::string& name : names) {
    absl::string_view id = name;
    if (absl::EndsWith(name, kPutSuffix)) RemoveFile(absl::StrCat(uploads_folder_, "/", name));
    if (absl::ConsumeSuffix(&id, kDataSuffix) || absl::ConsumeSuffix(&id, kSpecSuffix)) {
      LoadUpload(std::string(id));
    }
  }
  return absl::OkStatus();
}

void BlobStore::LoadUpload(const std::string& upload_id) {
  const absl::optional<UploadSpec> spec = ReadSidecar(upload_id, SpecPath(upload_id));
  const absl::optional<FileFacts> data = LookUp(DataPath(upload_id));
  if (!spec.has_value() || !data.has_value() || data->size > spec->size_bytes) {
    RemoveUploadFiles(upload_id);
    return;
  }
  MutexLock lock(&mutex_);
  uploads_[upload_id] = {
      .spec = *spec, .bytes = data->size, .held = false, .touched = data->changed};
}

std::string BlobStore::BlobPath(absl::string_view sha256) const {
  return absl::StrCat(blobs_folder_, "/", sha256.substr(0, 2), "/", sha256);
}

std::string BlobStore::DataPath(absl::string_view upload_id) const {
  return absl::StrCat(uploads_folder_, "/", upload_id, kDataSuffix);
}

std::string BlobStore::SpecPath(absl::string_view upload_id) const {
  return absl::StrCat(uploads_folder_, "/", upload_id, kSpecSuffix);
}

// --- what is there ------------------------------------------------------------------------------

absl::StatusOr<std::vector<std::string>> BlobStore::FindMissing(
    absl::Span<const std::string> digests) {
  for (size_t i = 0; i < digests.size(); ++i) {
    ATTNPRUNE_RETURN_IF_ERROR(CheckSha256(absl::StrCat("sha256[", i, "]"), digests[i]));
  }
  std::vector<std::string> missing;
  for (const std::string& digest : digests) {
    if (!FindAndTouch(digest).has_value()) missing.push_back(digest);
  }
  return missing;
}

absl::optional<int64_t> BlobStore::FindAndTouch(const std::string& sha256) {
  MutexLock lock(&mutex_);
  AwaitPublished(sha256);
  const absl::optional<FileFacts> facts = LookUp(BlobPath(sha256));
  if (!facts.has_value()) return absl::nullopt;
  // Where this fails (a read-only disk), collecting fails too.
  SetFileTime(BlobPath(sha256), clock_->Now()).IgnoreError();
  return facts->size;
}

void BlobStore::AwaitPublished(const std::string& sha256) {
  published_.Wait(&mutex_, [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    return publishing_.find(sha256) == publishing_.end();
  });
}

absl::StatusOr<int64_t> BlobStore::SizeOf(const std::string& sha256) const {
  if (!IsSha256(sha256)) return NotStored(sha256);
  const absl::optional<FileFacts> facts = LookUp(BlobPath(sha256));
  if (!facts.has_value()) return NotStored(sha256);
  return facts->size;
}

absl::StatusOr<MappedFile> BlobStore::Map(const std::string& sha256, int64_t size_bytes) const {
  ATTNPRUNE_RETURN_IF_ERROR(SizeOf(sha256).status());
  absl::StatusOr<MappedFile> file = MappedFile::Open(BlobPath(sha256));
  if (absl::IsNotFound(file.status())) return NotStored(sha256);
  if (file.ok() && file->bytes().size() != static_cast<size_t>(size_bytes)) {
    return absl::DataLossError(absl::StrCat("tensor ", sha256, ": must have ", size_bytes,
                                            " bytes, its file has ", file->bytes().size()));
  }
  return file;
}

absl::StatusOr<File> BlobStore::OpenForReading(const std::string& sha256) const {
  if (!IsSha256(sha256)) return NotStored(sha256);
  absl::StatusOr<File> file = File::OpenForReading(BlobPath(sha256));
  if (absl::IsNotFound(file.status())) return NotStored(sha256);
  return file;
}

absl::Status BlobStore::Verify(const std::string& sha256) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const File file, OpenForReading(sha256));
  ATTNPRUNE_ASSIGN_OR_RETURN(const int64_t size, file.Size());
  Sha256 hash;
  ATTNPRUNE_RETURN_IF_ERROR(
      ForEachPiece(file, size, [&](absl::Span<const char> piece) { hash.Update(piece); }));
  const std::string got = hash.Finish();
  if (got == sha256) return absl::OkStatus();
  ATTNPRUNE_RETURN_IF_ERROR(PutAside(sha256, file));
  return absl::DataLossError(absl::StrCat("tensor ", sha256, ": its ", size, " bytes now hash to ",
                                          got, "; put aside in ", corrupt_folder_));
}

absl::Status BlobStore::PutAside(const std::string& sha256, const File& file) {
  MutexLock lock(&mutex_);
  const absl::optional<FileFacts> facts = LookUp(BlobPath(sha256));
  // Unless another thread did, or an upload has replaced it since.
  if (!facts.has_value() || facts->inode != file.Inode()) return absl::OkStatus();
  ATTNPRUNE_RETURN_IF_ERROR(
      RenameFile(BlobPath(sha256), absl::StrCat(corrupt_folder_, "/", sha256)));
  CountBlobLocked(-1, facts->size);
  return absl::OkStatus();
}

BlobStoreUsage BlobStore::Usage() const {
  MutexLock lock(&mutex_);
  return {.blobs = blobs_,
          .blob_bytes = blob_bytes_,
          .uploads = static_cast<int64_t>(uploads_.size()),
          .upload_bytes = UploadBytesLocked()};
}

void BlobStore::CountBlobLocked(int sign, int64_t bytes) {
  blobs_ += sign;
  blob_bytes_ += sign * bytes;
}

// --- uploads ------------------------------------------------------------------------------------

absl::StatusOr<std::unique_ptr<Upload>> BlobStore::StartUpload(const UploadSpec& spec,
                                                               int64_t offset) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckUploadSpec(spec));
  if (offset < 0) {
    return FieldError("header.offset", absl::StrCat("must be at least 0, got ", offset));
  }
  std::unique_ptr<Upload> upload(new Upload(this, spec));
  ATTNPRUNE_ASSIGN_OR_RETURN(const bool there, IsThere(spec));
  if (there) {
    ForgetUnlessHeld(spec.upload_id);
    return upload;
  }
  ATTNPRUNE_RETURN_IF_ERROR(Hold(spec, offset));
  upload->holds_id_ = true;  // from here on released with `upload`
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

absl::StatusOr<bool> BlobStore::IsThere(const UploadSpec& spec) {
  const absl::optional<int64_t> size = FindAndTouch(spec.sha256);
  if (!size.has_value()) return false;
  if (*size == spec.size_bytes) return true;
  // One of the two is wrong. A damaged file makes way for the upload.
  const absl::Status status = Verify(spec.sha256);
  if (absl::IsDataLoss(status) || absl::IsNotFound(status)) return false;
  ATTNPRUNE_RETURN_IF_ERROR(status);
  return FieldError("header.size_bytes", absl::StrCat("must be ", *size, ", the size of tensor ",
                                                      spec.sha256, ", got ", spec.size_bytes));
}

absl::Status BlobStore::Hold(const UploadSpec& spec, int64_t offset) {
  MutexLock lock(&mutex_);
  const auto found = uploads_.find(spec.upload_id);
  const bool known = found != uploads_.end();
  if (known && found->second.held) {
    return absl::AbortedError(
        absl::StrCat("upload ", spec.upload_id, " is being written by another stream"));
  }
  if (offset > 0 && known && !AreOfOneTensor(found->second.spec, spec)) {
    return FieldError("header.upload_id",
                      absl::StrCat("must be the one of this tensor, ", spec.upload_id, " is of ",
                                   Describe(found->second.spec)));
  }
  const int64_t committed = known ? found->second.bytes : 0;
  if (offset > 0 && offset != committed) {
    return WithField(
        absl::OutOfRangeError(absl::StrCat("header.offset must be ", committed,
                                           ", where the upload stands, or 0, got ", offset)),
        "header.offset");
  }
  ATTNPRUNE_RETURN_IF_ERROR(CheckRoomLocked(spec));
  uploads_[spec.upload_id] = {
      .spec = spec, .bytes = offset, .held = true, .touched = clock_->Now()};
  return absl::OkStatus();
}

absl::Status BlobStore::CheckRoomLocked(const UploadSpec& spec) const {
  if (spec.size_bytes > options_.max_tensor_bytes) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "header.size_bytes must be at most max_tensor_bytes = ", options_.max_tensor_bytes,
        ", got ", spec.size_bytes));
  }
  const auto own = uploads_.find(spec.upload_id);
  const int64_t others =
      blob_bytes_ + UploadBytesLocked() - (own == uploads_.end() ? 0 : own->second.bytes);
  if (spec.size_bytes > options_.max_total_bytes - others) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "tensors must take at most max_total_tensor_bytes = ", options_.max_total_bytes,
        " together, ", others, " are taken and this one has ", spec.size_bytes));
  }
  if (own == uploads_.end() && static_cast<int64_t>(uploads_.size()) >= options_.max_uploads) {
    return absl::ResourceExhaustedError(absl::StrCat("unfinished uploads must be at most ",
                                                     options_.max_uploads, ", so many there are"));
  }
  return absl::OkStatus();
}

absl::Status BlobStore::CheckDiskRoom(int64_t bytes) const {
  ATTNPRUNE_ASSIGN_OR_RETURN(const int64_t free, FreeDiskBytes(uploads_folder_));
  if (bytes <= free - options_.min_free_disk_bytes) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("the server's disk is full: ", bytes, " bytes are to come, ", free,
                   " are free, of which ", options_.min_free_disk_bytes, " are kept"));
}

absl::StatusOr<std::string> BlobStore::TemporaryFolder(int64_t bytes) const {
  ATTNPRUNE_RETURN_IF_ERROR(CheckDiskRoom(bytes));
  return uploads_folder_;
}

int64_t BlobStore::UploadBytesLocked() const {
  int64_t bytes = 0;
  for (const auto& [id, upload] : uploads_) {
    bytes += upload.held ? upload.spec.size_bytes : upload.bytes;
  }
  return bytes;
}

absl::StatusOr<int64_t> BlobStore::CommittedBytes(const std::string& upload_id) const {
  ATTNPRUNE_RETURN_IF_ERROR(CheckUploadId("upload_id", upload_id));
  MutexLock lock(&mutex_);
  const auto found = uploads_.find(upload_id);
  return found == uploads_.end() ? 0 : found->second.bytes;
}

void BlobStore::RecordProgress(const std::string& upload_id, int64_t bytes) {
  MutexLock lock(&mutex_);
  uploads_.at(upload_id).bytes = bytes;
}

void BlobStore::Release(const std::string& upload_id) {
  MutexLock lock(&mutex_);
  UploadState& upload = uploads_.at(upload_id);
  upload.held = false;
  upload.touched = clock_->Now();
}

void BlobStore::Forget(const std::string& upload_id) {
  MutexLock lock(&mutex_);
  RemoveUploadFiles(upload_id);
  uploads_.erase(upload_id);
}

void BlobStore::ForgetUnlessHeld(const std::string& upload_id) {
  MutexLock lock(&mutex_);
  const auto found = uploads_.find(upload_id);
  if (found == uploads_.end() || found->second.held) return;
  RemoveUploadFiles(upload_id);
  uploads_.erase(found);
}

void BlobStore::RemoveUploadFiles(const std::string& upload_id) const {
  RemoveFile(DataPath(upload_id));
  RemoveFile(SpecPath(upload_id));
}

// --- publishing ---------------------------------------------------------------------------------

absl::StatusOr<std::string> BlobStore::Put(absl::Span<const char> bytes) {
  if (bytes.empty()) return absl::InvalidArgumentError("a tensor must have at least 1 byte");
  const std::string sha256 = Sha256Of(bytes);
  const auto size = static_cast<int64_t>(bytes.size());
  if (FindAndTouch(sha256) == size) return sha256;
  const std::string temporary = NewPutPath();
  absl::Status status = WriteSynced(temporary, bytes);
  if (status.ok()) status = Publish(temporary, sha256, size);
  if (status.ok()) return sha256;
  RemoveFile(temporary);
  return status;
}

std::string BlobStore::NewPutPath() {
  MutexLock lock(&mutex_);
  return absl::StrCat(uploads_folder_, "/", next_put_++, kPutSuffix);
}

absl::Status BlobStore::WriteSynced(const std::string& path, absl::Span<const char> bytes) const {
  ATTNPRUNE_ASSIGN_OR_RETURN(File file, File::OpenForWriting(path));
  ATTNPRUNE_RETURN_IF_ERROR(file.WriteAt(0, bytes));
  ATTNPRUNE_RETURN_IF_ERROR(file.SetTime(clock_->Now()));
  return file.Sync();
}

absl::Status BlobStore::Publish(const std::string& temporary, const std::string& sha256,
                                int64_t size_bytes) {
  const std::string path = BlobPath(sha256);
  {
    MutexLock lock(&mutex_);
    AwaitPublished(sha256);
    const absl::optional<FileFacts> former = LookUp(path);
    if (former.has_value() && former->size == size_bytes) {
      RemoveFile(temporary);
      SetFileTime(path, clock_->Now()).IgnoreError();
      return absl::OkStatus();
    }
    ATTNPRUNE_RETURN_IF_ERROR(MakeFolder(FolderOf(path)));
    ATTNPRUNE_RETURN_IF_ERROR(RenameFile(temporary, path));
    if (former.has_value()) CountBlobLocked(-1, former->size);
    publishing_.insert(sha256);
  }
  absl::Status status = SyncEntry(path);
  {
    MutexLock lock(&mutex_);
    publishing_.erase(sha256);
    if (status.ok()) CountBlobLocked(+1, size_bytes);
    if (!status.ok()) RemoveFile(path);
  }
  published_.NotifyAll();
  return status;
}

// The folder above too: this thread or another may just have made the blob's.
absl::Status BlobStore::SyncEntry(const std::string& blob_path) const {
  ATTNPRUNE_RETURN_IF_ERROR(SyncFolder(FolderOf(blob_path)));
  ATTNPRUNE_RETURN_IF_ERROR(SyncFolder(blobs_folder_));
  return SyncFolder(uploads_folder_);
}

// --- collecting ---------------------------------------------------------------------------------

absl::StatusOr<Collected> BlobStore::Collect(const std::unordered_set<std::string>& referenced,
                                             absl::Duration grace) {
  Collected collected;
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<std::string> folders, BlobFolders());
  for (const std::string& folder : folders) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListFolder(folder));
    for (const std::string& name : names) {
      if (!IsSha256(name) || referenced.count(name) > 0) continue;
      CollectBlob(name, grace, &collected);
    }
  }
  CollectUploads(grace, &collected);
  return collected;
}

// The age is looked at and the file removed under one lock, which FindAndTouch takes too: what was
// told to be there either got its new time before, or was told to be missing.
void BlobStore::CollectBlob(const std::string& sha256, absl::Duration grace, Collected* collected) {
  MutexLock lock(&mutex_);
  const absl::optional<FileFacts> facts = LookUp(BlobPath(sha256));
  if (!facts.has_value() || publishing_.count(sha256) > 0) return;
  if (clock_->Now() - facts->changed < grace) return;
  RemoveFile(BlobPath(sha256));
  CountBlobLocked(-1, facts->size);
  ++collected->blobs;
  collected->blob_bytes += facts->size;
}

void BlobStore::CollectUploads(absl::Duration grace, Collected* collected) {
  MutexLock lock(&mutex_);
  for (auto upload = uploads_.begin(); upload != uploads_.end();) {
    if (upload->second.held || clock_->Now() - upload->second.touched < grace) {
      ++upload;
      continue;
    }
    RemoveUploadFiles(upload->first);
    upload = uploads_.erase(upload);
    ++collected->uploads;
  }
}

// --- one upload ---------------------------------------------------------------------------------

namespace {

constexpr int64_t kWriteBackBytes = int64_t{8} << 20;

}  // namespace

absl::Status Upload::Begin(int64_t offset) {
  received_ = offset;
  ATTNPRUNE_ASSIGN_OR_RETURN(file_, File::OpenForWriting(store_->DataPath(spec_.upload_id)));
  if (offset == 0) {
    // In this order, so that no spec ever stands beside another tensor's bytes.
    ATTNPRUNE_RETURN_IF_ERROR(file_.Truncate(0));
    ATTNPRUNE_RETURN_IF_ERROR(WriteSidecar(spec_, store_->SpecPath(spec_.upload_id)));
  }
  ATTNPRUNE_RETURN_IF_ERROR(ReserveDisk());
  return ForEachPiece(file_, offset, [this](absl::Span<const char> piece) { hash_.Update(piece); });
}

absl::Status Upload::ReserveDisk() {
  ATTNPRUNE_ASSIGN_OR_RETURN(const int64_t has, file_.DiskBytes());
  ATTNPRUNE_RETURN_IF_ERROR(store_->CheckDiskRoom(spec_.size_bytes - has));
  return file_.Reserve(spec_.size_bytes);
}

Upload::~Upload() {
  if (!holds_id_) return;
  if (file_.fd() >= 0) {
    file_.Truncate(received_).IgnoreError();  // gives back what was reserved beyond
    // For a store that opens the folder later; failing means only a shorter grace.
    file_.SetTime(store_->clock_->Now()).IgnoreError();
  }
  store_->Release(spec_.upload_id);
}

void Upload::Remove() {
  store_->Forget(spec_.upload_id);
  holds_id_ = false;
}

absl::Status Upload::Append(absl::Span<const char> data, absl::FunctionRef<void()> on_written) {
  const auto size = static_cast<int64_t>(data.size());
  if (size > spec_.size_bytes - received_) {
    return FieldError("data", absl::StrCat("must end at header.size_bytes = ", spec_.size_bytes,
                                           ", got ", size, " bytes at ", received_));
  }
  const absl::Status written = file_.WriteAt(received_, data);
  if (absl::IsResourceExhausted(written)) Remove();
  ATTNPRUNE_RETURN_IF_ERROR(written);
  const int64_t before = std::exchange(received_, received_ + size);
  store_->RecordProgress(spec_.upload_id, received_);
  on_written();
  hash_.Update(data);
  if (before / kWriteBackBytes != received_ / kWriteBackBytes) {
    file_.StartWriteBack(before / kWriteBackBytes * kWriteBackBytes, kWriteBackBytes);
  }
  return absl::OkStatus();
}

absl::Status Upload::Finish() {
  if (received_ != spec_.size_bytes) {
    return FieldError("data", absl::StrCat("must have header.size_bytes = ", spec_.size_bytes,
                                           " bytes in all, got ", received_,
                                           "; the upload can go on from there"));
  }
  const std::string got = hash_.Finish();
  absl::Status status =
      got == spec_.sha256
          ? Seal()
          : FieldError("header.sha256", absl::StrCat("must be the digest of the data, expected ",
                                                     spec_.sha256, ", got ", got));
  Remove();  // its bytes are in place or of no use
  return status;
}

absl::Status Upload::Seal() {
  ATTNPRUNE_RETURN_IF_ERROR(file_.SetTime(store_->clock_->Now()));
  ATTNPRUNE_RETURN_IF_ERROR(file_.Sync());
  return store_->Publish(file_.path(), spec_.sha256, spec_.size_bytes);
}

}  // namespace attnprune
