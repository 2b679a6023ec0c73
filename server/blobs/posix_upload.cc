#include "server/blobs/posix_upload.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"

namespace attnprune {
namespace {

constexpr int64_t kWriteBackBytes = int64_t{8} << 20;

}  // namespace

absl::Status PosixUpload::Begin(int64_t offset) {
  received_ = offset;
  ATTNPRUNE_ASSIGN_OR_RETURN(file_, File::OpenForWriting(uploads_->DataPath(spec().upload_id)));
  if (offset == 0) {
    // In this order, so that no spec ever stands beside another tensor's bytes.
    ATTNPRUNE_RETURN_IF_ERROR(file_.Truncate(0));
    ATTNPRUNE_RETURN_IF_ERROR(uploads_->WriteSpec(spec()));
  }
  ATTNPRUNE_RETURN_IF_ERROR(ReserveDisk());
  return ForEachPiece(file_, offset, [this](absl::Span<const char> piece) { hash_.Update(piece); });
}

absl::Status PosixUpload::ReserveDisk() {
  ATTNPRUNE_ASSIGN_OR_RETURN(const int64_t has, file_.DiskBytes());
  ATTNPRUNE_RETURN_IF_ERROR(
      CheckDiskRoom(options_.folder, spec().size_bytes - has, options_.min_free_disk_bytes));
  return file_.Reserve(spec().size_bytes);
}

PosixUpload::~PosixUpload() {
  if (!holds_id_) return;
  if (file_.fd() >= 0) {
    file_.Truncate(received_).IgnoreError();  // gives back what was reserved beyond
    // For a store that opens the folder later; failing means only a shorter grace.
    file_.SetTime(clock_->Now()).IgnoreError();
  }
  uploads_->Release(spec().upload_id);
}

void PosixUpload::Remove() {
  uploads_->Forget(spec().upload_id);
  holds_id_ = false;
}

absl::Status PosixUpload::Append(absl::Span<const char> data,
                                 absl::FunctionRef<void()> on_written) {
  const auto size = static_cast<int64_t>(data.size());
  if (size > spec().size_bytes - received_) {
    return FieldError("data", absl::StrCat("must end at header.size_bytes = ", spec().size_bytes,
                                           ", got ", size, " bytes at ", received_));
  }
  const absl::Status written = file_.WriteAt(received_, data);
  if (absl::IsResourceExhausted(written)) Remove();
  ATTNPRUNE_RETURN_IF_ERROR(written);
  const int64_t before = std::exchange(received_, received_ + size);
  uploads_->RecordProgress(spec().upload_id, received_);
  on_written();
  hash_.Update(data);
  if (before / kWriteBackBytes != received_ / kWriteBackBytes) {
    file_.StartWriteBack(before / kWriteBackBytes * kWriteBackBytes, kWriteBackBytes);
  }
  return absl::OkStatus();
}

absl::Status PosixUpload::Finish() {
  if (received_ != spec().size_bytes) {
    return FieldError("data", absl::StrCat("must have header.size_bytes = ", spec().size_bytes,
                                           " bytes in all, got ", received_,
                                           "; the upload can go on from there"));
  }
  const std::string got = hash_.Finish();
  absl::Status status =
      got == spec().sha256
          ? Seal()
          : FieldError("header.sha256", absl::StrCat("must be the digest of the data, expected ",
                                                     spec().sha256, ", got ", got));
  Remove();  // its bytes are in place or of no use
  return status;
}

absl::Status PosixUpload::Seal() {
  ATTNPRUNE_RETURN_IF_ERROR(file_.SetTime(clock_->Now()));
  ATTNPRUNE_RETURN_IF_ERROR(file_.Sync());
  return blobs_->Publish(file_.path(), spec().sha256, spec().size_bytes);
}

}  // namespace attnprune
