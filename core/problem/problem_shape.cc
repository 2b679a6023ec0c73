#include "core/problem/problem_shape.h"

#include <algorithm>
#include <cmath>

namespace attnprune {
namespace {

MatrixShape ShapeOf(MatrixView matrix) { return {matrix.rows(), matrix.cols()}; }

// Batches of one length that follow each other are one group.
std::vector<BatchGroup> ShapeOf(const Batches& batches) {
  std::vector<BatchGroup> groups;
  for (Index j = 0; j < batches.count(); ++j) {
    if (groups.empty() || groups.back().length != batches.length(j)) {
      groups.push_back({.length = batches.length(j), .features = batches.features()});
    }
    ++groups.back().batches;
  }
  return groups;
}

absl::optional<QkNormShape> ShapeOf(const absl::optional<QkNorm>& norm) {
  if (!norm.has_value()) return absl::nullopt;
  return QkNormShape{.kind = norm->kind,
                     .group = norm->group,
                     .eps = norm->eps,
                     .q_weight = static_cast<Index>(norm->q_weight.size()),
                     .k_weight = static_cast<Index>(norm->k_weight.size()),
                     .q_bias = static_cast<Index>(norm->q_bias.size()),
                     .k_bias = static_cast<Index>(norm->k_bias.size())};
}

ProjectionShape ShapeOf(const ProjectionWeights& layer) {
  return {.w_q = ShapeOf(layer.w_q),
          .w_k = ShapeOf(layer.w_k),
          .b_q = static_cast<Index>(layer.b_q.size()),
          .b_k = static_cast<Index>(layer.b_k.size()),
          .heads = layer.heads,
          .kv_heads = layer.kv_heads,
          .rope = layer.rope,
          .qk_norm = ShapeOf(layer.qk_norm),
          .softcap = layer.softcap,
          .clip_qkv = layer.clip_qkv,
          .alibi = layer.alibi};
}

// Entries that `mask` allows in one batch of n tokens.
double Allowed(const AttentionMask& mask, double n) {
  const double size = std::min(n, static_cast<double>(std::max<Index>(mask.size, 1)));
  switch (mask.kind) {
    case AttentionMask::Kind::kFull:
      return n * n;
    case AttentionMask::Kind::kBlock: {
      const double blocks = std::floor(n / size), rest = n - blocks * size;
      return blocks * size * (size + 1) / 2 + rest * (rest + 1) / 2;
    }
    case AttentionMask::Kind::kWindow:
      return size * (size + 1) / 2 + (n - size) * size;
    case AttentionMask::Kind::kCausal:
      break;
  }
  return n * (n + 1) / 2;
}

DataSize SizeOf(const AttentionMask& mask, const std::vector<BatchGroup>& groups) {
  DataSize size;
  for (const BatchGroup& group : groups) {
    const double count = static_cast<double>(group.batches);
    const double length = static_cast<double>(group.length);
    size.batches += count;
    size.tokens += count * length;
    size.allowed += count * Allowed(mask, length);
    size.longest = std::max(size.longest, length);
  }
  return size;
}

DataSize Part(DataSize size, double fraction) {
  size.batches *= fraction;
  size.tokens *= fraction;
  size.allowed *= fraction;
  return size;
}

}  // namespace

Index ProblemShape::features() const {
  if (const auto* layer = std::get_if<ProjectionShape>(&weights)) return layer->w_q.cols;
  return std::get<FusedShape>(weights).w.rows;
}

Index ProblemShape::outputs() const {
  const auto* layer = std::get_if<ProjectionShape>(&weights);
  return layer == nullptr ? features() : layer->w_q.rows + layer->w_k.rows;
}

Index ProblemShape::heads() const {
  const auto* layer = std::get_if<ProjectionShape>(&weights);
  return layer == nullptr ? 1 : layer->heads;
}

Index ProblemShape::head_dim() const {
  const auto* layer = std::get_if<ProjectionShape>(&weights);
  return layer == nullptr ? features() : layer->w_q.rows / layer->heads;
}

bool ProblemShape::has_norm_or_clip() const {
  const auto* layer = std::get_if<ProjectionShape>(&weights);
  return layer != nullptr && (layer->qk_norm.has_value() || layer->clip_qkv > 0);
}

bool ProblemShape::has_softcap() const {
  const auto* layer = std::get_if<ProjectionShape>(&weights);
  return layer != nullptr && layer->softcap > 0;
}

ProblemShape ShapeOf(const Problem& problem) {
  ProblemShape shape;
  if (problem.fused()) {
    const FusedWeights& weights = problem.fused_weights();
    shape.weights = FusedShape{ShapeOf(weights.w), ShapeOf(weights.w_q), ShapeOf(weights.w_k)};
  } else {
    shape.weights = ShapeOf(problem.projections());
  }
  shape.attention = problem.attention;
  shape.scale = problem.scale;
  shape.sparsity = problem.sparsity;
  shape.calibration = ShapeOf(problem.calibration);
  shape.held_out = ShapeOf(problem.held_out);
  return shape;
}

DataSize CalibrationSize(const ProblemShape& shape) {
  const DataSize all = SizeOf(shape.attention, shape.calibration);
  return shape.held_out_fraction > 0 ? Part(all, 1 - shape.held_out_fraction) : all;
}

DataSize HeldOutSize(const ProblemShape& shape) {
  if (shape.held_out_fraction > 0) {
    return Part(SizeOf(shape.attention, shape.calibration), shape.held_out_fraction);
  }
  return SizeOf(shape.attention, shape.held_out);
}

}  // namespace attnprune
