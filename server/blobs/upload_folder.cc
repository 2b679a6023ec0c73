#include "server/blobs/upload_folder.h"

#include <iterator>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "core/base/status_macros.h"
#include "core/io/file.h"
#include "server/blobs/upload_rules.h"

namespace attnprune {
namespace {

constexpr int64_t kLongestSidecar = 256;
constexpr absl::string_view kDataSuffix = ".data";
constexpr absl::string_view kSpecSuffix = ".spec";
constexpr absl::string_view kPutSuffix = ".put";

absl::optional<UploadSpec> ReadSidecar(const std::string& key, const std::string& path) {
  const absl::StatusOr<File> file = File::OpenForReading(path);
  if (!file.ok()) return absl::nullopt;
  const absl::StatusOr<int64_t> size = file->Size();
  if (!size.ok() || *size > kLongestSidecar) return absl::nullopt;
  std::string line(static_cast<size_t>(*size), '\0');
  if (!file->ReadAt(0, absl::MakeSpan(line)).ok()) return absl::nullopt;
  return ParseSidecar(key, line);
}

}  // namespace

// --- files --------------------------------------------------------------------------------------

absl::Status UploadFolder::Open() {
  ATTNPRUNE_RETURN_IF_ERROR(MakeWritableFolder(folder_));
  ATTNPRUNE_RETURN_IF_ERROR(CheckNoLink(folder_));
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListFolder(folder_));
  for (const std::string& name : names) {
    absl::string_view key = name;
    if (absl::EndsWith(name, kPutSuffix)) RemoveFile(absl::StrCat(folder_, "/", name));
    if (absl::ConsumeSuffix(&key, kDataSuffix) || absl::ConsumeSuffix(&key, kSpecSuffix)) {
      Load(std::string(key));
    }
  }
  return absl::OkStatus();
}

void UploadFolder::Load(const std::string& key) {
  const absl::optional<UploadSpec> spec = ReadSidecar(key, SpecPath(key));
  const absl::optional<FileFacts> data = LookUp(DataPath(key));
  if (!spec.has_value() || !data.has_value() || data->size == 0 || data->size > spec->size_bytes) {
    RemoveFiles(key);
    return;
  }
  MutexLock lock(&mutex_);
  const auto [upload, is_new] = uploads_.try_emplace(key);
  if (!is_new) return;  // by its other file
  upload->second = {.spec = *spec, .bytes = data->size, .touched = data->changed};
  SetTaken(upload->second, data->size);
}

absl::Status UploadFolder::WriteSpec(const UploadSpec& spec) const {
  ATTNPRUNE_ASSIGN_OR_RETURN(File file,
                             File::OpenForWriting(SpecPath(spec.Key()), Readers::kOwner));
  ATTNPRUNE_RETURN_IF_ERROR(file.Truncate(0));
  return file.WriteAt(0, FormatSidecar(spec));
}

std::string UploadFolder::DataPath(absl::string_view key) const {
  return absl::StrCat(folder_, "/", key, kDataSuffix);
}

std::string UploadFolder::SpecPath(absl::string_view key) const {
  return absl::StrCat(folder_, "/", key, kSpecSuffix);
}

std::string UploadFolder::NewPutPath() {
  MutexLock lock(&mutex_);
  return absl::StrCat(folder_, "/", next_put_++, kPutSuffix);
}

void UploadFolder::RemoveFiles(const std::string& key) const {
  RemoveFile(DataPath(key));
  RemoveFile(SpecPath(key));
}

// --- holding ------------------------------------------------------------------------------------

absl::Status UploadFolder::Hold(const UploadSpec& spec, int64_t offset,
                                absl::FunctionRef<int64_t()> stored_bytes) {
  MutexLock lock(&mutex_);
  const auto found = uploads_.find(spec.Key());
  const State* const known = found == uploads_.end() ? nullptr : &found->second;
  if (known != nullptr && known->held) return UploadIsHeld(spec);
  ATTNPRUNE_RETURN_IF_ERROR(CheckUploadOffset(known == nullptr ? nullptr : &known->spec,
                                              known == nullptr ? 0 : known->bytes, spec, offset));
  const int64_t others = stored_bytes() + taken_ - (known == nullptr ? 0 : known->taken);
  ATTNPRUNE_RETURN_IF_ERROR(CheckUploadSize(spec, others, limits_));
  if (known == nullptr) ATTNPRUNE_RETURN_IF_ERROR(MakeRoom());
  // So that no spec ever stands beside another tensor's bytes.
  if (known != nullptr && offset == 0) RemoveFiles(spec.Key());
  State& upload = uploads_[spec.Key()];
  upload.spec = spec;
  upload.bytes = offset;
  upload.held = true;
  upload.touched = clock_->Now();
  SetTaken(upload, offset);
  return absl::OkStatus();
}

