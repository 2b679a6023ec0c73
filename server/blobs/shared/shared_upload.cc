#include "server/blobs/shared/shared_upload.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "server/blobs/upload_rules.h"

namespace attnprune {

SharedUpload::SharedUpload(const UploadSpec& spec, SharedBlobs* blobs)
    : Upload(spec),
      blobs_(blobs),
      part_bytes_(blobs->place().PartBytes(spec.size_bytes)),
      sending_(std::make_unique<SpoolFile>(blobs->options().local_folder + "/uploads")),
      spool_(std::make_unique<SpoolFile>(blobs->options().local_folder + "/uploads")) {}

void SharedUpload::TakeHold(HeldUploads::Hold hold) {
  holder_ = std::move(hold.holder);
  extent_ = std::move(hold.upload.extent);
  holds_ = true;
  blobs_->Sweep(hold.upload.spare);
}

absl::Status SharedUpload::Begin(int64_t offset) {
  ATTNPRUNE_RETURN_IF_ERROR(
      blobs_->disk().CheckBeginning(std::min(spec().size_bytes - offset, part_bytes_)));
  hashed_ = extent_.part_bytes == 0;
  if (extent_.tail_bytes > 0) ATTNPRUNE_RETURN_IF_ERROR(ReadTail());
  received_ = offset;
  begun_ = true;
  return absl::OkStatus();
}

absl::Status SharedUpload::ReadTail() {
  ATTNPRUNE_RETURN_IF_ERROR(
      blobs_->place().Read(extent_.tail, [this](absl::Span<const char> bytes) {
        hash_.Update(bytes);
        return spool_->Append(bytes);
      }));
  if (spool_->size() == extent_.tail_bytes) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat("upload ", spec().upload_id, ": its last ",
                                          extent_.tail_bytes, " bytes are ", spool_->size()));
}

// Where the end cannot be stored, what the ledger has stands, and the client sends the rest again.
SharedUpload::~SharedUpload() {
  if (!holds_) return;
  AwaitPart().IgnoreError();
  const bool more = spool_->size() > extent_.tail_bytes;
  if (begun_ && more) PutTail().IgnoreError();
  const auto spare = blobs_->ledger().Release(spec().Key(), holder_, extent_);
  blobs_->held().Forget(spec().Key());
  if (spare.ok()) blobs_->Sweep(*spare);
}

void SharedUpload::Discard() {
  AwaitPart().IgnoreError();
  const auto spare = blobs_->ledger().Drop(spec().Key(), holder_);
  blobs_->held().Forget(spec().Key());
  holds_ = false;
  if (spare.ok()) blobs_->Sweep(*spare);
}

absl::Status SharedUpload::PutTail() {
  UploadExtent extent = extent_;
  extent.tail = absl::StrCat("uploads/", RandomDigits());
  extent.tail_bytes = spool_->size();
  ATTNPRUNE_RETURN_IF_ERROR(blobs_->ledger().Reserve({extent.tail}));
  ATTNPRUNE_ASSIGN_OR_RETURN(const MappedFile bytes, spool_->Map());
  const absl::Span<const char> pieces[] = {bytes.bytes()};
  ATTNPRUNE_RETURN_IF_ERROR(blobs_->place().Put(extent.tail, pieces));
  extent_ = std::move(extent);
  return absl::OkStatus();
}

absl::Status SharedUpload::BeginParts() {
  const std::string object = NewBlobObject(spec().sha256);
  ATTNPRUNE_RETURN_IF_ERROR(blobs_->ledger().Reserve({object}));
  ATTNPRUNE_ASSIGN_OR_RETURN(std::string writing, blobs_->place().BeginParts(object));
  ATTNPRUNE_RETURN_IF_ERROR(blobs_->ledger().Reserve({object, writing}));
  extent_.object = object;
  extent_.writing = std::move(writing);
  return absl::OkStatus();
}

absl::StatusOr<SharedUpload::SentPart> SharedUpload::SendPart(UploadExtent extent,
                                                              const SpoolFile& bytes) const {
  ATTNPRUNE_ASSIGN_OR_RETURN(const MappedFile mapped, bytes.Map());
  const absl::Span<const char> pieces[] = {mapped.bytes()};
  ATTNPRUNE_ASSIGN_OR_RETURN(
      std::string part,
      blobs_->place().PutPart(extent.object, extent.writing, static_cast<int>(extent.parts.size()),
                              extent.part_bytes, pieces));
  extent.parts.push_back(std::move(part));
  extent.part_bytes += bytes.size();
  extent.tail.clear();
  extent.tail_bytes = 0;
  ATTNPRUNE_ASSIGN_OR_RETURN(SpareObjects spare,
                             blobs_->ledger().Record(spec().Key(), holder_, extent));
  return SentPart{std::move(extent), std::move(spare)};
}

