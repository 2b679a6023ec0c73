// An upload into a shared blob store.
#ifndef ATTNPRUNE_SERVER_BLOBS_SHARED_SHARED_UPLOAD_H_
#define ATTNPRUNE_SERVER_BLOBS_SHARED_SHARED_UPLOAD_H_

#include <string>

#include "core/io/sha256.h"
#include "server/blobs/shared/shared_blobs.h"
#include "server/blobs/shared/spool_file.h"

namespace attnprune {

class SharedUpload final : public Upload {
 public:
  // blobs must outlive it. It is "already there" until Begin.
  SharedUpload(const UploadSpec& spec, SharedBlobs* blobs);
  ~SharedUpload() override;

  // The caller has taken it (HeldUploads::Take): from now on this releases it.
  void TakeHold(HeldUploads::Hold hold);
  absl::Status Begin(int64_t offset);
  void Discard() override;

  bool already_there() const override { return !begun_; }
  int64_t received() const override { return received_; }
  using Upload::Append;
  absl::Status Append(absl::Span<const char> data, absl::FunctionRef<void()> on_written) override;
  absl::Status Finish() override;

 private:
  absl::Status ReadTail();
  absl::Status Write(absl::Span<const char> data);
  absl::Status BeginParts();
  absl::Status PutPart();  // of what is spooled
  absl::Status PutTail();
  absl::Status PutWhole();
  absl::Status Complete();
  absl::Status Seal();
  absl::StatusOr<std::string> Digest();

  SharedBlobs* const blobs_;
  const int64_t part_bytes_;
  std::string holder_;
  UploadExtent extent_;  // as the ledger has it
  SpoolFile spool_;      // what is behind its parts
  Sha256 hash_;
  bool hashed_ = true;  // all that was received
  int64_t received_ = 0;
  bool begun_ = false;
  bool holds_ = false;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_BLOBS_SHARED_SHARED_UPLOAD_H_
