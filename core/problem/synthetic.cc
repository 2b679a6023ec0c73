#include "core/problem/synthetic.h"

#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "core/tensor/eigen.h"

namespace attnprune {
namespace {

constexpr Index kMaxEntries = std::numeric_limits<int>::max();

// What a stream of random numbers is for; part of its seed.
enum class Stream : uint32_t { kQuery = 1, kKey, kCalibration, kHeldOut };

class Gaussian {
 public:
  Gaussian(uint64_t seed, Stream stream) {
    std::seed_seq sequence{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32),
                           static_cast<uint32_t>(stream)};
    engine_.seed(sequence);
  }
  double Next() { return normal_(engine_); }

 private:
  std::mt19937_64 engine_;
  std::normal_distribution<double> normal_;
};

absl::Status CheckCount(absl::string_view option, Index value, Index min, Index max) {
  if (value >= min && value <= max) return absl::OkStatus();
  return FieldError(option, absl::StrCat("must be in [", min, ", ", max, "], got ", value));
}

// The best approximation of `g` by a matrix of this rank (Eckart and Young): its projection on the
// leading right singular vectors, which are the leading eigenvectors of g' g.
Eigen::MatrixXd CutToRank(const Eigen::MatrixXd& g, Index rank) {
  if (rank == g.cols()) return g;
  const Eigen::SelfAdjointEigenSolver<Eigen::MatrixXd> solver(g.transpose() * g);
  const Eigen::MatrixXd leading = solver.eigenvectors().rightCols(rank);  // ascending eigenvalues
  return (g * leading) * leading.transpose();
}

Matrix LowRankGaussian(Index d, Index rank, Gaussian gaussian) {
  Eigen::MatrixXd g(d, d);
  for (Index i = 0; i < d; ++i) {
    for (Index j = 0; j < d; ++j) g(i, j) = gaussian.Next();
  }
  Matrix w(d, d);
  ArrayOf(w) = CutToRank(g, rank).cast<float>().array();
  return w;
}

Batches GaussianBatches(Index count, const SyntheticOptions& options, Gaussian gaussian) {
  Matrix tokens(count * options.n, options.d);
  for (float& x : tokens.flat()) x = static_cast<float>(options.x_std * gaussian.Next());
  return Batches(std::move(tokens), std::vector<Index>(static_cast<size_t>(count), options.n));
}

}  // namespace

absl::Status Validate(const SyntheticOptions& options) {
  // The bounds are checked in an order in which no product can overflow.
  const Index d_max = static_cast<Index>(std::sqrt(static_cast<double>(kMaxEntries)));
  ATTNPRUNE_RETURN_IF_ERROR(CheckCount("d", options.d, 1, d_max));
  ATTNPRUNE_RETURN_IF_ERROR(CheckCount("n", options.n, 1, kMaxEntries / options.d));
  const Index batches_max = kMaxEntries / (options.d * options.n);
  ATTNPRUNE_RETURN_IF_ERROR(CheckCount("k", options.k, 1, batches_max));
  ATTNPRUNE_RETURN_IF_ERROR(CheckCount("rank", options.rank, 1, options.d));
  ATTNPRUNE_RETURN_IF_ERROR(
      CheckCount("held_out_batches", options.held_out_batches, 0, batches_max));
  // A draw beyond 16 standard deviations does not occur in 53-bit random numbers.
  const double x_std_max = static_cast<double>(std::numeric_limits<float>::max()) / 16;
  if (options.x_std > 0 && options.x_std <= x_std_max) return absl::OkStatus();
  return FieldError(
      "x_std", absl::StrCat("must be above 0 and at most ", x_std_max, ", got ", options.x_std));
}

absl::StatusOr<Problem> SyntheticProblem(const SyntheticOptions& options) {
  ATTNPRUNE_RETURN_IF_ERROR(Validate(options));
  ATTNPRUNE_ASSIGN_OR_RETURN(
      FusedWeights weights,
      FusedFromFactors(
          LowRankGaussian(options.d, options.rank, Gaussian(options.seed, Stream::kQuery)),
          LowRankGaussian(options.d, options.rank, Gaussian(options.seed, Stream::kKey))));
  Problem problem;
  problem.weights = std::move(weights);
  problem.calibration =
      GaussianBatches(options.k, options, Gaussian(options.seed, Stream::kCalibration));
  problem.held_out =
      GaussianBatches(options.held_out_batches, options, Gaussian(options.seed, Stream::kHeldOut));
  return problem;
}

}  // namespace attnprune
