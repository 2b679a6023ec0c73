// Any CreateJobRequest through the API and its stores, in which a layer's tensors are: refused as a
// client's fault, or a job that is there and can be cancelled and deleted.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/fuzz/fuzz_backend.h"

namespace attnprune::fuzz {
namespace {

void CreateAndDelete(api::Backend& backend, const v1::CreateJobRequest& request) {
  const absl::StatusOr<v1::Job> made =
      backend.api().CreateJob(access::Everyone(), request, JobOrigin());
  if (!made.ok()) return ExpectRefusal(made.status());
  if (request.validate_only()) return;
  const absl::StatusOr<v1::Job> read = backend.api().GetJob(access::Everyone(), made->name());
  if (!read.ok()) Find("a created job is not there", read.status());
  const absl::StatusOr<v1::Job> cancelled =
      backend.api().CancelJob(access::Everyone(), made->name());
  if (!cancelled.ok()) Find("a queued job is not cancelled", cancelled.status());
  const absl::Status deleted = backend.api().DeleteJob(access::Everyone(), made->name());
  if (!deleted.ok()) Find("a cancelled job is not deleted", deleted);
}

}  // namespace
}  // namespace attnprune::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static attnprune::api::Backend& backend = attnprune::fuzz::SharedBackend();
  static const std::vector<std::string> stored = [] {
    attnprune::v1::Job job = backend.GoodJob();
    return attnprune::fuzz::DigestsOf(job);
  }();
  attnprune::v1::CreateJobRequest request;
  if (!request.ParseFromArray(data, static_cast<int>(size))) return 0;
  attnprune::fuzz::FillDigests(stored, request);
  attnprune::fuzz::CreateAndDelete(backend, request);
  return 0;
}
