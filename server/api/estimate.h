// What a job is expected to need, from the shapes alone. Pure; callable from any thread.
#ifndef ATTNPRUNE_SERVER_API_ESTIMATE_H_
#define ATTNPRUNE_SERVER_API_ESTIMATE_H_

#include "attnprune/v1/job.pb.h"

namespace attnprune::api {

// Measured once, by MeasureRate.
struct MachineRate {
  double flops_per_second = 50e9;  // of a large single-precision product on one idle thread
  int threads = 1;                 // that solve a job; each has scratch of its own
};

// Multiplies two 512 x 512 matrices for some 20 ms. InitializeBlas must have been called.
MachineRate MeasureRate();

// `job` must have passed CheckJob. budget: see memory_plan.h.
//
// With P the weights' entries, d the input features, N the tokens of the calibration batches, N' of
// the held-out ones, n the longest batch, R the outputs (rows of all weights; d when fused), H
// heads of width h (1 of d when fused) and A the entries that the attention mask allows:
//
// memory, 4 bytes times
//   (N + N') d tokens
//   2 R min(tokens, 8 Mi / H h): projections and gradients of a chunk (chunks.h), of either set
//   H (A + A' + 32 (N + N')): dense attention kept; or (N + N') (R + 2 H) to rebuild it; or, with
//   the tokens in a file, 2 H (N + N'), R min(tokens, 8 Mi / H h) and no tokens
//   on each thread 4 n h of keys in panels and 128 n of a block's rows
//   13 P of solver state, or 17 P (ste), 22 P (joint), 31 P (refit); 10 P and 2 d^2 doubles without
//   steps; N d where a method splits the calibration batches
// or, if that is more, all tokens and the largest input at 8 bytes an entry, while it is read (not
// where the tokens are in a file);
// and 8 MiB that any job takes
//
// operations
//   of a loss: 2 N P + 2 A H h, and the softmax, counted as 100 an entry
//   of a gradient: 4 N P + 6 A H h and the same softmax
//   where dense attention is rebuilt: 2 A H h and the softmax once more; with the tokens in a file
//   2 N P too
//   with steps: a gradient a step, a loss on all data at each evaluation; without: at most
//   SparseGPT's 2 N d^2 + 2 d^3 + 2 P d; scoring: four losses on all data a method
//
// seconds: operations over half the measured rate
v1::Estimate EstimateJob(const v1::Job& job, const MachineRate& rate, int64_t budget = 0);

}  // namespace attnprune::api

#endif  // ATTNPRUNE_SERVER_API_ESTIMATE_H_
