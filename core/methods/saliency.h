// How much a weight matters to the attention, before anything is known of the others.
#ifndef ATTNPRUNE_CORE_METHODS_SALIENCY_H_
#define ATTNPRUNE_CORE_METHODS_SALIENCY_H_

#include <vector>

#include "core/methods/search_objectives.h"
#include "core/objective/prepared_problem.h"
#include "core/tensor/matrix.h"

namespace attnprune {

// One matrix for each of the searched weights, of its shape: the logarithm of |W_ij| times the norm
// of its input and the norm of what its output meets, up to a constant a matrix:
//   fused         |W_ij| ||X_i|| ||X_j||                      (two-sided Wanda)
//   its factors   |W_ij| ||X_i|| ||X c_j||, c_j the other factor's column
//   projections   |W_ij| ||X_j|| ||p_i||, p_i what output i is multiplied with in the logits: the
//                 key head's column for W_Q, the query heads' columns for W_K, both without bias;
//                 with rotary embedding the columns of i's pair together, which it mixes.
// Not below the logarithm of 1e-6 of the matrix's largest, so that the scores are finite. The norms
// are those of all calibration tokens. Bits do not depend on the pool's threads.
// kFactors: of a fused problem that has factors.
std::vector<Matrix> LogSaliency(PreparedProblem& prepared, SearchedWeights searched);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_METHODS_SALIENCY_H_
