// What a job is expected to need, from the shapes alone. Pure; callable from any thread.
#ifndef ATTNPRUNE_SERVER_API_ESTIMATE_H_
#define ATTNPRUNE_SERVER_API_ESTIMATE_H_

#include "attnprune/v1/job.pb.h"
#include "server/api/job_check.h"

namespace attnprune::api {

// Measured once, by MeasureRate.
struct MachineRate {
  double flops_per_second = 50e9;  // of a large single-precision product on one idle thread
  int threads = 1;                 // that solve a job; each has scratch of its own
};

// By MeasureGemmRate, some 20 ms. InitializeBlas must have been called.
MachineRate MeasureRate();

// budget: see WithinBudget.
//
// With d the input features and P the weights:
//
// memory: ObjectiveBytes of the calibration and of the held-out batches (attention_objective.h),
// and the most that is held at one time of
//   MethodInfo::bytes of the method that runs, or 16 P for a result in judgement;
//   8 d^2 of second moments X'X a set of batches: once a method is judged, where dense attention is
//   kept; else of one set, while a method that uses it runs or one is judged;
// or, if that is more, all tokens and the largest input at 8 bytes an entry, while it is read (not
// where the tokens are in a file);
// and 8 MiB that any job takes
//
// operations: MethodInfo::operations, a loss on all data at each evaluation, four to score
// (attention_objective.h)
//
// seconds: operations over half the measured rate
v1::Estimate EstimateJob(const CheckedJob& job, const MachineRate& rate, int64_t budget = 0);

}  // namespace attnprune::api

#endif  // ATTNPRUNE_SERVER_API_ESTIMATE_H_
