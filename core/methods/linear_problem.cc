#include "core/methods/linear_problem.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"
#include "core/kernels/finite.h"
#include "core/methods/linear_map.h"
#include "core/objective/hasher.h"

namespace attnprune {
namespace {

absl::Status CheckMap(const NamedWeight& map, Index inputs) {
  const MatrixView w = map.dense;
  if (w.size() == 0) return FieldError(map.name, "must not be empty");
  if (Inputs(map) != inputs) {
    return MustError(map.name, absl::StrCat("have the ", inputs, " inputs of the moments"),
                     Inputs(map));
  }
  for (Index i = 0; i < w.rows(); ++i) {
    const absl::Span<const float> row(w.row(i), static_cast<size_t>(w.cols()));
    const Index bad = FirstNotFinite(row);
    if (bad == w.cols()) continue;
    return FieldError(
        map.name, absl::StrCat("must be finite, got ", w(i, bad), " at row ", i, ", column ", bad));
  }
  return absl::OkStatus();
}

absl::Status CheckOutputs(const LinearProblem& problem) {
  if (problem.curvature == nullptr) return absl::OkStatus();
  if (problem.maps.size() != 1) {
    return MustError("curvature", "be of one map", absl::StrCat(problem.maps.size(), " maps"));
  }
  return Validate(*problem.curvature, Outputs(problem.maps[0]));
}

void AddCurvature(const OutputCurvature& curvature, Hasher& hasher) {
  hasher.Text("curvature");
  for (const OutputCurvature::Block& block : curvature.blocks) {
    hasher.Integer(block.moments.size());
    hasher.Bytes(block.moments.flat().data(), block.moments.flat().size() * sizeof(double));
  }
}

}  // namespace

absl::Status Validate(const LinearProblem& problem) {
  if (problem.maps.empty()) return FieldError("maps", "must not be empty");
  const Index inputs = problem.inputs.moments().size();
  for (const NamedWeight& map : problem.maps) {
    if (absl::Status checked = CheckMap(map, inputs); !checked.ok()) return checked;
  }
  if (absl::Status checked = CheckOutputs(problem); !checked.ok()) return checked;
  const absl::Span<const double> moments = problem.inputs.moments().flat();
  if (!std::all_of(moments.begin(), moments.end(), [](double m) { return std::isfinite(m); })) {
    return FieldError("moments", "must be finite in float32: the inputs are too large");
  }
  if (!problem.sparsity.structured() || inputs % problem.sparsity.group == 0) {
    return absl::OkStatus();
  }
  return FieldError("sparsity", absl::StrCat("must divide the ", inputs, " inputs, got ",
                                             ToString(problem.sparsity)));
}

uint64_t Fingerprint(const LinearProblem& problem, absl::string_view method,
                     absl::Span<const double> parameters) {
  Hasher hasher;
  hasher.Integer(kNumericsVersion);
  hasher.Text("linear");
  for (const NamedWeight& map : problem.maps) {
    hasher.Text(map.name);
    hasher.Rows(map.dense);
  }
  const absl::Span<const double> moments = problem.inputs.moments().flat();
  hasher.Bytes(moments.data(), moments.size() * sizeof(double));
  if (problem.curvature != nullptr) AddCurvature(*problem.curvature, hasher);
  hasher.Real(problem.sparsity.fraction);
  hasher.Integer(problem.sparsity.pruned);
  hasher.Integer(problem.sparsity.group);
  hasher.Text(method);
  for (const double value : parameters) hasher.Real(value);
  return hasher.Digest();
}

}  // namespace attnprune
