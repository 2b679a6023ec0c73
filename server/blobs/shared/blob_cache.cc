#include "server/blobs/shared/blob_cache.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/clock.h"
#include "core/base/status_macros.h"
#include "core/io/sha256.h"
#include "server/blobs/upload_spec.h"

namespace attnprune {

absl::StatusOr<std::unique_ptr<BlobCache>> BlobCache::Open(const std::string& folder,
                                                           int64_t max_bytes) {
  ATTNPRUNE_RETURN_IF_ERROR(MakeWritableFolder(folder));
  ATTNPRUNE_RETURN_IF_ERROR(CheckNoLink(folder));
  std::unique_ptr<BlobCache> cache(new BlobCache(folder, max_bytes));
  ATTNPRUNE_RETURN_IF_ERROR(cache->Load());
  return cache;
}

absl::Status BlobCache::Load() {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListFolder(folder_));
  std::vector<std::pair<absl::Time, std::string>> by_age;
  const MutexLock lock(&mutex_);
  for (const std::string& name : names) {
    const absl::optional<FileFacts> facts = LookUp(PathOf(name));
    if (!IsSha256(name) || !facts.has_value()) {
      RemoveFile(PathOf(name));
    } else {
      by_age.emplace_back(facts->changed, name);
    }
  }
  std::sort(by_age.begin(), by_age.end());
  for (const auto& [time, name] : by_age) Insert(name, {.size = LookUp(PathOf(name))->size});
  Evict(max_bytes_);
  return absl::OkStatus();
}

void BlobCache::Insert(const std::string& sha256, const Copy& copy) {
  DropLocked(sha256);
  order_.push_front(sha256);
  Copy& inserted = copies_[sha256] = copy;
  inserted.order = order_.begin();
  bytes_ += copy.size;
}

void BlobCache::DropLocked(const std::string& sha256) {
  const auto found = copies_.find(sha256);
  if (found == copies_.end()) return;
  bytes_ -= found->second.size;
  order_.erase(found->second.order);
  copies_.erase(found);
}

void BlobCache::Evict(int64_t most) {
  while (bytes_ > most && !order_.empty()) {
    const std::string last = order_.back();
    RemoveFile(PathOf(last));
    DropLocked(last);
  }
}

void BlobCache::Drop(const std::string& sha256) {
  const MutexLock lock(&mutex_);
  if (copies_.count(sha256) > 0) RemoveFile(PathOf(sha256));
  DropLocked(sha256);
}

int64_t BlobCache::Bytes() const {
  const MutexLock lock(&mutex_);
  return bytes_;
}

absl::StatusOr<File> BlobCache::Fetch(const std::string& sha256, int64_t size, Check check,
                                      Source source) {
  {
    const MutexLock lock(&mutex_);
    fetched_.Wait(&mutex_, [&]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return fetching_.count(sha256) == 0;
    });
    fetching_.insert(sha256);
  }
  absl::StatusOr<File> file = OpenCopy(sha256, size, check);
  if (absl::IsNotFound(file.status())) file = Make(sha256, size, source);
  {
    const MutexLock lock(&mutex_);
    fetching_.erase(sha256);
    Evict(max_bytes_);
  }
  fetched_.NotifyAll();
  return file;
}

// NOT_FOUND: there is none, or it was damaged and is gone.
absl::StatusOr<File> BlobCache::OpenCopy(const std::string& sha256, int64_t size, Check check) {
  bool checked = false;
  {
    const MutexLock lock(&mutex_);
    const auto found = copies_.find(sha256);
    if (found == copies_.end()) return absl::NotFoundError(sha256);
    order_.splice(order_.begin(), order_, found->second.order);
    checked = found->second.checked && check == Check::kOnce;
  }
  absl::StatusOr<File> file = File::OpenForReading(PathOf(sha256));
  bool good = file.ok() && file->Size().value_or(-1) == size;
  if (good && !checked) {
    Sha256 hash;
    const absl::Status read =
        ForEachPiece(*file, size, [&](absl::Span<const char> piece) { hash.Update(piece); });
    good = read.ok() && hash.Finish() == sha256;
  }
  if (!good) {
    Drop(sha256);
    return absl::NotFoundError(sha256);
  }
  SetFileTime(PathOf(sha256), SteadyNow()).IgnoreError();  // for the order after a restart
  const MutexLock lock(&mutex_);
  const auto found = copies_.find(sha256);
  if (found != copies_.end()) found->second.checked = true;
  return file;
}

absl::StatusOr<File> BlobCache::Make(const std::string& sha256, int64_t size, Source source) {
  {
    const MutexLock lock(&mutex_);
    Evict(std::max<int64_t>(0, max_bytes_ - size));
  }
  absl::Status written = Write(sha256, size, source);
  if (absl::IsResourceExhausted(written)) {  // others' copies take the disk
    {
      const MutexLock lock(&mutex_);
      Evict(0);
    }
    written = Write(sha256, size, source);
  }
  ATTNPRUNE_RETURN_IF_ERROR(written);
  absl::StatusOr<File> file = File::OpenForReading(PathOf(sha256));
  const MutexLock lock(&mutex_);
  Insert(sha256, {.size = size, .checked = true});
  return file;
}

absl::Status BlobCache::Write(const std::string& sha256, int64_t size, Source source) {
  const std::string temporary = PathOf(sha256) + ".new";
  ATTNPRUNE_ASSIGN_OR_RETURN(File file, File::OpenForWriting(temporary, Readers::kOwner));
  Sha256 hash;
  int64_t at = 0;
  absl::Status status = file.Truncate(0);
  if (status.ok()) {
    status = source([&](absl::Span<const char> bytes) -> absl::Status {
      ATTNPRUNE_RETURN_IF_ERROR(file.WriteAt(at, bytes));
      at += static_cast<int64_t>(bytes.size());
      hash.Update(bytes);
      return absl::OkStatus();
    });
  }
  const std::string got = hash.Finish();
  if (status.ok() && (got != sha256 || at != size)) {
    status = absl::DataLossError(
        absl::StrCat("tensor ", sha256, ": its ", at, " bytes now hash to ", got));
  }
  if (status.ok()) status = RenameFile(temporary, PathOf(sha256));
  if (!status.ok()) RemoveFile(temporary);
  return status;
}

}  // namespace attnprune
