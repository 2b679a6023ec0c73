#include "tests/reference/attention_reference.h"

#include <cmath>
#include <limits>
#include <numeric>

namespace attnprune::reference {

double AttentionProblem::effective_scale() const {
  if (scale) return *scale;
  return fused() ? 1.0 : 1.0 / std::sqrt(static_cast<double>(head_dim()));
}

bool Allowed(const AttentionMask& mask, Index i, Index j) {
  switch (mask.kind) {
    case AttentionMask::Kind::kCausal:
      return j <= i;
    case AttentionMask::Kind::kFull:
      return true;
    case AttentionMask::Kind::kBlock:
      return j <= i && i / mask.size == j / mask.size;
    case AttentionMask::Kind::kWindow:
      return j <= i && i - j < mask.size;
  }
  return false;
}

Dense Softmax(const Dense& logits, const AttentionMask& mask) {
  Dense f = Dense::Zero(logits.rows(), logits.cols());
  for (Index i = 0; i < f.rows(); ++i) {
    double maximum = -std::numeric_limits<double>::infinity();
    for (Index j = 0; j < f.cols(); ++j) {
      if (Allowed(mask, i, j)) maximum = std::max(maximum, logits(i, j));
    }
    double sum = 0;
    for (Index j = 0; j < f.cols(); ++j) {
      if (!Allowed(mask, i, j)) continue;
      f(i, j) = std::exp(logits(i, j) - maximum);
      sum += f(i, j);
    }
    f.row(i) /= sum;
  }
  return f;
}

Dense Rotate(const Dense& q, const Rope& rope, Rotation direction) {
  const std::vector<double> frequencies = RopeFrequencies(rope, q.cols(), q.rows());
  const Index half = static_cast<Index>(frequencies.size());
  const double sign = direction == Rotation::kForward ? 1.0 : -1.0;
  Dense rotated = q;
  for (Index position = 0; position < q.rows(); ++position) {
    for (Index pair = 0; pair < half; ++pair) {
      const bool interleaved = rope.layout == RopeLayout::kInterleaved;
      const Index first = interleaved ? 2 * pair : pair;
      const Index second = interleaved ? 2 * pair + 1 : pair + half;
      const double angle =
          sign * static_cast<double>(position) * frequencies[static_cast<size_t>(pair)];
      const double cos = rope.attention_factor * std::cos(angle);
      const double sin = rope.attention_factor * std::sin(angle);
      const double a = q(position, first), b = q(position, second);
      rotated(position, first) = a * cos - b * sin;
      rotated(position, second) = a * sin + b * cos;
    }
  }
  return rotated;
}

namespace {

Vector ToVector(const std::vector<float>& values) {
  Vector out(static_cast<Index>(values.size()));
  for (Index i = 0; i < out.size(); ++i) {
    out(i) = static_cast<double>(values[static_cast<size_t>(i)]);
  }
  return out;
}

// Mean taken off (for a layer norm) and divided by the root, a group of features.
struct StandardGroup {
  Vector x_hat;
  double root;
};

StandardGroup Standard(const QkNorm& norm, const Vector& x) {
  const double n = static_cast<double>(x.size());
  const double mean = norm.kind == NormKind::kLayer ? x.sum() / n : 0.0;
  const Vector centred = x.array() - mean;
  const double root = std::sqrt(centred.squaredNorm() / n + norm.eps);
  return {centred / root, root};
}

Index GroupOf(const AttentionProblem& problem, const Dense& rows) {
  return problem.qk_norm->group == QkNormGroup::kHead ? problem.head_dim() : rows.cols();
}

Vector NormWeight(const AttentionProblem& problem, Side side) {
  const QkNorm& norm = *problem.qk_norm;
  return ToVector(side == Side::kQueries ? norm.q_weight : norm.k_weight);
}

Vector NormBias(const AttentionProblem& problem, Side side) {
  const QkNorm& norm = *problem.qk_norm;
  return ToVector(side == Side::kQueries ? norm.q_bias : norm.k_bias);
}

}  // namespace

Dense Clipped(const AttentionProblem& problem, Side side, const Dense& x,
              const std::vector<Dense>& weights) {
  Dense y = x * weights[static_cast<size_t>(side)].transpose();
  const Vector& b = side == Side::kQueries ? problem.b_q : problem.b_k;
  if (b.size() > 0) y.rowwise() += b.transpose();
  if (problem.clip_qkv == 0) return y;
  return y.cwiseMax(-problem.clip_qkv).cwiseMin(problem.clip_qkv);
}

Dense Normed(const AttentionProblem& problem, Side side, const Dense& clipped) {
  if (!problem.qk_norm) return clipped;
  const Vector weight = NormWeight(problem, side), bias = NormBias(problem, side);
  const Index group = GroupOf(problem, clipped);
  Dense y = clipped;
  for (Index t = 0; t < y.rows(); ++t) {
    for (Index first = 0; first < y.cols(); first += group) {
      const Vector x_hat = Standard(*problem.qk_norm, y.row(t).segment(first, group)).x_hat;
      y.row(t).segment(first, group) = weight.segment(first, group).cwiseProduct(x_hat);
    }
    if (bias.size() > 0) y.row(t) += bias.transpose();
  }
  return y;
}

Dense BackThroughNormAndClip(const AttentionProblem& problem, Side side, const Dense& clipped,
                             const Dense& gradient) {
  Dense d = gradient;
  if (problem.qk_norm) {
    const Vector weight = NormWeight(problem, side);
    const Index group = GroupOf(problem, clipped);
    for (Index t = 0; t < d.rows(); ++t) {
      for (Index first = 0; first < d.cols(); first += group) {
        const auto [x_hat, root] = Standard(*problem.qk_norm, clipped.row(t).segment(first, group));
        const Vector of_y = d.row(t).segment(first, group);
        const Vector g = weight.segment(first, group).cwiseProduct(of_y);
        const double mean = problem.qk_norm->kind == NormKind::kLayer ? g.mean() : 0.0;
        const Vector dx =
            ((g.array() - mean).matrix() - x_hat * g.cwiseProduct(x_hat).mean()) / root;
        d.row(t).segment(first, group) = dx;
      }
    }
  }
  if (problem.clip_qkv == 0) return d;
  return (clipped.array().abs() < problem.clip_qkv).select(d, 0.0);
}

Dense Project(const AttentionProblem& problem, Side side, const Dense& x,
              const std::vector<Dense>& weights, Index head) {
  const Dense all = Normed(problem, side, Clipped(problem, side, x, weights));
  const Dense q = all.middleCols(head * problem.head_dim(), problem.head_dim());
  return problem.rope ? Rotate(q, *problem.rope, Rotation::kForward) : q;
}

namespace {

// To 8 significant bits, ties to even.
double ToBfloat16(double value) {
  if (value == 0) return 0;
  const int exponent = std::ilogb(value) - 7;
  return std::ldexp(std::nearbyint(std::ldexp(value, -exponent)), exponent);
}

double AlibiSlope(Index head, Index heads) {
  const double p = std::exp2(std::floor(std::log2(static_cast<double>(heads))));
  const double h = static_cast<double>(head);
  return h < p ? std::exp2(-8 * (h + 1) / p) : std::exp2(-4 * (2 * (h - p) + 1) / p);
}

}  // namespace

Vector AlibiOf(const AttentionProblem& problem, Index head, Index keys) {
  Vector bias = Vector::Zero(keys);
  const double slope = AlibiSlope(head, problem.heads);
  for (Index j = 0; j < keys; ++j) {
    const double key = static_cast<double>(j);
    if (problem.alibi == Alibi::kBloom) bias(j) = slope * key;
    if (problem.alibi == Alibi::kFalcon) {
      bias(j) = ToBfloat16(ToBfloat16(slope) * key) * problem.effective_scale();
    }
  }
  return bias;
}

Dense SoftcapSlope(const AttentionProblem& problem, const Dense& logits) {
  if (problem.softcap == 0) return Dense::Ones(logits.rows(), logits.cols());
  return 1 - (logits / problem.softcap).array().square();
}

Dense Logits(const AttentionProblem& problem, const std::vector<Dense>& weights, const Dense& x,
             Index head) {
  const double s = problem.effective_scale();
  if (problem.fused()) return s * (x * weights[0] * x.transpose());
  const Dense q = Project(problem, Side::kQueries, x, weights, head);
  const Dense k = Project(problem, Side::kKeys, x, weights, problem.kv_head(head));
  Dense logits = s * (q * k.transpose());
  logits.rowwise() += AlibiOf(problem, head, x.rows()).transpose();
  if (problem.softcap == 0) return logits;
  return problem.softcap * (logits / problem.softcap).array().tanh();
}

Dense Attention(const AttentionProblem& problem, const std::vector<Dense>& weights, const Dense& x,
                Index head) {
  return Softmax(Logits(problem, weights, x, head), problem.attention);
}

Dense BackwardThroughSoftmax(const Dense& f, const Dense& f_tilde, P1 which) {
  const Dense c = f_tilde - f;
  const Dense p1 = c.cwiseProduct(which == P1::kDefinition ? f_tilde : f);
  const Vector row_sums = p1.rowwise().sum();
  return p1 - row_sums.asDiagonal() * f_tilde;
}

double AttentionLoss(const AttentionProblem& problem, const std::vector<Dense>& pruned) {
  const ErrorSums errors = Errors(problem, pruned);
  return 0.5 * std::accumulate(errors.difference.begin(), errors.difference.end(), 0.0);
}

namespace {

// p of one head on one batch: the gradient in the logits before their softcap, unscaled.
Dense LogitGradient(const AttentionProblem& problem, const std::vector<Dense>& pruned,
                    const Dense& x, Index head, P1 p1) {
  const Dense logits = Logits(problem, pruned, x, head);
  const Dense p = BackwardThroughSoftmax(Attention(problem, problem.weights, x, head),
                                         Softmax(logits, problem.attention), p1);
  return p.cwiseProduct(SoftcapSlope(problem, logits));
}

// Gradients in the queries or keys of one batch, before their rotation; tokens x outputs.
struct QkGradient {
  Dense q, k;
};

QkGradient GradientInNormed(const AttentionProblem& problem, const std::vector<Dense>& pruned,
                            const Dense& x, P1 p1) {
  const double s = problem.effective_scale();
  const Index dim = problem.head_dim();
  QkGradient d = {Dense::Zero(x.rows(), pruned[0].rows()), Dense::Zero(x.rows(), pruned[1].rows())};
  const auto back = [&problem](const Dense& turned) {
    return problem.rope ? Rotate(turned, *problem.rope, Rotation::kTransposed) : turned;
  };
  for (Index head = 0; head < problem.heads; ++head) {
    const Index kv_head = problem.kv_head(head);
    const Dense p = LogitGradient(problem, pruned, x, head, p1);
    const Dense q = Project(problem, Side::kQueries, x, pruned, head);
    const Dense k = Project(problem, Side::kKeys, x, pruned, kv_head);
    d.q.middleCols(head * dim, dim) += back(s * (p * k));
    d.k.middleCols(kv_head * dim, dim) += back(s * (p.transpose() * q));
  }
  return d;
}

void AddGradients(const AttentionProblem& problem, const std::vector<Dense>& pruned, const Dense& x,
                  P1 p1, std::vector<Dense>* gradients) {
  if (problem.fused()) {
    const Dense p = LogitGradient(problem, pruned, x, 0, p1);
    (*gradients)[0] += problem.effective_scale() * (x.transpose() * p * x);
    return;
  }
  const QkGradient d = GradientInNormed(problem, pruned, x, p1);
  for (const Side side : {Side::kQueries, Side::kKeys}) {
    const Dense in_projection = BackThroughNormAndClip(
        problem, side, Clipped(problem, side, x, pruned), side == Side::kQueries ? d.q : d.k);
    (*gradients)[static_cast<size_t>(side)] += in_projection.transpose() * x;
  }
}

}  // namespace

std::vector<Dense> WeightGradients(const AttentionProblem& problem,
                                   const std::vector<Dense>& pruned, P1 p1) {
  std::vector<Dense> gradients;
  for (const Dense& w : pruned) gradients.push_back(Dense::Zero(w.rows(), w.cols()));
  for (const Dense& x : problem.batches) AddGradients(problem, pruned, x, p1, &gradients);
  return gradients;
}

double Regularization(const std::vector<Dense>& masks, double lambda) {
  double sum = 0;
  for (const Dense& m : masks) sum += m.squaredNorm();
  return 0.5 * lambda * sum;
}

double TotalLoss(const AttentionProblem& problem, const std::vector<Dense>& masks, double lambda) {
  return AttentionLoss(problem, Hadamard(masks, problem.weights)) + Regularization(masks, lambda);
}

std::vector<Dense> MaskGradients(const AttentionProblem& problem, const std::vector<Dense>& masks,
                                 double lambda, P1 p1) {
  std::vector<Dense> gradients = WeightGradients(problem, Hadamard(masks, problem.weights), p1);
  for (size_t i = 0; i < gradients.size(); ++i) {
    gradients[i] = problem.weights[i].cwiseProduct(gradients[i]) + lambda * masks[i];
  }
  return gradients;
}

std::vector<Dense> Hadamard(const std::vector<Dense>& a, const std::vector<Dense>& b) {
  std::vector<Dense> product;
  for (size_t i = 0; i < a.size(); ++i) product.push_back(a[i].cwiseProduct(b[i]));
  return product;
}

double ErrorSums::relative() const {
  return std::accumulate(difference.begin(), difference.end(), 0.0) /
         std::accumulate(dense.begin(), dense.end(), 0.0);
}

double ErrorSums::relative(Index head) const {
  return difference[static_cast<size_t>(head)] / dense[static_cast<size_t>(head)];
}

ErrorSums Errors(const AttentionProblem& problem, const std::vector<Dense>& pruned) {
  ErrorSums sums;
  for (Index head = 0; head < problem.heads; ++head) {
    double difference = 0, dense = 0;
    for (const Dense& x : problem.batches) {
      const Dense f = Attention(problem, problem.weights, x, head);
      difference += (Attention(problem, pruned, x, head) - f).squaredNorm();
      dense += f.squaredNorm();
    }
    sums.difference.push_back(difference);
    sums.dense.push_back(dense);
  }
  return sums;
}

}  // namespace attnprune::reference
