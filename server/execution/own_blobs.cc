#include "server/execution/own_blobs.h"

#include <memory>

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"

namespace attnprune {

absl::Status ReadOwnBlob(ClaimedJob& job, const std::string& digest, const std::string& tail,
                         absl::Span<char> out) {
  ATTNPRUNE_RETURN_IF_ERROR(job.CheckStop());
  std::unique_ptr<BlobReader> reader;
  const auto open = [&]() -> absl::Status {
    ATTNPRUNE_RETURN_IF_ERROR(job.tensors()->Verify(digest));
    ATTNPRUNE_ASSIGN_OR_RETURN(reader, job.tensors()->OpenForReading(digest));
    return absl::OkStatus();
  };
  // Where the place is away, what was saved is not given up.
  ATTNPRUNE_RETURN_IF_ERROR(job.Retry(open));
  const auto expected = static_cast<int64_t>(out.size() + tail.size());
  if (reader->size() != expected) {
    return absl::DataLossError(
        absl::StrCat("must have ", expected, " bytes, got ", reader->size()));
  }
  return reader->ReadAt(0, out);
}

}  // namespace attnprune
