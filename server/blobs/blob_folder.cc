#include "server/blobs/blob_folder.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "core/io/sha256.h"
#include "server/blobs/upload_spec.h"

namespace attnprune {
namespace {

constexpr size_t kMostWhole = 10'000;  // digests that VerifyOnce keeps

}  // namespace

absl::Status NoSuchTensor(absl::string_view sha256) {
  return absl::NotFoundError(absl::StrCat("tensor ", sha256, " is not in the store"));
}

BlobFolder::BlobFolder(const std::string& folder, const Clock* clock)
    : folder_(folder),
      blobs_folder_(absl::StrCat(folder, "/sha256")),
      quarantine_folder_(absl::StrCat(folder, "/corrupt")),
      clock_(clock) {}

// A former process may have been killed between a rename and the syncs; what is found is on disk
// before it counts.
absl::Status BlobFolder::Open() {
  for (const std::string& folder : {blobs_folder_, quarantine_folder_}) {
    ATTNPRUNE_RETURN_IF_ERROR(MakeWritableFolder(folder));
    ATTNPRUNE_RETURN_IF_ERROR(CheckNoLink(folder));
  }
  ATTNPRUNE_RETURN_IF_ERROR(SyncFolder(folder_));
  ATTNPRUNE_RETURN_IF_ERROR(SyncFolder(blobs_folder_));
  return Load();
}

absl::Status BlobFolder::Load() {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<std::string> folders, Subfolders());
  for (const std::string& folder : folders) {
    ATTNPRUNE_RETURN_IF_ERROR(SyncFolder(folder));
    ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListFolder(folder));
    for (const std::string& name : names) {
      const absl::optional<FileFacts> facts = LookUp(absl::StrCat(folder, "/", name));
      if (!IsSha256(name) || !facts.has_value()) continue;
      MutexLock lock(&mutex_);
      AddLocked(+1, facts->size);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::string>> BlobFolder::Subfolders() const {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListFolder(blobs_folder_));
  std::vector<std::string> folders;
  for (const std::string& name : names) {
    std::string folder = absl::StrCat(blobs_folder_, "/", name);
    if (IsFolder(folder)) folders.push_back(std::move(folder));
  }
  return folders;
}

std::string BlobFolder::BlobPath(absl::string_view sha256) const {
  return absl::StrCat(blobs_folder_, "/", sha256.substr(0, 2), "/", sha256);
}

int64_t BlobFolder::Count() const {
  MutexLock lock(&mutex_);
  return count_;
}

int64_t BlobFolder::Bytes() const {
  MutexLock lock(&mutex_);
  return bytes_;
}

void BlobFolder::AddLocked(int sign, int64_t bytes) {
  count_ += sign;
  bytes_ += sign * bytes;
}

// --- reading ------------------------------------------------------------------------------------

absl::optional<int64_t> BlobFolder::FindAndTouch(const std::string& sha256) {
  MutexLock lock(&mutex_);
  AwaitPublished(sha256);
  const absl::optional<FileFacts> facts = LookUp(BlobPath(sha256));
  if (!facts.has_value()) return absl::nullopt;
  // Where this fails (a read-only disk), collecting fails too.
  SetFileTime(BlobPath(sha256), clock_->Now()).IgnoreError();
  return facts->size;
}

void BlobFolder::AwaitPublished(const std::string& sha256) {
  published_.Wait(&mutex_, [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    return publishing_.find(sha256) == publishing_.end();
  });
}

absl::StatusOr<int64_t> BlobFolder::SizeOf(const std::string& sha256) const {
  if (!IsSha256(sha256)) return NoSuchTensor(sha256);
  const absl::optional<FileFacts> facts = LookUp(BlobPath(sha256));
  if (!facts.has_value()) return NoSuchTensor(sha256);
  return facts->size;
}

absl::optional<BlobFacts> BlobFolder::FactsOf(const std::string& sha256) const {
  if (!IsSha256(sha256)) return absl::nullopt;
  MutexLock lock(&mutex_);
  const absl::optional<FileFacts> facts = LookUp(BlobPath(sha256));
  if (!facts.has_value() || publishing_.count(sha256) > 0) return absl::nullopt;
  return BlobFacts{sha256, facts->size, facts->changed};
}

// Folders and their files stand in the order of the digests.
absl::StatusOr<std::vector<BlobFacts>> BlobFolder::List(const std::string& after, int limit) const {
  std::vector<BlobFacts> blobs;
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<std::string> folders, Subfolders());
  const std::string first = FolderOf(BlobPath(after));
  for (const std::string& folder : folders) {
    if (!after.empty() && folder < first) continue;
    ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListFolder(folder));
    for (const std::string& name : names) {
      if (!IsSha256(name) || name <= after) continue;
      absl::optional<BlobFacts> facts = FactsOf(name);
      if (facts.has_value()) blobs.push_back(*std::move(facts));
      if (blobs.size() == static_cast<size_t>(limit)) return blobs;
    }
  }
  return blobs;
}

std::vector<BlobFacts> BlobFolder::LookAt(absl::Span<const std::string> digests) const {
  std::vector<BlobFacts> blobs;
  for (const std::string& digest : digests) {
    absl::optional<BlobFacts> facts = FactsOf(digest);
    if (facts.has_value()) blobs.push_back(*std::move(facts));
  }
  return blobs;
}

