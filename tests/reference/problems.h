// The problems that the solver is held to the reference on, and the same problem for either side.
#ifndef ATTNPRUNE_TESTS_REFERENCE_PROBLEMS_H_
#define ATTNPRUNE_TESTS_REFERENCE_PROBLEMS_H_

#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "core/problem/problem.h"
#include "core/tensor/matrix.h"
#include "tests/reference/attention_reference.h"

namespace attnprune::reference {

// A problem with a mask to look at, titled by a sentence. W is a multiple of 2^-14 below 4 and the
// mask one of 2^-6, so that W, X, b and M o W are all exact in float32.
struct ProblemRow {
  std::string sentence;
  AttentionProblem problem;
  std::vector<Dense> masks;
  double lambda = 0;

  std::vector<Dense> pruned() const { return Hadamard(masks, problem.weights); }
};
void PrintTo(const ProblemRow& row, std::ostream* out);

// Every attention mask and every option of both problems.
std::vector<ProblemRow> AllRows();
// Those of them whose masks cause a loss (with one allowed key a query there is none), and those
// with a lambda.
std::vector<ProblemRow> RowsWithLoss();
std::vector<ProblemRow> RegularizedRows();

// Lengths around the kernels' block sizes, for every attention mask, with mask sizes around them.
std::vector<ProblemRow> RowsOfStraddlingLengths();

// The sentence in CamelCase, for gtest.
std::string TestName(const std::string& sentence);

// Random inputs as described at ProblemRow.
struct FusedShape {
  Index d = 6;
  std::vector<Index> lengths = {7, 5};
};
AttentionProblem RandomFused(const FusedShape& shape, AttentionMask attention, uint64_t seed);

struct ProjectionShape {
  Index d = 6, heads = 2, kv_heads = 2, head_dim = 4;
  std::vector<Index> lengths = {6, 4};
};
AttentionProblem RandomProjections(const ProjectionShape& shape, AttentionMask attention,
                                   uint64_t seed);
Vector RandomBias(Index size, uint64_t seed);
std::vector<Dense> RandomMasks(const AttentionProblem& problem, uint64_t seed);
ProblemRow Row(std::string sentence, AttentionProblem problem, double lambda = 0);

// The problem as the solver takes it, rounded to float32.
attnprune::Problem ToCore(const AttentionProblem& problem, const Sparsity& sparsity = {});
Matrix ToMatrix(const Dense& dense);  // rounds to nearest
std::vector<Matrix> ToMatrices(const std::vector<Dense>& dense);
std::vector<MatrixView> Views(const std::vector<Matrix>& matrices);
Dense ToDense(MatrixView matrix);
std::vector<Dense> ToDense(absl::Span<const Matrix> matrices);

// The problem with every number rounded to float32: what the solver sees.
AttentionProblem RoundToFloat32(const AttentionProblem& problem);

}  // namespace attnprune::reference

#endif  // ATTNPRUNE_TESTS_REFERENCE_PROBLEMS_H_
