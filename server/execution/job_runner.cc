#include "server/execution/job_runner.h"

#include <memory>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "attnprune/v1/job.pb.h"
#include "core/base/status_macros.h"
#include "core/io/file.h"
#include "core/objective/prepared_problem.h"
#include "server/execution/claimed_job.h"
#include "server/execution/job_spec.h"
#include "server/execution/method_messages.h"
#include "server/execution/method_runner.h"
#include "server/execution/problem_builder.h"
#include "server/execution/run_runner.h"

namespace attnprune {
namespace {

// One run of a job's methods.
class JobRun {
 public:
  JobRun(const JobRecord& record, JobStore* jobs, BlobStore* tensors,
         const JobRunnerOptions& options, StopSignal* stop)
      : life_(record, jobs, tensors, options, stop),
        context_{record, life_.claim(),   spec_,
                 jobs,   tensors,         options,
                 stop,   &life_.writer(), [this] { return life_.StopRequested(); }} {}

  void Run();

 private:
  int done() const { return static_cast<int>(context_.record.results.size()); }  // methods, by now

  absl::Status ReadJob();
  absl::Status BuildAndRunMethods();
  void CountResult(const v1::MethodResult& result);
  absl::Status RunMethod(MethodRunner& runner, int index);

  absl::Status StoreTensors(MethodRunner::Produced* produced);
  absl::Status Store(absl::Span<const char> bytes, v1::TensorRef* tensor);
  absl::Status StoreResult(int index, const v1::MethodResult& result);

  ClaimedJob life_;
  v1::Job job_;
  JobSpec spec_;  // of job_, while its methods run
  const JobContext context_;
  int usable_results_ = 0;
  absl::Status first_failure_;  // of a method
};

// --- From methods to results ---

void JobRun::Run() {
  absl::Status status;
  try {
    status = ReadJob();
    if (status.ok() && done() < job_.methods_size()) status = BuildAndRunMethods();
  } catch (const std::bad_alloc&) {
    status = absl::ResourceExhaustedError("the job needs more memory than the server has");
  }
  life_.End(status, [this] { return usable_results_ == 0 ? first_failure_ : absl::OkStatus(); });
}

absl::Status JobRun::ReadJob() {
  if (!job_.ParseFromString(context_.record.spec)) {
    return absl::DataLossError("the stored job is not a message of the API");
  }
  for (const std::string& bytes : context_.record.results) {
    v1::MethodResult result;
    if (!result.ParseFromString(bytes)) {
      return absl::DataLossError("a stored result is not a message of the API");
    }
    CountResult(result);
  }
  return absl::OkStatus();
}

absl::Status JobRun::BuildAndRunMethods() {
  ATTNPRUNE_RETURN_IF_ERROR(CheckStop(context_));
  ATTNPRUNE_ASSIGN_OR_RETURN(spec_, DecodeJob(job_));
  const DenseAttention attention =
      WithinBudget(job_.estimate(), context_.options.memory_budget_bytes);
  std::string spill_folder;
  if (attention == DenseAttention::kRecompute) {
    spill_folder = context_.options.spill_folder;
    ATTNPRUNE_RETURN_IF_ERROR(CheckDiskRoom(spill_folder, SpilledBytes(spec_.shape),
                                            context_.options.min_free_disk_bytes,
                                            "the server's disk"));
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(const Problem problem,
                             BuildProblem(spec_, context_.tensors, context_.stopped, spill_folder));
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::unique_ptr<PreparedProblem> prepared,
                             PreparedProblem::OfValid(problem, {.threads = context_.options.threads,
                                                                .attention = attention}));
  MethodRunner runner(context_, *prepared);
  runner.Prepare();
  for (int i = done(); i < job_.methods_size(); ++i) {
    ATTNPRUNE_RETURN_IF_ERROR(RunMethod(runner, i));
  }
  return absl::OkStatus();
}

void JobRun::CountResult(const v1::MethodResult& result) {
  if (!result.has_failure()) {
    ++usable_results_;
  } else if (first_failure_.ok()) {
    first_failure_ = absl::Status(static_cast<absl::StatusCode>(result.failure().code()),
                                  absl::StrCat(result.method(), ": ", result.failure().message()));
  }
}

absl::Status JobRun::RunMethod(MethodRunner& runner, int index) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckStop(context_));
  absl::StatusOr<MethodRunner::Produced> produced = runner.Run(index);
  ATTNPRUNE_RETURN_IF_ERROR(produced.ok() ? CheckKept(context_) : CheckStop(context_));
  if (!produced.ok()) {
    const std::string& label = spec_.methods[static_cast<size_t>(index)].label;
    return StoreResult(index, MakeFailedMethod(label, produced.status()));
  }
  const bool cancelled = context_.stop->reason() == StopReason::kCancelled;
  ATTNPRUNE_RETURN_IF_ERROR(StoreTensors(&*produced));
  ATTNPRUNE_RETURN_IF_ERROR(StoreResult(index, produced->message));
  return cancelled ? CheckStop(context_) : absl::OkStatus();
}

// --- From results to the stores ---

absl::Status JobRun::Store(absl::Span<const char> bytes, v1::TensorRef* tensor) {
  ATTNPRUNE_ASSIGN_OR_RETURN(*tensor->mutable_sha256(), life_.Put(bytes));
  return absl::OkStatus();
}

absl::Status JobRun::StoreTensors(MethodRunner::Produced* produced) {
  for (size_t i = 0; i < produced->weights.size(); ++i) {
    v1::MatrixResult& matrix = *produced->message.mutable_matrices(static_cast<int>(i));
    const absl::Span<const uint8_t> mask = produced->result.matrices[i].mask.bytes();
    const absl::Span<const char> bits(reinterpret_cast<const char*>(mask.data()), mask.size());
    ATTNPRUNE_RETURN_IF_ERROR(Store(bits, matrix.mutable_mask()));
    ATTNPRUNE_RETURN_IF_ERROR(Store(produced->weights[i], matrix.mutable_weights()));
  }
  return absl::OkStatus();
}

absl::Status JobRun::StoreResult(int index, const v1::MethodResult& result) {
  std::vector<std::string> digests;
  for (const v1::MatrixResult& matrix : result.matrices()) {
    digests.push_back(matrix.mask().sha256());
    digests.push_back(matrix.weights().sha256());
  }
  ATTNPRUNE_RETURN_IF_ERROR(life_.StoreResult(index, result.SerializeAsString(), digests));
  CountResult(result);
  return absl::OkStatus();
}

}  // namespace

void RunJob(const JobRecord& job, JobStore* jobs, BlobStore* tensors,
            const JobRunnerOptions& options, StopSignal* stop) {
  if (KindOf(job.id) == JobKind::kRun) return RunModel(job, jobs, tensors, options, stop);
  JobRun(job, jobs, tensors, options, stop).Run();
}

}  // namespace attnprune