absl::StatusOr<MappedFile> BlobFolder::Map(const std::string& sha256, int64_t size_bytes) const {
  ATTNPRUNE_RETURN_IF_ERROR(SizeOf(sha256).status());
  absl::StatusOr<MappedFile> file = MappedFile::Open(BlobPath(sha256));
  if (absl::IsNotFound(file.status())) return NoSuchTensor(sha256);
  if (file.ok() && file->bytes().size() != static_cast<size_t>(size_bytes)) {
    return absl::DataLossError(absl::StrCat("tensor ", sha256, ": must have ", size_bytes,
                                            " bytes, its file has ", file->bytes().size()));
  }
  return file;
}

absl::StatusOr<File> BlobFolder::OpenForReading(const std::string& sha256) const {
  if (!IsSha256(sha256)) return NoSuchTensor(sha256);
  absl::StatusOr<File> file = File::OpenForReading(BlobPath(sha256));
  if (absl::IsNotFound(file.status())) return NoSuchTensor(sha256);
  return file;
}

absl::Status BlobFolder::Verify(const std::string& sha256) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const File file, OpenForReading(sha256));
  ATTNPRUNE_ASSIGN_OR_RETURN(const int64_t size, file.Size());
  Sha256 hash;
  ATTNPRUNE_RETURN_IF_ERROR(
      ForEachPiece(file, size, [&](absl::Span<const char> piece) { hash.Update(piece); }));
  const std::string got = hash.Finish();
  if (got == sha256) return absl::OkStatus();
  ATTNPRUNE_RETURN_IF_ERROR(Quarantine(sha256, file));
  return absl::DataLossError(absl::StrCat("tensor ", sha256, ": its ", size, " bytes now hash to ",
                                          got, "; quarantined in ", quarantine_folder_));
}

bool BlobFolder::FoundWhole(const std::string& sha256, uint64_t inode) {
  MutexLock lock(&mutex_);
  const auto found = whole_.find(sha256);
  return found != whole_.end() && found->second == inode;
}

absl::Status BlobFolder::VerifyOnce(const std::string& sha256) {
  const absl::optional<FileFacts> facts = LookUp(BlobPath(sha256));
  if (!facts.has_value()) return NoSuchTensor(sha256);
  if (FoundWhole(sha256, facts->inode)) return absl::OkStatus();
  ATTNPRUNE_RETURN_IF_ERROR(Verify(sha256));
  MutexLock lock(&mutex_);
  if (whole_.size() >= kMostWhole) whole_.clear();
  whole_[sha256] = facts->inode;
  return absl::OkStatus();
}

absl::Status BlobFolder::Quarantine(const std::string& sha256, const File& file) {
  MutexLock lock(&mutex_);
  const absl::optional<FileFacts> facts = LookUp(BlobPath(sha256));
  // Unless another thread did, or an upload has replaced it since.
  if (!facts.has_value() || facts->inode != file.Inode()) return absl::OkStatus();
  ATTNPRUNE_RETURN_IF_ERROR(
      RenameFile(BlobPath(sha256), absl::StrCat(quarantine_folder_, "/", sha256)));
  AddLocked(-1, facts->size);
  return absl::OkStatus();
}

// --- publishing ---------------------------------------------------------------------------------

absl::Status BlobFolder::Publish(const std::string& temporary, const std::string& sha256,
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
    if (former.has_value()) AddLocked(-1, former->size);
    publishing_.insert(sha256);
  }
  absl::Status status = SyncEntry(path);
  if (status.ok()) status = SyncFolder(FolderOf(temporary));
  {
    MutexLock lock(&mutex_);
    publishing_.erase(sha256);
    if (status.ok()) AddLocked(+1, size_bytes);
    if (!status.ok()) RemoveFile(path);
  }
  published_.NotifyAll();
  return status;
}

// The folder above too: this thread or another may just have made the blob's.
absl::Status BlobFolder::SyncEntry(const std::string& blob_path) const {
  ATTNPRUNE_RETURN_IF_ERROR(SyncFolder(FolderOf(blob_path)));
  return SyncFolder(blobs_folder_);
}

// --- collecting ---------------------------------------------------------------------------------

absl::Status BlobFolder::Collect(const std::unordered_set<std::string>& referenced,
                                 absl::Duration grace, Collected* collected) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<std::string> folders, Subfolders());
  for (const std::string& folder : folders) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListFolder(folder));
    for (const std::string& name : names) {
      if (!IsSha256(name) || referenced.count(name) > 0) continue;
      CollectBlob(name, grace, collected);
    }
  }
  return absl::OkStatus();
}

// The age is looked at and the file removed under one lock, which FindAndTouch takes too: what was
// told to be there either got its new time before, or was told to be missing.
void BlobFolder::CollectBlob(const std::string& sha256, absl::Duration grace,
                             Collected* collected) {
  MutexLock lock(&mutex_);
  const absl::optional<FileFacts> facts = LookUp(BlobPath(sha256));
  if (!facts.has_value() || publishing_.count(sha256) > 0) return;
  if (clock_->Now() - facts->changed < grace) return;
  RemoveFile(BlobPath(sha256));
  AddLocked(-1, facts->size);
  ++collected->blobs;
  collected->blob_bytes += facts->size;
}

}  // namespace attnprune
