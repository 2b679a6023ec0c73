// The parameters that `ste`, `joint` and `refit` share, and a whole search from them.
#ifndef ATTNPRUNE_CORE_METHODS_SEARCH_SETTINGS_H_
#define ATTNPRUNE_CORE_METHODS_SEARCH_SETTINGS_H_

#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "core/methods/method.h"
#include "core/methods/registry.h"
#include "core/methods/search_objectives.h"
#include "core/methods/sparse_search.h"

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

Index BatchesPerStep(const SearchSettings& settings, const Problem& problem);

// Every setting, in a fixed order, for Fingerprint.
std::vector<double> FingerprintValues(const SearchSettings& settings);

// Searches from LogSaliency's scores and the dense weights.
absl::StatusOr<PruneResult> SearchFromSaliency(absl::string_view method, const Problem& problem,
                                               const SearchSettings& settings,
                                               const RunOptions& options, ThreadPool& pool,
                                               ProgressObserver& observer);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_METHODS_SEARCH_SETTINGS_H_
