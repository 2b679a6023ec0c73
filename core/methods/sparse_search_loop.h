// The loop around a SparseSearch: what a step reports and when it ends.
#ifndef ATTNPRUNE_CORE_METHODS_SPARSE_SEARCH_LOOP_H_
#define ATTNPRUNE_CORE_METHODS_SPARSE_SEARCH_LOOP_H_

#include "absl/status/statusor.h"
#include "core/methods/method.h"
#include "core/methods/search_objectives.h"
#include "core/methods/sparse_search.h"

namespace attnprune {

// Takes the steps that the search's plan has left, none if the sparsity asked for prunes nothing:
// then no weight changes. The search's Best() is the result, whatever the reason. An observer's
// wish to stop ends it after the step, unless that was the last. Errors: those of a report.
//
// The figures of a step are of the part of the batches that it learnt from: attention_loss scaled
// to all of them, soft_relative_error at the sparsity of the moment. calibration_error and
// held_out_error are of the values after the step at full sparsity.
absl::StatusOr<TerminationReason> RunSparseSearch(SparseSearch& search,
                                                  SearchObjectives& objectives,
                                                  const RunOptions& options,
                                                  ProgressObserver& observer);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_METHODS_SPARSE_SEARCH_LOOP_H_
