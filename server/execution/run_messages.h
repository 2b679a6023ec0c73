// What a run's results say in the API's messages.
#ifndef ATTNPRUNE_SERVER_EXECUTION_RUN_MESSAGES_H_
#define ATTNPRUNE_SERVER_EXECUTION_RUN_MESSAGES_H_

#include "attnprune/v1/run.pb.h"
#include "core/methods/registry.h"
#include "core/problem/sparsity.h"
#include "core/sequential/layer_pruner.h"

namespace attnprune {

// What came of it, without the digests.
v1::PrunedTensor DescribeTensor(const Stretch::Tensor& tensor, const PrunedWeights& pruned);
// Adds what was asked for. seconds: of solving.
void DescribeChoice(const ChosenMethod& method, const Sparsity& sparsity, double seconds,
                    v1::PrunedTensor& message);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_EXECUTION_RUN_MESSAGES_H_
