// What a run's results say in the API's messages.
#ifndef ATTNPRUNE_SERVER_EXECUTION_RUN_MESSAGES_H_
#define ATTNPRUNE_SERVER_EXECUTION_RUN_MESSAGES_H_

#include "attnprune/v1/run.pb.h"
#include "core/sequential/layer_pruner.h"
#include "server/execution/run_spec.h"

namespace attnprune {

// Without the digests. seconds: of solving.
v1::PrunedTensor DescribeTensor(const Stretch::Tensor& tensor, const RunChoice& choice,
                                const PrunedWeights& pruned, double seconds);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_EXECUTION_RUN_MESSAGES_H_
