#include "server/blobs/shared/object_checkpoints.h"

#include "absl/strings/str_cat.h"
#include "core/base/status_macros.h"
#include "server/queue/checksum.h"

namespace attnprune {
namespace {

constexpr char kCheckpointFolder[] = "checkpoints";

std::string ObjectOf(const std::string& name) { return absl::StrCat(kCheckpointFolder, "/", name); }

}  // namespace

absl::StatusOr<CheckpointRef> ObjectCheckpoints::Write(const std::string& name,
                                                       absl::string_view bytes) const {
  const absl::Span<const char> pieces[] = {{bytes.data(), bytes.size()}};
  ATTNPRUNE_RETURN_IF_ERROR(place_->Put(ObjectOf(name), pieces));
  return CheckpointRef{name, static_cast<int64_t>(bytes.size()), ChecksumOfBytes(bytes)};
}

// UNAVAILABLE where the place is away: the checkpoint may be whole all the same.
absl::StatusOr<std::string> ObjectCheckpoints::Read(const CheckpointRef& ref) const {
  std::string bytes;
  const absl::Status read =
      place_->Read(ObjectOf(ref.name), [&](absl::Span<const char> piece) -> absl::Status {
        if (static_cast<int64_t>(bytes.size() + piece.size()) > ref.size) {
          return absl::DataLossError(absl::StrCat(ref.name, ": checkpoint is damaged"));
        }
        bytes.append(piece.data(), piece.size());
        return absl::OkStatus();
      });
  if (absl::IsNotFound(read)) {
    ATTNPRUNE_RETURN_IF_ERROR(place_->Check());
    return absl::DataLossError(absl::StrCat(ref.name, ": checkpoint is gone"));
  }
  ATTNPRUNE_RETURN_IF_ERROR(read);
  const bool whole =
      static_cast<int64_t>(bytes.size()) == ref.size && ChecksumOfBytes(bytes) == ref.checksum;
  if (whole) return bytes;
  return absl::DataLossError(absl::StrCat(ref.name, ": checkpoint is damaged"));
}

void ObjectCheckpoints::Remove(const std::string& name) const {
  place_->Remove(ObjectOf(name)).IgnoreError();
}

std::vector<std::string> ObjectCheckpoints::List() const {
  absl::StatusOr<std::vector<std::string>> names = place_->List(kCheckpointFolder);
  if (!names.ok()) return {};
  std::erase_if(*names, [](const std::string& name) { return !IsCheckpointName(name); });
  return *std::move(names);
}

}  // namespace attnprune
