// Any CreateRunRequest through the API and its stores, in which a small model's tensors and token
// ids are: refused as a client's fault, or a run that is there and can be cancelled, resumed and
// deleted.
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/fuzz/fuzz_backend.h"
#include "tests/server/api/small_run.h"

namespace attnprune::fuzz {
namespace {

void CreateAndDelete(api::Backend& backend, const v1::CreateRunRequest& request) {
  const absl::StatusOr<v1::Run> made =
      backend.runs().CreateRun(access::Everyone(), request, JobOrigin());
  if (!made.ok()) return ExpectRefusal(made.status());
  if (request.validate_only()) return;
  const absl::StatusOr<v1::Run> read = backend.runs().GetRun(access::Everyone(), made->name());
  if (!read.ok()) Find("a created run is not there", read.status());
  for (const bool resume : {true, false}) {
    const absl::StatusOr<v1::Run> cancelled =
        backend.runs().CancelRun(access::Everyone(), made->name());
    if (!cancelled.ok()) Find("a queued run is not cancelled", cancelled.status());
    if (!resume) break;
    const absl::StatusOr<v1::Run> resumed =
        backend.runs().ResumeRun(access::Everyone(), made->name());
    if (!resumed.ok()) Find("a cancelled run is not resumed", resumed.status());
  }
  const absl::Status deleted = backend.runs().DeleteRun(access::Everyone(), made->name());
  if (!deleted.ok()) Find("a cancelled run is not deleted", deleted);
}

}  // namespace
}  // namespace attnprune::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static attnprune::api::Backend& backend = attnprune::fuzz::SharedBackend();
  static const std::vector<std::string> stored = [] {
    attnprune::v1::Run run =
        attnprune::api::GoldenRun("llama-sparsegpt-groups", &backend.tensors());
    return attnprune::fuzz::DigestsOf(run);
  }();
  attnprune::v1::CreateRunRequest request;
  if (!request.ParseFromArray(data, static_cast<int>(size))) return 0;
  attnprune::fuzz::FillDigests(stored, request);
  attnprune::fuzz::CreateAndDelete(backend, request);
  return 0;
}
