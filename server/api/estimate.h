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
// With d the input features, N the tokens of the calibration batches, N' of the held-out ones, n
// the longest batch, R the outputs (rows of all weights; d when fused), H heads of width h (1 of d
// when fused) and A the entries that the attention mask allows:
//
// memory, 4 bytes times
//   (N + N') d tokens
//   2 R min(tokens, 8 Mi / H h): projections and gradients of a chunk (chunks.h), of either set
//   H (A + A' + 32 (N + N')): dense attention kept; or (N + N') (R + 2 H) to rebuild it; or, with
//   the tokens in a file, 2 H (N + N'), R min(tokens, 8 Mi / H h) and no tokens
//   on each thread 4 n h of keys in panels and 128 n of a block's rows
// and the most that is held at one time of
//   MethodInfo::bytes of the method that runs, or 16 P (P the weights) for a result in judgement;
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
