// An upload into a shared blob store.
#ifndef ATTNPRUNE_SERVER_BLOBS_SHARED_SHARED_UPLOAD_H_
#define ATTNPRUNE_SERVER_BLOBS_SHARED_SHARED_UPLOAD_H_

#include <future>
#include <memory>
#include <string>

#include "core/io/sha256.h"
#include "server/blobs/shared/shared_blobs.h"
#include "server/blobs/shared/spool_file.h"

namespace attnprune {

// A part is sent while the next one comes.
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
  struct SentPart {
    UploadExtent extent;  // with it
    SpareObjects spare;
  };
  absl::StatusOr<SentPart> SendPart(UploadExtent extent, const SpoolFile& bytes) const;
  absl::Status PutPart();    // of what is spooled: begins
  absl::Status AwaitPart();  // the one that is being sent, if any
  absl::Status PutTail();
  absl::Status PutWhole();
  absl::Status Complete();
  absl::Status Seal();
  absl::StatusOr<std::string> Digest();

  SharedBlobs* const blobs_;
  const int64_t part_bytes_;
  std::string holder_;
  UploadExtent extent_;  // as the ledger has it
  // What is behind its parts: first what is being sent, if anything is.
  std::unique_ptr<SpoolFile> sending_, spool_;
  Sha256 hash_;
  bool hashed_ = true;  // all that was received
  int64_t received_ = 0;
  bool begun_ = false;
  bool holds_ = false;
  std::future<absl::StatusOr<SentPart>> sent_;  // last: it uses all of the above
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_BLOBS_SHARED_SHARED_UPLOAD_H_
