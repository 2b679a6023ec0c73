#include "core/methods/output_metric.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"

namespace attnprune {
namespace {

double MeanOfDiagonals(const OutputCurvature& curvature) {
  double sum = 0;
  Index outputs = 0;
  for (const OutputCurvature::Block& block : curvature.blocks) {
    outputs += block.moments.size();
    for (Index i = 0; i < block.moments.size(); ++i) sum += block.moments(i, i);
  }
  return sum / static_cast<double>(outputs);
}

struct Shares {
  double of_block, of_identity;
};
Shares SharesOf(double mean, double share) {
  return mean > 0 ? Shares{share / mean, 1 - share} : Shares{0, 1};
}

// `of_block` * block + `of_identity` * I.
GramMatrix Mixed(const GramMatrix& block, double of_block, double of_identity) {
  GramMatrix mixed(block.size());
  for (Index i = 0; i < block.size(); ++i) {
    for (Index j = 0; j < block.size(); ++j) mixed(i, j) = of_block * block(i, j);
    mixed(i, i) += of_identity;
  }
  return mixed;
}

absl::Status CheckCurvature(const GramMatrix& moments, Index first) {
  for (Index i = 0; i < moments.size(); ++i) {
    for (Index j = 0; j < moments.size(); ++j) {
      if (std::isfinite(moments(i, j)) && (i != j || moments(i, i) >= 0)) continue;
      return FieldError(
          "curvature", absl::StrCat("must be finite, and at least 0 on its diagonal, got ",
                                    moments(i, j), " for outputs ", first + i, " and ", first + j));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status Validate(const OutputCurvature& curvature, Index outputs) {
  Index next = 0;
  for (const OutputCurvature::Block& block : curvature.blocks) {
    if (block.first != next || block.moments.size() == 0) {
      return MustError("curvature", absl::StrCat("have a block that begins at output ", next),
                       absl::StrCat(block.moments.size(), " outputs from ", block.first));
    }
    ATTNPRUNE_RETURN_IF_ERROR(CheckCurvature(block.moments, block.first));
    next += block.moments.size();
  }
  if (next == outputs) return absl::OkStatus();
  return MustError("curvature", absl::StrCat("have the ", outputs, " outputs of the map"), next);
}

std::vector<double> MetricDiagonal(const OutputCurvature& curvature, double share) {
  const Shares shares = SharesOf(MeanOfDiagonals(curvature), share);
  std::vector<double> diagonal;
  for (const OutputCurvature::Block& block : curvature.blocks) {
    diagonal.reserve(diagonal.size() + static_cast<size_t>(block.moments.size()));
    for (Index i = 0; i < block.moments.size(); ++i) {
      diagonal.push_back(shares.of_block * block.moments(i, i) + shares.of_identity);
    }
  }
  return diagonal;
}

absl::StatusOr<OutputMetric> PrepareMetric(const OutputCurvature& curvature, double share,
                                           ThreadPool& pool, absl::FunctionRef<void()> beside) {
  const double mean = MeanOfDiagonals(curvature);
  if (!std::isfinite(mean)) {
    return absl::FailedPreconditionError(
        absl::StrCat("curvature: the mean of its diagonal must be finite, got ", mean));
  }
  const Shares shares = SharesOf(mean, share);
  std::vector<absl::optional<absl::StatusOr<AlpsInputs>>> made(curvature.blocks.size());
  pool.ParallelFor(1 + std::ssize(made), [&](Index shard) {
    if (shard == 0) {
      beside();
      return;
    }
    const auto b = static_cast<size_t>(shard - 1);
    made[b] = PrepareAlps(Mixed(curvature.blocks[b].moments, shares.of_block, shares.of_identity),
                          /*damping=*/0);
  });
  OutputMetric metric;
  for (size_t b = 0; b < made.size(); ++b) {
    if (!made[b]->ok()) {
      return absl::FailedPreconditionError(
          "curvature: it must be finite over its mean and have eigenvectors");
    }
    metric.blocks.push_back({.first = curvature.blocks[b].first, .b = **std::move(made[b])});
  }
  return metric;
}

}  // namespace attnprune
