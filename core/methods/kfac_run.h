// The loop around a KfacSearch, and what it costs: what `kfac` and `joint` share.
#ifndef ATTNPRUNE_CORE_METHODS_KFAC_RUN_H_
#define ATTNPRUNE_CORE_METHODS_KFAC_RUN_H_

#include "absl/status/statusor.h"
#include "core/methods/kfac_objective.h"
#include "core/methods/kfac_search.h"
#include "core/methods/method.h"
#include "core/objective/attention_objective.h"
#include "core/problem/problem_shape.h"

namespace attnprune {

// Steps of ADMM in all rounds of both phases, at most.
int KfacStepsAtMost(const KfacOptions& options);

// Steps until the search has ended. An observer's wish to stop ends it after the step, unless that
// was the last. The search's Best() is the result. Errors: those of a step and of a report.
absl::StatusOr<TerminationReason> RunKfac(const KfacOptions& options, int evaluate_every,
                                          KfacObjective& objective, KfacSearch& search,
                                          ProgressObserver& observer);

// See MethodInfo.
double KfacBytes(const ProblemShape& shape, const KfacOptions& options, DenseAttention dense,
                 int threads);
double KfacOperations(const ProblemShape& shape, const KfacOptions& options, DenseAttention dense);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_METHODS_KFAC_RUN_H_
