// What `ste`, `joint` and `refit` share: parameters, costs, and the loop around a SparseSearch; and
// the method that `ste` and `joint` are.
#ifndef ATTNPRUNE_CORE_METHODS_SEARCH_METHOD_H_
#define ATTNPRUNE_CORE_METHODS_SEARCH_METHOD_H_

#include <vector>

#include "absl/status/statusor.h"
#include "core/methods/method.h"
#include "core/methods/registry.h"
#include "core/methods/search_objectives.h"
#include "core/methods/sparse_search.h"
#include "core/problem/problem_shape.h"

namespace attnprune {

struct SearchSettings {
  SearchPlan plan;
  double validation = 0;  // fraction of the calibration batches that decides
  // Calibration batches that a step learns from, at most; kAutomatic: DefaultBatchesPerStep.
  double batches_per_step = kAutomatic;
  bool by_factors = false;  // search W_Q and W_K apart where a fused problem has them
};

// "validation", "batch" and "factors", with their defaults.
Parameter ValidationParameter(const char* name);
Parameter BatchParameter(const char* name);
Parameter FactorsParameter();

Index BatchesPerStep(const SearchSettings& settings, Index calibration_batches);

// What a search needs that holds so many matrices of the weights' size at its peak; the calibration
// batches that it has split have copies, but in a file where the tokens are in one.
double SearchBytes(const ProblemShape& shape, double matrices, DenseAttention dense);
// A gradient a step, on the batches that the step learns from.
double SearchOperations(const ProblemShape& shape, const SearchSettings& settings,
                        DenseAttention dense);

// The loop around a SparseSearch: what a step reports and when it ends. Takes the steps that the
// search's plan has left, none if the sparsity asked for prunes nothing: then no weight changes.
// The search's Best() is the result, whatever the reason. An observer's wish to stop ends it after
// the step, unless that was the last. Errors: those of a report.
//
// The figures of a step are of the part of the batches that it learnt from: attention_loss scaled
// to all of them, soft_relative_error at the sparsity of the moment. calibration_error and
// held_out_error are of the values after the step at full sparsity.
absl::StatusOr<TerminationReason> RunSparseSearch(SparseSearch& search,
                                                  SearchObjectives& objectives,
                                                  const RunOptions& options,
                                                  ProgressObserver& observer);

// A method that searches from LogSaliency's scores and the dense weights. `settings` reads the
// values of `parameters`, "steps" among them; `matrices`: of the weights' size at the peak.
MethodInfo SearchMethodInfo(const char* name, const char* summary,
                            std::vector<Parameter> parameters,
                            SearchSettings (*settings)(const ParameterValues&), double matrices);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_METHODS_SEARCH_METHOD_H_
