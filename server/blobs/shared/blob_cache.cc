#include "server/blobs/shared/blob_cache.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/clock.h"
#include "core/base/status_macros.h"
#include "core/io/background_sha256.h"
#include "core/io/sha256.h"
#include "server/blobs/file_reader.h"
#include "server/blobs/upload_spec.h"

namespace attnprune {
namespace {

constexpr size_t kWrittenAtOnce = size_t{512} << 10;
constexpr char kStops[] = "the server stops";

absl::Status TooLong(const ComingCopy& copy) {
  return absl::DataLossError(
      absl::StrCat("tensor ", copy.sha256(), ": more comes than its ", copy.size(), " bytes"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<BlobCache>> BlobCache::Open(const std::string& folder,
                                                           int64_t max_bytes) {
  ATTNPRUNE_RETURN_IF_ERROR(MakeWritableFolder(folder));
  ATTNPRUNE_RETURN_IF_ERROR(CheckNoLink(folder));
  std::unique_ptr<BlobCache> cache(new BlobCache(folder, max_bytes));
  ATTNPRUNE_RETURN_IF_ERROR(cache->Load());
  return cache;
}

BlobCache::BlobCache(std::string folder, int64_t max_bytes)
    : folder_(std::move(folder)),
      max_bytes_(max_bytes),
      fetchers_(std::make_unique<boost::asio::thread_pool>(kFetches)) {}

// What was not begun ends here, for readers that are still there.
BlobCache::~BlobCache() {
  stopping_ = true;
  fetchers_ = nullptr;  // waits for what is under way, and drops the rest
  const MutexLock lock(&mutex_);
  for (const auto& [object, waiting] : coming_) {
    const std::shared_ptr<ComingCopy> copy = waiting.lock();
    if (copy != nullptr) copy->End(absl::CancelledError(kStops));
  }
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

// The copy that is there. NOT_FOUND: there is none, or it is not of the tensor's size, and is gone.
absl::StatusOr<File> BlobCache::OpenCopy(const std::string& sha256, int64_t size) {
  {
    const MutexLock lock(&mutex_);
    const auto found = copies_.find(sha256);
    if (found == copies_.end()) return absl::NotFoundError(sha256);
    order_.splice(order_.begin(), order_, found->second.order);
  }
  absl::StatusOr<File> file = File::OpenForReading(PathOf(sha256));
  if (!file.ok() || file->Size().value_or(-1) != size) {
    Drop(sha256);
    return absl::NotFoundError(sha256);
  }
  SetFileTime(PathOf(sha256), SteadyNow()).IgnoreError();  // for the order after a restart
  return file;
}

bool BlobCache::Has(const std::string& sha256) const {
  const MutexLock lock(&mutex_);
  const auto found = copies_.find(sha256);
  return found != copies_.end() && found->second.checked;
}

absl::StatusOr<File> BlobCache::OpenChecked(const StoredBlob& blob) {
  if (!Has(blob.sha256)) return absl::NotFoundError(blob.sha256);
  return OpenCopy(blob.sha256, blob.size);
}

BlobCache::Joined BlobCache::Join(const StoredBlob& blob) {
  const MutexLock lock(&mutex_);
  std::weak_ptr<ComingCopy>& known = coming_[blob.object];
  Joined joined = {.copy = known.lock()};
  if (joined.copy == nullptr) {
    joined = {.copy = std::make_shared<ComingCopy>(blob.sha256, blob.size), .is_new = true};
    known = joined.copy;
  }
  return joined;
}

absl::StatusOr<std::shared_ptr<const File>> BlobCache::Fetch(const StoredBlob& blob, Check check,
                                                             const Source& source) {
  if (check == Check::kOnce) {
    absl::StatusOr<File> file = OpenChecked(blob);
    if (file.ok()) return std::make_shared<const File>(*std::move(file));
  }
  const std::shared_ptr<ComingCopy> copy = Join(blob).copy;
  if (copy->Take()) Obtain(*copy, blob.object, source);
  ATTNPRUNE_RETURN_IF_ERROR(copy->AwaitEnd());
  return std::shared_ptr<const File>(copy, &copy->file());
}

std::unique_ptr<BlobReader> BlobCache::Follow(const StoredBlob& blob, Source source) {
  absl::StatusOr<File> file = OpenChecked(blob);
  if (file.ok()) return std::make_unique<FileReader>(*std::move(file), blob.size);
  const Joined joined = Join(blob);
  if (joined.is_new) {
    boost::asio::post(*fetchers_, [this, waiting = std::weak_ptr<ComingCopy>(joined.copy),
                                   object = blob.object, source = std::move(source)] {
      const std::shared_ptr<ComingCopy> copy = waiting.lock();
      if (copy == nullptr) return ForgetUnwanted(object);
      if (copy->Take()) Obtain(*copy, object, source);
    });
  }
  return std::make_unique<ComingReader>(joined.copy);
}

void BlobCache::ForgetUnwanted(const std::string& object) {
  const MutexLock lock(&mutex_);
  const auto found = coming_.find(object);
  if (found != coming_.end() && found->second.expired()) coming_.erase(found);
}

void BlobCache::Obtain(ComingCopy& copy, const std::string& object, const Source& source) {
  absl::Status status = CheckCopy(copy);
  if (absl::IsNotFound(status)) status = Make(copy, source);
  {
    const MutexLock lock(&mutex_);
    coming_.erase(object);
  }
  copy.End(status);
}

// Hashes the copy that is there, and hands it to readers only then: another may have to take its
// place. NOT_FOUND: there is none, or it was damaged and is gone.
absl::Status BlobCache::CheckCopy(ComingCopy& copy) {
  ATTNPRUNE_ASSIGN_OR_RETURN(File file, OpenCopy(copy.sha256(), copy.size()));
  Sha256 hash;
  const absl::Status read =
      ForEachPiece(file, copy.size(), [&](absl::Span<const char> piece) { hash.Update(piece); });
  if (!read.ok() || hash.Finish() != copy.sha256()) {
    Drop(copy.sha256());
    return absl::NotFoundError(copy.sha256());
  }
  copy.Begin(std::move(file), copy.size());
  const MutexLock lock(&mutex_);
  const auto found = copies_.find(copy.sha256());
  if (found != copies_.end()) found->second.checked = true;
  return absl::OkStatus();
}

absl::Status BlobCache::Make(ComingCopy& copy, const Source& source) {
  {
    const MutexLock lock(&mutex_);
    coming_bytes_ += copy.size();
    Evict(max_bytes_ - coming_bytes_);
  }
  const std::string path = PathOf(copy.sha256());
  const std::string temporary = absl::StrCat(path, ".", next_file_++, ".new");
  absl::Status status = Write(copy, temporary, source);
  if (status.ok()) status = RenameFile(temporary, path);
  if (!status.ok()) RemoveFile(temporary);
  const MutexLock lock(&mutex_);
  coming_bytes_ -= copy.size();
  if (status.ok()) Insert(copy.sha256(), {.size = copy.size(), .checked = true});
  Evict(max_bytes_ - coming_bytes_);
  return status;
}

// Readers have a file of their own, which is never written.
absl::Status BlobCache::Write(ComingCopy& copy, const std::string& path, const Source& source) {
  ATTNPRUNE_ASSIGN_OR_RETURN(File file, File::OpenForWriting(path, Readers::kOwner));
  ATTNPRUNE_RETURN_IF_ERROR(WithRoom([&] { return file.Reserve(copy.size()); }));
  ATTNPRUNE_ASSIGN_OR_RETURN(File read, File::OpenForReading(path));
  copy.Begin(std::move(read), 0);
  BackgroundSha256 hash;
  std::string piece;
  int64_t at = 0;
  const auto write_piece = [&]() -> absl::Status {
    ATTNPRUNE_RETURN_IF_ERROR(WithRoom([&] { return file.WriteAt(at, piece); }));
    at += static_cast<int64_t>(piece.size());
    copy.Advance(at);
    piece = hash.Update(std::move(piece));
    piece.clear();
    return absl::OkStatus();
  };
  const auto take = [&](absl::Span<const char> bytes) -> absl::Status {
    if (stopping_) return absl::CancelledError(kStops);
    piece.append(bytes.data(), bytes.size());
    if (at + static_cast<int64_t>(piece.size()) > copy.size()) return TooLong(copy);
    return piece.size() < kWrittenAtOnce ? absl::OkStatus() : write_piece();
  };
  ATTNPRUNE_RETURN_IF_ERROR(source(take));
  ATTNPRUNE_RETURN_IF_ERROR(write_piece());
  const std::string got = hash.Finish();
  if (got == copy.sha256() && at == copy.size()) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat("tensor ", copy.sha256(), ": its ", at, " bytes now hash to ", got));
}

// Others' copies may take the disk.
absl::Status BlobCache::WithRoom(absl::FunctionRef<absl::Status()> write) {
  absl::Status status = write();
  if (!absl::IsResourceExhausted(status)) return status;
  {
    const MutexLock lock(&mutex_);
    Evict(0);
  }
  return write();
}

}  // namespace attnprune
