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
  const Index half = q.cols() / 2;
  const double sign = direction == Rotation::kForward ? 1.0 : -1.0;
  Dense rotated(q.rows(), q.cols());
  for (Index position = 0; position < q.rows(); ++position) {
    for (Index pair = 0; pair < half; ++pair) {
      const bool interleaved = rope.layout == RopeLayout::kInterleaved;
      const Index first = interleaved ? 2 * pair : pair;
      const Index second = interleaved ? 2 * pair + 1 : pair + half;
      const double exponent = -static_cast<double>(pair) / static_cast<double>(half);
      const double angle = sign * static_cast<double>(position) * std::pow(rope.theta, exponent);
      const double a = q(position, first), b = q(position, second);
      rotated(position, first) = a * std::cos(angle) - b * std::sin(angle);
      rotated(position, second) = a * std::sin(angle) + b * std::cos(angle);
    }
  }
  return rotated;
}

Dense Project(const AttentionProblem& problem, const Dense& x, const Dense& w, const Vector& b,
              Index head) {
  const Index dim = problem.head_dim();
  Dense q = x * w.middleRows(head * dim, dim).transpose();
  if (b.size() > 0) q.rowwise() += b.segment(head * dim, dim).transpose();
  return problem.rope ? Rotate(q, *problem.rope, Rotation::kForward) : q;
}

Dense Logits(const AttentionProblem& problem, const std::vector<Dense>& weights, const Dense& x,
             Index head) {
  const double s = problem.effective_scale();
  if (problem.fused()) return s * (x * weights[0] * x.transpose());
  const Dense q = Project(problem, x, weights[0], problem.b_q, head);
  const Dense k = Project(problem, x, weights[1], problem.b_k, problem.kv_head(head));
  return s * (q * k.transpose());
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

// p of one head on one batch: the gradient in the unscaled logits.
Dense LogitGradient(const AttentionProblem& problem, const std::vector<Dense>& pruned,
                    const Dense& x, Index head, P1 p1) {
  return BackwardThroughSoftmax(Attention(problem, problem.weights, x, head),
                                Attention(problem, pruned, x, head), p1);
}

// Adds (R^-1 dq)' X to the rows of one head.
void AddHeadGradient(const AttentionProblem& problem, const Dense& x, const Dense& dq, Index head,
                     Dense* gradient) {
  const Dense unrotated = problem.rope ? Rotate(dq, *problem.rope, Rotation::kInverse) : dq;
  gradient->middleRows(head * problem.head_dim(), problem.head_dim()) += unrotated.transpose() * x;
}

}  // namespace

std::vector<Dense> WeightGradients(const AttentionProblem& problem,
                                   const std::vector<Dense>& pruned, P1 p1) {
  const double s = problem.effective_scale();
  std::vector<Dense> gradients;
  for (const Dense& w : pruned) gradients.push_back(Dense::Zero(w.rows(), w.cols()));
  for (const Dense& x : problem.batches) {
    for (Index head = 0; head < problem.heads; ++head) {
      const Dense p = LogitGradient(problem, pruned, x, head, p1);
      if (problem.fused()) {
        gradients[0] += s * (x.transpose() * p * x);
        continue;
      }
      const Index kv_head = problem.kv_head(head);
      const Dense q = Project(problem, x, pruned[0], problem.b_q, head);
      const Dense k = Project(problem, x, pruned[1], problem.b_k, kv_head);
      AddHeadGradient(problem, x, s * (p * k), head, &gradients[0]);
      AddHeadGradient(problem, x, s * (p.transpose() * q), kv_head, &gradients[1]);
    }
  }
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
