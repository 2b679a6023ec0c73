// The blob store of one server, in its data folder:
//
//   <folder>/tensors/sha256/ab/<64 digits>   a finished tensor: raw bytes, read only, never changed
//   <folder>/tensors/corrupt/<64 digits>     one whose bytes had changed; for the operator
//   <folder>/uploads/<key>.data              the bytes of an upload so far; UploadSpec::Key
//   <folder>/uploads/<key>.spec              what it is to become (FormatSidecar)
//   <folder>/uploads/<number>.put            a result being written by this server
//
// A file under sha256/ counts only once its bytes and its folder entry are on disk (fsync of the
// file, rename, fsync of the folders). What a power loss takes of an upload is what the kernel had
// not written back (some 30 s). One process at a time may use a folder: see FolderLock.
#ifndef ATTNPRUNE_SERVER_BLOBS_POSIX_BLOB_STORE_H_
#define ATTNPRUNE_SERVER_BLOBS_POSIX_BLOB_STORE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/base/clock.h"
#include "server/blobs/blob_store.h"

namespace attnprune {

// Where a finished tensor is below <folder>: "tensors/sha256/ab/<64 digits>".
std::string TensorFile(absl::string_view sha256);

struct PosixBlobStoreOptions {
  std::string folder;  // the server's data folder; made if absent
  BlobStoreLimits limits;
  int64_t min_free_disk_bytes = int64_t{64} << 20;  // uploads leave so much for the database
};

// Makes the folders, finds the uploads that a former process left, removes what it was putting.
// clock must outlive the store.
absl::StatusOr<std::unique_ptr<BlobStore>> OpenPosixBlobStore(const PosixBlobStoreOptions& options,
                                                              const Clock* clock);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_BLOBS_POSIX_BLOB_STORE_H_
