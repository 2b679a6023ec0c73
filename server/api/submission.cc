#include "server/api/submission.h"

#include <set>

#include "core/base/status_macros.h"
#include "core/io/sha256.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "server/api/status_details.h"

namespace attnprune::api {
namespace {

constexpr int kDefaultPageSize = 50, kMaxPageSize = 1000, kMaxStates = 16;
constexpr size_t kMaxStoredBytes = size_t{1} << 20, kMaxTensorName = 255;

absl::Status CheckSize(const JobTensor& tensor, int64_t stored_bytes) {
  if (stored_bytes == tensor.bytes()) return absl::OkStatus();
  return FieldError(absl::StrCat(tensor.field, ".shape"),
                    absl::StrCat("must come to the ", stored_bytes,
                                 " bytes of the stored tensor, got ", tensor.bytes()));
}

}  // namespace

std::string DeterministicBytes(const google::protobuf::Message& message) {
  std::string bytes;
  google::protobuf::io::StringOutputStream stream(&bytes);
  google::protobuf::io::CodedOutputStream coded(&stream);
  coded.SetSerializationDeterministic(true);
  message.SerializeToCodedStream(&coded);
  coded.Trim();
  return bytes;
}

std::string DigestOf(const google::protobuf::Message& message) {
  return Sha256Of(DeterministicBytes(message));
}

absl::Duration ToDuration(const google::protobuf::Duration& duration) {
  return absl::Seconds(duration.seconds()) + absl::Nanoseconds(duration.nanos());
}

std::vector<std::string> UniqueDigests(absl::Span<const JobTensor* const> tensors) {
  std::set<std::string> digests;
  for (const JobTensor* const tensor : tensors) digests.insert(tensor->sha256);
  return {digests.begin(), digests.end()};
}

// Missing ones are asked for together and before the sizes are compared: FindMissing starts their
// grace anew, so that they are still there when the job is stored.
absl::Status CheckStored(const access::Caller& caller, absl::Span<const JobTensor* const> tensors,
                         const TensorApi& stored) {
  const std::vector<std::string> digests = UniqueDigests(tensors);
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<std::string> missing,
                             stored.FindMissing(caller, digests));
  if (!missing.empty()) {
    return WithPreconditions(absl::FailedPreconditionError(absl::StrCat(
                                 missing.size(), " of ", digests.size(),
                                 " tensors are not uploaded, the first is ", missing.front())),
                             "TENSOR_MISSING", missing);
  }
  for (const JobTensor* const tensor : tensors) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const int64_t size, stored.SizeOf(caller, tensor->sha256));
    ATTNPRUNE_RETURN_IF_ERROR(CheckSize(*tensor, size));
  }
  return absl::OkStatus();
}

absl::Status CheckStoredSizes(const access::Caller& caller,
                              absl::Span<const JobTensor* const> tensors, const TensorApi& stored) {
  for (const JobTensor* const tensor : tensors) {
    const absl::StatusOr<int64_t> size = stored.SizeOf(caller, tensor->sha256);
    if (absl::IsNotFound(size.status())) continue;
    ATTNPRUNE_RETURN_IF_ERROR(size.status());
    ATTNPRUNE_RETURN_IF_ERROR(CheckSize(*tensor, *size));
  }
  return absl::OkStatus();
}

absl::Status CheckMemory(absl::string_view field, int64_t bytes, int64_t limit) {
  if (limit == 0 || bytes <= limit) return absl::OkStatus();
  return WithReason(
      FieldError(field,
                 absl::StrCat("must need at most ", limit,
                              " bytes of memory on this server, is estimated to need ", bytes)),
      "JOB_TOO_LARGE", {{"limit_bytes", absl::StrCat(limit)}});
}

absl::Status CheckTensorNames(absl::Span<const JobTensor* const> tensors) {
  for (const JobTensor* const tensor : tensors) {
    if (tensor->name.size() <= kMaxTensorName) continue;
    return MustError(absl::StrCat(tensor->field, ".name"),
                     absl::StrCat("have at most ", kMaxTensorName, " bytes"), tensor->name.size());
  }
  return absl::OkStatus();
}

absl::Status CheckStoredBytes(absl::string_view field, size_t bytes) {
  if (bytes <= kMaxStoredBytes) return absl::OkStatus();
  return MustError(field, absl::StrCat("have at most ", kMaxStoredBytes, " bytes as a message"),
                   bytes);
}

absl::StatusOr<JobRecord> Store(const NewJob& job, JobStore* jobs, absl::Duration retry_after) {
  absl::StatusOr<CreateOutcome> outcome = jobs->Create(job);
  if (absl::IsResourceExhausted(outcome.status())) {
    return WithRetryAfter(outcome.status(), retry_after);
  }
  ATTNPRUNE_RETURN_IF_ERROR(outcome.status());
  return std::move(outcome->job);
}

absl::StatusOr<int> CheckPageSize(int page_size) {
  if (page_size == 0) return kDefaultPageSize;
  if (page_size >= 1 && page_size <= kMaxPageSize) return page_size;
  return FieldError("page_size",
                    absl::StrCat("must be in [0, ", kMaxPageSize, "], got ", page_size));
}

absl::Status CheckStateCount(int states) {
  if (states <= kMaxStates) return absl::OkStatus();
  return MustError("states", absl::StrCat("have at most ", kMaxStates, " entries"), states);
}

absl::StatusOr<JobState> CheckState(int index, int state) {
  const absl::optional<JobState> known = JobStateFromNumber(state);
  if (known.has_value()) return *known;
  return MustError(absl::StrCat("states[", index, "]"), "be a state of a job", state);
}

}  // namespace attnprune::api
