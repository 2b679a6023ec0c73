#include "core/methods/refit_state.h"

#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "core/base/status_macros.h"
#include "core/methods/linear_map.h"
#include "core/methods/solver_state.h"

namespace attnprune {
namespace {

constexpr char kRefitFormat[] = "attnprune-refit-state-2 ";

// Takes a finite matrix of the weight's shape out of the state; empty if there is none.
Matrix Take(SolverState& state, const NamedWeight& weight, const char* what) {
  return state.Take(StateKey(weight.name, what), weight.dense.rows(), weight.dense.cols());
}

}  // namespace

std::string RefitStateLine(size_t result_size, uint64_t fingerprint) {
  const std::string hex = absl::StrFormat("%016x", fingerprint);
  if (result_size == 0) return absl::StrCat(kRefitFormat, "base ", hex, "\n");
  return absl::StrCat(kRefitFormat, "refit ", hex, " ", result_size, "\n");
}

absl::StatusOr<RefitState> ParseRefitState(absl::string_view bytes, uint64_t fingerprint) {
  const std::string hex = absl::StrFormat("%016x", fingerprint);
  if (!absl::ConsumePrefix(&bytes, kRefitFormat)) {
    return ResumeRefused(absl::StrCat("must begin with \"", kRefitFormat, "\""));
  }
  RefitState state;
  if (absl::ConsumePrefix(&bytes, absl::StrCat("base ", hex, "\n")) && !bytes.empty()) {
    state.base_state = std::string(bytes);
    return state;
  }
  if (!absl::ConsumePrefix(&bytes, absl::StrCat("refit ", hex, " "))) {
    return ResumeRefused("was saved for another problem or other parameters, or is damaged");
  }
  const size_t line = bytes.find('\n');
  size_t size = 0;
  if (line == absl::string_view::npos || !absl::SimpleAtoi(bytes.substr(0, line), &size) ||
      absl::StrCat(size) != bytes.substr(0, line) || size == 0 || size > bytes.size() - line - 1) {
    return ResumeRefused("is damaged: it must say how long its first part is");
  }
  bytes.remove_prefix(line + 1);
  state.base_result = std::string(bytes.substr(0, size));
  state.search_state = std::string(bytes.substr(size));
  return state;
}

std::string SerializeResult(const PruneResult& result, uint64_t fingerprint) {
  SolverStateView state;
  state.fingerprint = fingerprint;
  state.step = result.steps;
  state.numbers = {static_cast<double>(result.damping_retries), result.lambda};
  for (const PrunedMatrix& matrix : result.matrices) {
    state.masks[StateKey(matrix.name, "mask")] = &matrix.mask;
    state.matrices[StateKey(matrix.name, "weights")] = &matrix.weights;
    if (!matrix.soft_mask.empty()) {
      state.matrices[StateKey(matrix.name, "soft_mask")] = &matrix.soft_mask;
    }
  }
  return SerializeState(state);
}

absl::StatusOr<PruneResult> ParseResult(const std::string& bytes, const Problem& problem,
                                        uint64_t fingerprint) {
  ATTNPRUNE_ASSIGN_OR_RETURN(SolverState state, ParseState(bytes, fingerprint));
  if (state.numbers.size() != 2) return ResumeRefused("must hold the result of the first method");
  PruneResult result;
  result.steps = state.step;
  result.damping_retries = static_cast<int>(state.numbers[0]);
  result.lambda = state.numbers[1];
  const bool by_factors = state.masks.contains(StateKey("w_q", "mask"));
  for (const NamedWeight& weight : LinearMaps(problem, by_factors)) {
    const absl::StatusOr<BitMask> mask = BitMask::FromBytes(
        weight.dense.rows(), weight.dense.cols(), state.masks[StateKey(weight.name, "mask")]);
    const Matrix weights = Take(state, weight, "weights");
    if (!mask.ok() || weights.empty()) {
      return ResumeRefused("must hold every matrix of the first method's result, finite");
    }
    result.matrices.push_back({.name = weight.name,
                               .mask = *mask,
                               .weights = mask->Apply(weights),
                               .soft_mask = Take(state, weight, "soft_mask")});
  }
  return result;
}

}  // namespace attnprune
