// A byte and a ListJobsRequest or, by the byte's last bit, a ListRunsRequest or, by the one before,
// a ListTensorsRequest, where there are four jobs and a run with their tensors: refused as a
// client's fault, or pages that end.
#include <cstddef>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "tests/fuzz/fuzz_backend.h"
#include "tests/server/api/jobs_for_tests.h"
#include "tests/server/api/small_run.h"

namespace attnprune::fuzz {
namespace {

constexpr int kStored = 5;
constexpr int kMostPages = 500;  // of tensors, more than there are

api::Backend& BackendWithJobs() {
  static api::Backend& backend = [&]() -> api::Backend& {
    api::Backend& empty = SharedBackend();
    for (int i = 0; i < kStored - 1; ++i) {
      v1::Job job = empty.GoodJob();
      api::SetLabel(job, "team", absl::StrCat(i % 2));
      const v1::Job made = empty.Create(job);
      if (i == 0 && !empty.api().CancelJob(access::Everyone(), made.name()).ok()) std::abort();
    }
    v1::CreateRunRequest request;
    *request.mutable_run() = api::GoldenRun("llama-sparsegpt-groups", &empty.tensors());
    const absl::StatusOr<v1::Run> run =
        empty.runs().CreateRun(access::Everyone(), request, JobOrigin());
    if (!run.ok()) Find("no run to be listed", run.status());
    return empty;
  }();
  return backend;
}

template <typename Request, typename List>
void ListAll(Request request, const List& list, int most_pages = kStored) {
  for (int pages = 0; pages <= most_pages; ++pages) {
    const auto page = list(request);
    if (!page.ok()) return ExpectRefusal(page.status());
    if (page->next_page_token().empty()) return;
    request.set_page_token(page->next_page_token());
  }
  Find("more pages than things", absl::OkStatus());
}

}  // namespace
}  // namespace attnprune::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace attnprune;
  static api::Backend& backend = fuzz::BackendWithJobs();
  if (size == 0) return 0;
  const int bytes = static_cast<int>(size) - 1;
  v1::ListJobsRequest jobs;
  v1::ListRunsRequest runs;
  v1::ListTensorsRequest tensors;
  if ((data[0] & 2) != 0) {
    if (!tensors.ParseFromArray(data + 1, bytes)) return 0;
    const auto list = [](const auto& request) {
      return backend.tensor_api().ListTensors(access::Everyone(), request);
    };
    fuzz::ListAll(tensors, list, fuzz::kMostPages);
  } else if ((data[0] & 1) == 0 && jobs.ParseFromArray(data + 1, bytes)) {
    fuzz::ListAll(jobs, [](const auto& request) {
      return backend.api().ListJobs(access::Everyone(), request);
    });
  } else if ((data[0] & 1) == 1 && runs.ParseFromArray(data + 1, bytes)) {
    fuzz::ListAll(runs, [](const auto& request) {
      return backend.runs().ListRuns(access::Everyone(), request);
    });
  }
  return 0;
}
