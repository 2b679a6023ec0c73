// What the attention loss of a problem costs, from its shape alone: for estimates.
#ifndef ATTNPRUNE_CORE_METHODS_ATTENTION_COST_H_
#define ATTNPRUNE_CORE_METHODS_ATTENTION_COST_H_

#include "core/objective/attention_objective.h"
#include "core/problem/problem_shape.h"

namespace attnprune {

// Weights of the matrices that the attention uses. Real numbers throughout: they do not overflow.
double Entries(const ProblemShape& shape);

// With P the weights' entries, N the tokens of `data`, H heads of width h and A the entries that
// the attention mask allows:

// 2 N P + 2 A H h, and the softmax, counted as 100 an entry. Where dense attention is rebuilt 2 A H
// h and the softmax once more; with the tokens in a file 2 N P too.
double LossOperations(const ProblemShape& shape, const DataSize& data, DenseAttention dense);
// Those, and 2 N P + 4 A H h.
double GradientOperations(const ProblemShape& shape, const DataSize& data, DenseAttention dense);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_METHODS_ATTENTION_COST_H_
