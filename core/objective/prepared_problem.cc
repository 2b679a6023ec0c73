#include "core/objective/prepared_problem.h"

#include "core/base/status_macros.h"
#include "core/kernels/blas.h"

namespace attnprune {

absl::StatusOr<std::unique_ptr<PreparedProblem>> PreparedProblem::Create(
    const Problem& problem, const PrepareOptions& options) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckThreads(options.threads));
  ATTNPRUNE_RETURN_IF_ERROR(Validate(problem));
  return OfValid(problem, options);
}

absl::StatusOr<std::unique_ptr<PreparedProblem>> PreparedProblem::OfValid(
    const Problem& problem, const PrepareOptions& options) {
  ATTNPRUNE_RETURN_IF_ERROR(CheckThreads(options.threads));
  ATTNPRUNE_RETURN_IF_ERROR(InitializeBlas());
  return std::unique_ptr<PreparedProblem>(new PreparedProblem(problem, options));
}

absl::StatusOr<AttentionObjective*> PreparedProblem::Build(Side& side,
                                                           const ShareDone& share_done) {
  if (!side.objective.has_value()) {
    side.objective =
        AttentionObjective::Create(problem_, side.batches, side.field, pool_, options_, share_done);
  }
  ATTNPRUNE_RETURN_IF_ERROR(side.objective->status());
  return (**side.objective).get();
}

std::shared_ptr<const GramMatrix> PreparedProblem::GramOf(Side& side) {
  if (side.gram != nullptr) return side.gram;
  auto gram = std::make_shared<const GramMatrix>(Gram(side.batches.all(), pool_));
  if (options_.dense == DenseAttention::kKeep) side.gram = gram;
  return gram;
}

uint64_t PreparedProblem::Fingerprint(absl::string_view method, absl::Span<const double> parameters,
                                      absl::optional<uint64_t> seed) {
  if (!fingerprint_.has_value()) fingerprint_.emplace(problem_);
  return fingerprint_->Of(method, parameters, seed);
}

}  // namespace attnprune