absl::Status UploadFolder::TakeRoom(const std::string& key, int64_t bytes,
                                    absl::FunctionRef<int64_t()> stored_bytes) {
  const MutexLock lock(&mutex_);
  State& upload = uploads_.at(key);
  ATTNPRUNE_RETURN_IF_ERROR(CheckUploadRoom(upload.bytes, bytes, stored_bytes() + taken_, limits_));
  SetTaken(upload, upload.taken + bytes);
  return absl::OkStatus();
}

void UploadFolder::SetTaken(State& upload, int64_t bytes) {
  const int64_t more = bytes - std::exchange(upload.taken, bytes);
  taken_ += more;
  const auto of = taken_of_.try_emplace(upload.spec.tenant, 0).first;
  of->second += more;
  if (of->second == 0) taken_of_.erase(of);
}

UploadFolder::Uploads::iterator UploadFolder::Erase(Uploads::iterator upload) {
  SetTaken(upload->second, 0);
  RemoveFiles(upload->first);
  return uploads_.erase(upload);
}

// Where the limit is reached, the upload that has been idle for longest goes.
absl::Status UploadFolder::MakeRoom() {
  if (static_cast<int64_t>(uploads_.size()) < limits_.max_uploads) return absl::OkStatus();
  auto longest = uploads_.end();
  for (auto it = uploads_.begin(); it != uploads_.end(); ++it) {
    const bool longer = longest == uploads_.end() || it->second.touched < longest->second.touched;
    if (!it->second.held && longer) longest = it;
  }
  if (longest == uploads_.end() || clock_->Now() - longest->second.touched < kIdleUpload) {
    return TooManyUploads(limits_);
  }
  Erase(longest);
  return absl::OkStatus();
}

absl::StatusOr<int64_t> UploadFolder::CommittedBytes(const std::string& tenant,
                                                     const std::string& upload_id) const {
  ATTNPRUNE_RETURN_IF_ERROR(CheckUploadId("upload_id", upload_id));
  MutexLock lock(&mutex_);
  const auto found = uploads_.find(UploadKey(tenant, upload_id));
  return found == uploads_.end() ? 0 : found->second.bytes;
}

void UploadFolder::RecordProgress(const std::string& key, int64_t bytes) {
  MutexLock lock(&mutex_);
  uploads_.at(key).bytes = bytes;
}

void UploadFolder::Release(const std::string& key) {
  MutexLock lock(&mutex_);
  const auto found = uploads_.find(key);
  State& upload = found->second;
  if (upload.bytes == 0) {  // there is nothing to be resumed
    Erase(found);
    return;
  }
  SetTaken(upload, upload.bytes);
  upload.held = false;
  upload.touched = clock_->Now();
}

void UploadFolder::Forget(const std::string& key) {
  MutexLock lock(&mutex_);
  Erase(uploads_.find(key));
}

void UploadFolder::ForgetUnlessHeld(const std::string& key) {
  MutexLock lock(&mutex_);
  const auto found = uploads_.find(key);
  if (found == uploads_.end() || found->second.held) return;
  Erase(found);
}

// --- all of them --------------------------------------------------------------------------------

int64_t UploadFolder::Collect(absl::Duration grace) {
  MutexLock lock(&mutex_);
  const absl::Time now = clock_->Now();
  int64_t removed = 0;
  for (auto it = uploads_.begin(); it != uploads_.end();) {
    const bool kept = it->second.held || now - it->second.touched < grace;
    if (!kept) ++removed;
    it = kept ? std::next(it) : Erase(it);
  }
  return removed;
}

std::vector<UploadFacts> UploadFolder::List(const absl::optional<std::string>& tenant,
                                            const std::string& after, int limit) const {
  std::map<std::string, UploadFacts> found;  // the first ones so far
  MutexLock lock(&mutex_);
  for (const auto& [key, upload] : uploads_) {
    if (key <= after || (tenant.has_value() && upload.spec.tenant != *tenant)) continue;
    found[key] = {.tenant = upload.spec.tenant,
                  .upload_id = upload.spec.upload_id,
                  .sha256 = upload.spec.sha256,
                  .size_bytes = upload.spec.size_bytes,
                  .received = upload.bytes,
                  .touched = upload.touched};
    if (found.size() > static_cast<size_t>(limit)) found.erase(std::prev(found.end()));
  }
  std::vector<UploadFacts> uploads;
  uploads.reserve(found.size());
  for (auto& [key, upload] : found) uploads.push_back(std::move(upload));
  return uploads;
}

int64_t UploadFolder::Count() const {
  MutexLock lock(&mutex_);
  return static_cast<int64_t>(uploads_.size());
}

int64_t UploadFolder::Bytes() const {
  MutexLock lock(&mutex_);
  return taken_;
}

int64_t UploadFolder::BytesOf(const std::string& tenant) const {
  MutexLock lock(&mutex_);
  const auto found = taken_of_.find(tenant);
  return found == taken_of_.end() ? 0 : found->second;
}

}  // namespace attnprune
