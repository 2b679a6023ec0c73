// Rows of tokens that a model writes itself: more calibration data, of the distribution that it
// has learned.
//
// Row i begins with the first `prefix` tokens of real row i mod their number, and has its length;
// the rest is drawn, a token at a time, from softmax(logits / temperature). As calibration data:
// Liu et al., "LLM-QAT: Data-Free Quantization Aware Training" (arXiv 2305.17888), section 2.1.
#ifndef ATTNPRUNE_CORE_MODEL_SAMPLER_H_
#define ATTNPRUNE_CORE_MODEL_SAMPLER_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/model/cached_forward.h"
#include "core/model/forward.h"
#include "core/model/model_options.h"
#include "core/model/tokens.h"
#include "core/tensor/matrix.h"

namespace attnprune {

struct SampleOptions {
  Index rows = 0;          // to write
  double temperature = 1;  // above 0; near 0 each token is the likeliest
  Index prefix = 4;        // tokens of the real row, at least 1; all, where it has no more
  uint64_t seed = 0;
  int64_t memory_budget = 0;  // bytes, by which SampleEstimate::held is chosen; 0: any
};

using SampledSoFar = std::vector<std::vector<int64_t>>;  // of each row its tokens; empty: none

// Each token is drawn by a number that depends on seed, row and position only. goes_on, unless
// null, is told the share that is done after each position; where it returns false the answer is
// CANCELLED. so_far, unless null, has the tokens of each row by now, also while goes_on is called;
// what an interrupted call of the same input left there is gone on from, with the same tokens in
// the end: rows that are written side by side and have all ended cost nothing, of the others keys
// and values are computed anew. INVALID_ARGUMENT: no such call can have left it. Errors:
// CheckPredicts's, CheckTokens's of `real`, which has a row at least. Rows are written side by
// side, as many as keep 2 GiB of keys and values. Not thread-safe: `forward` and its pool are used.
// The tokens depend on the input and the CPU type only, not on the number of threads nor on the
// budget.
absl::StatusOr<Tokens> SampleRows(Forward& forward, const Tokens& real,
                                  const SampleOptions& options,
                                  const std::function<bool(double share)>& goes_on = nullptr,
                                  SampledSoFar* so_far = nullptr);

// Of rows that are sampled from real ones of these lengths.
std::vector<Index> SampledLengths(absl::Span<const Index> real, Index rows);

// What it is expected to need, from the shapes alone.
struct SampleEstimate {
  double operations = 0;  // a forward pass's and all logits
  double bytes = 0;       // keys and values, logits, and the weights that are held
  HeldWeights held = HeldWeights::kAll;
};
// real: lengths of the real rows.
SampleEstimate EstimateSampling(const ModelOptions& model, absl::Span<const Index> real, Index rows,
                                int64_t memory_budget);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_MODEL_SAMPLER_H_