// Where no thread can be had it is sent when it is awaited.
absl::Status SharedUpload::PutPart() {
  ATTNPRUNE_RETURN_IF_ERROR(AwaitPart());
  if (extent_.object.empty()) ATTNPRUNE_RETURN_IF_ERROR(BeginParts());
  std::swap(sending_, spool_);
  sent_ = std::async([this, extent = extent_] { return SendPart(extent, *sending_); });
  return absl::OkStatus();
}

// What came behind a part that could not be sent is of no use: the client sends it again.
absl::Status SharedUpload::AwaitPart() {
  if (!sent_.valid()) return absl::OkStatus();
  absl::StatusOr<SentPart> sent = sent_.get();
  if (!sent.ok()) {
    std::swap(sending_, spool_);
    return sent.status();
  }
  extent_ = std::move(sent->extent);
  blobs_->Sweep(sent->spare);
  return sending_->Clear();
}

absl::Status SharedUpload::Write(absl::Span<const char> data) {
  ATTNPRUNE_RETURN_IF_ERROR(
      blobs_->held().TakeRoom(spec().Key(), static_cast<int64_t>(data.size())));
  ATTNPRUNE_RETURN_IF_ERROR(blobs_->disk().CheckNext(static_cast<int64_t>(data.size())));
  while (!data.empty()) {
    // A part is put when there is more to come: the last one is Finish's.
    if (spool_->size() == part_bytes_) ATTNPRUNE_RETURN_IF_ERROR(PutPart());
    const auto size = static_cast<size_t>(part_bytes_ - spool_->size());
    ATTNPRUNE_RETURN_IF_ERROR(spool_->Append(data.subspan(0, size)));
    data.remove_prefix(std::min(size, data.size()));
  }
  return absl::OkStatus();
}

absl::Status SharedUpload::Append(absl::Span<const char> data,
                                  absl::FunctionRef<void()> on_written) {
  const auto size = static_cast<int64_t>(data.size());
  ATTNPRUNE_RETURN_IF_ERROR(CheckUploadEnd(spec(), received_, size));
  const absl::Status written = data.empty() ? absl::OkStatus() : Write(data);
  if (absl::IsResourceExhausted(written)) Discard();
  ATTNPRUNE_RETURN_IF_ERROR(written);
  received_ += size;
  blobs_->held().RecordProgress(spec().Key(), received_);
  on_written();
  hash_.Update(data);
  return absl::OkStatus();
}

absl::Status SharedUpload::PutWhole() {
  ATTNPRUNE_ASSIGN_OR_RETURN(const MappedFile bytes, spool_->Map());
  const absl::Span<const char> pieces[] = {bytes.bytes()};
  return blobs_->PutNew(spec().sha256, spec().size_bytes, [&](const std::string& object) {
    return blobs_->place().Put(object, pieces);
  });
}

absl::StatusOr<std::string> SharedUpload::Digest() {
  if (hashed_) return hash_.Finish();
  Sha256 hash;
  ATTNPRUNE_RETURN_IF_ERROR(blobs_->place().Read(extent_.object, [&](absl::Span<const char> bytes) {
    hash.Update(bytes);
    return absl::OkStatus();
  }));
  return hash.Finish();
}

absl::Status SharedUpload::Complete() {
  if (spool_->size() > 0) ATTNPRUNE_RETURN_IF_ERROR(PutPart());
  ATTNPRUNE_RETURN_IF_ERROR(AwaitPart());
  return blobs_->place().CompleteParts(extent_.object, extent_.writing, extent_.parts);
}

absl::Status SharedUpload::Seal() {
  if (extent_.parts.empty()) return PutWhole();
  return blobs_->Publish({spec().sha256, extent_.object, spec().size_bytes});
}

// What was hashed as it came is known to be wrong before it is stored.
absl::Status SharedUpload::Finish() {
  ATTNPRUNE_RETURN_IF_ERROR(CheckUploadWhole(spec(), received_));
  ATTNPRUNE_RETURN_IF_ERROR(AwaitPart());
  absl::StatusOr<std::string> digest;
  if (hashed_) digest = Digest();
  if (!hashed_ || (*digest == spec().sha256 && !extent_.parts.empty())) {
    ATTNPRUNE_RETURN_IF_ERROR(Complete());
  }
  if (!hashed_) digest = Digest();
  ATTNPRUNE_RETURN_IF_ERROR(digest.status());
  absl::Status status = CheckUploadDigest(spec(), *digest);
  if (status.ok()) status = Seal();
  // Its bytes are in place or of no use; or the place is away, and they stay for another try.
  if (status.ok() || absl::IsInvalidArgument(status)) Discard();
  return status;
}

}  // namespace attnprune
