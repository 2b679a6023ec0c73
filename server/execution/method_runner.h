// Runs the methods of a job, each from its specification, or its checkpoint, to a result that is
// scored and ready to be stored.
#ifndef ATTNPRUNE_SERVER_EXECUTION_METHOD_RUNNER_H_
#define ATTNPRUNE_SERVER_EXECUTION_METHOD_RUNNER_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/optional.h"
#include "attnprune/v1/job.pb.h"
#include "core/judge/score.h"
#include "core/methods/method.h"
#include "core/objective/prepared_problem.h"
#include "server/execution/job_runner.h"
#include "server/execution/job_spec.h"
#include "server/execution/job_writer.h"
#include "server/execution/method_messages.h"

namespace attnprune {

// What the parts of one run of a job share. Everything outlives them.
struct JobContext {
  const JobRecord& record;
  const JobClaim& claim;
  const JobSpec& job;  // record.spec
  JobStore* jobs;
  BlobStore* tensors;
  const JobRunnerOptions& options;
  StopSignal* stop;
  JobWriter* writer;
  std::function<bool()> stopped;  // whether the job is to stop; looks at the clock too
};

// CANCELLED if the job is to stop.
absl::Status CheckStop(const JobContext& context);
// CANCELLED if the job is to stop and what its method has by now is of no use: to another attempt
// there is the checkpoint. What a job has that somebody cancels is kept.
absl::Status CheckKept(const JobContext& context);

// One thread at a time.
class MethodRunner {
 public:
  // A method's result, and the weights as they are to be stored.
  struct Produced {
    v1::MethodResult message;  // without the digests of its tensors
    PruneResult result;
    std::vector<std::vector<char>> weights;
  };

  MethodRunner(const JobContext& context, PreparedProblem& problem)
      : context_(context), problem_(problem), judge_(problem) {}

  // Builds the dense attention of the problem. What fails here fails again where it is needed, and
  // is told there.
  void Prepare();

  // index: into the job's methods. Of a job that is cancelled the result so far. Errors: of
  // CheckKept, the method's, the judge's.
  absl::StatusOr<Produced> Run(int index);

 private:
  struct Solved {
    PruneResult result;
    double seconds;  // over all attempts
  };

  const JobMethod& MethodAt(int index) const {
    return context_.job.methods[static_cast<size_t>(index)];
  }
  absl::StatusOr<Solved> Solve(int index);
  absl::StatusOr<Solved> Attempt(const Method& method, int index, double seconds_before,
                                 RunOptions options);
  absl::optional<MethodCheckpoint> ReadCheckpoint(int index);

  const JobContext& context_;
  PreparedProblem& problem_;
  ResultJudge judge_;
  double preparing_seconds_ = 0;  // that no result carries yet
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_EXECUTION_METHOD_RUNNER_H_
