#include "tests/reference/float32_bounds.h"

#include <cmath>
#include <numeric>

namespace attnprune::reference {
namespace {

constexpr double kUnit = 1.0 / (1 << 24);  // u

double Gamma(Index k) {
  const double ku = static_cast<double>(k) * kUnit;
  return ku / (1 - ku);
}

// A matrix in exact arithmetic and how far float32's may be from it, entry by entry.
struct Bounded {
  Dense value, bound;

  Dense magnitude() const { return value.cwiseAbs(); }
  Bounded Transposed() const { return {value.transpose(), bound.transpose()}; }
};

Bounded Rounded(const Dense& value, double units) {
  return {value, units * kUnit * value.cwiseAbs()};
}

// a b, computed as sums of `terms` products.
Bounded Product(const Bounded& a, const Bounded& b, Index terms) {
  const Dense& da = a.bound;
  const Dense& db = b.bound;
  return {a.value * b.value, Gamma(terms) * (a.magnitude() * b.magnitude()) + a.magnitude() * db +
                                 da * b.magnitude() + da * db};
}

Bounded Scaled(double s, const Bounded& a) {
  return {s * a.value, std::abs(s) * (a.bound + 4 * kUnit * a.magnitude())};
}

// The rotation with cos and sin made positive, so that errors only add.
Dense RotateBound(const Dense& bound, const Rope& rope) {
  const Index half = bound.cols() / 2;
  Dense out(bound.rows(), bound.cols());
  for (Index pair = 0; pair < half; ++pair) {
    const bool interleaved = rope.layout == RopeLayout::kInterleaved;
    const Index first = interleaved ? 2 * pair : pair;
    const Index second = interleaved ? 2 * pair + 1 : pair + half;
    // |cos| a + |sin| b <= sqrt(a^2 + b^2), for both of the pair.
    out.col(first) =
        (bound.col(first).array().square() + bound.col(second).array().square()).sqrt();
    out.col(second) = out.col(first);
  }
  return out;
}

Bounded Rotated(const Bounded& q, const Rope& rope, Rotation direction) {
  return {Rotate(q.value, rope, direction), RotateBound(q.bound + 4 * kUnit * q.magnitude(), rope)};
}

Bounded ProjectHead(const AttentionProblem& problem, const Bounded& x, const Bounded& w,
                    const Vector& b, Index head, double b_units) {
  const Index dim = problem.head_dim();
  const Bounded w_head = {w.value.middleRows(head * dim, dim), w.bound.middleRows(head * dim, dim)};
  Bounded q = Product(x, w_head.Transposed(), x.value.cols() + 1);
  if (b.size() > 0) {
    const Vector segment = b.segment(head * dim, dim);
    q.value.rowwise() += segment.transpose();
    const Vector error = (b_units * kUnit + Gamma(x.value.cols() + 1)) * segment.cwiseAbs();
    q.bound.rowwise() += error.transpose();
  }
  return problem.rope ? Rotated(q, *problem.rope, Rotation::kForward) : q;
}

// The two factors A, B of the logits s A B'.
struct Factors {
  Bounded a, b;
};

Factors HeadFactors(const AttentionProblem& problem, const std::vector<Bounded>& weights,
                    const Bounded& x, Index head, double b_units) {
  if (problem.fused()) return {Product(x, weights[0], x.value.cols()), x};
  return {ProjectHead(problem, x, weights[0], problem.b_q, head, b_units),
          ProjectHead(problem, x, weights[1], problem.b_k, problem.kv_head(head), b_units)};
}

Bounded BoundedSoftmax(const Bounded& logits, const AttentionMask& mask) {
  const Index n = logits.value.cols();
  Bounded f = {Softmax(logits.value, mask), Dense::Zero(n, n)};
  const double underflow = std::exp(-87.0);
  for (Index i = 0; i < n; ++i) {
    double worst = 0, largest = 0;
    for (Index j = 0; j < n; ++j) {
      if (!Allowed(mask, i, j)) continue;
      worst = std::max(worst, logits.bound(i, j));
      largest = std::max(largest, std::abs(logits.value(i, j)));
    }
    const double length = static_cast<double>(n);
    const double t = 2 * worst + 4 * kUnit * largest + kUnit * (largest + std::log(length)) +
                     (length + 16) * kUnit;
    for (Index j = 0; j < n; ++j) {
      if (Allowed(mask, i, j)) f.bound(i, j) = f.value(i, j) * std::expm1(t) + underflow;
    }
  }
  return f;
}

Bounded HeadAttention(const AttentionProblem& problem, const Factors& factors) {
  const Index terms = factors.a.value.cols();
  return BoundedSoftmax(
      Scaled(problem.effective_scale(), Product(factors.a, factors.b.Transposed(), terms)),
      problem.attention);
}

Bounded Difference(const Bounded& f_tilde, const Bounded& f) {
  const Dense c = f_tilde.value - f.value;
  return {c, f_tilde.bound + f.bound + kUnit * c.cwiseAbs()};
}

Bounded LogitGradient(const Bounded& c, const Bounded& f_tilde) {
  const Index n = c.value.rows();
  Bounded p = {Dense(n, n), Dense(n, n)};
  for (Index i = 0; i < n; ++i) {
    double t = 0, dt = 0;
    for (Index j = 0; j < n; ++j) {
      const double cij = c.value(i, j), f = f_tilde.value(i, j);
      const double dc = c.bound(i, j), df = f_tilde.bound(i, j);
      t += cij * f;
      dt += Gamma(n + 1) * std::abs(cij) * f + dc * f + std::abs(cij) * df + dc * df;
    }
    for (Index j = 0; j < n; ++j) {
      const double cij = c.value(i, j), f = f_tilde.value(i, j), dc = c.bound(i, j);
      const double size = std::abs(cij) + std::abs(t);
      p.value(i, j) = f * (cij - t);
      p.bound(i, j) = f * (dc + dt + 4 * kUnit * size) + f_tilde.bound(i, j) * (size + dc + dt);
    }
  }
  return p;
}

// Of the sum of squares of the entries.
double SquaredNormBound(const Bounded& a) {
  const double terms =
      (2 * a.magnitude().cwiseProduct(a.bound) + a.bound.cwiseProduct(a.bound)).sum();
  return terms + Gamma(a.value.cols() + 2) * a.value.squaredNorm();
}

std::vector<Bounded> RoundedAll(const std::vector<Dense>& weights, double units) {
  std::vector<Bounded> rounded;
  for (const Dense& w : weights) rounded.push_back(Rounded(w, units));
  return rounded;
}

struct InputUnits {
  double input, pruned;  // relative error of X, W and b; of M o W; in u
};
InputUnits UnitsOf(InputRounding rounding) {
  return rounding == InputRounding::kExact ? InputUnits{0, 0} : InputUnits{1, 3};
}

// Adds the bound of (R^-1 dq)' X to the rows of one head; `terms`: how many it sums, at
// most.
void AddHeadBound(const AttentionProblem& problem, const Bounded& x, Bounded dq, Index head,
                  Index terms, Dense* bound) {
  if (problem.rope) dq = Rotated(dq, *problem.rope, Rotation::kInverse);
  bound->middleRows(head * problem.head_dim(), problem.head_dim()) +=
      Product(dq.Transposed(), x, terms).bound;
}

Index TotalTokens(const AttentionProblem& problem) {
  Index tokens = 0;
  for (const Dense& x : problem.batches) tokens += x.rows();
  return tokens;
}

void AddGradientBounds(const AttentionProblem& problem, const Bounded& x, const Bounded& p,
                       const Factors& pruned, Index head, std::vector<Dense>* bounds) {
  const double s = problem.effective_scale();
  const Index n = x.value.rows(), tokens = TotalTokens(problem);
  const Index group = problem.heads / problem.kv_heads;
  const Bounded da = Scaled(s, Product(p, pruned.b, n));
  if (problem.fused()) {
    (*bounds)[0] += Product(x.Transposed(), da, tokens).bound;
    return;
  }
  const Bounded db = Scaled(s, Product(p.Transposed(), pruned.a, n * group));
  AddHeadBound(problem, x, da, head, tokens, &(*bounds)[0]);
  AddHeadBound(problem, x, db, problem.kv_head(head), tokens + group, &(*bounds)[1]);
}

// Bound of n / d from those of n and d.
double QuotientBound(double n, double dn, double d, double dd) {
  return (dn + n / d * dd) / (d - dd) + 4 * kUnit * n / d;
}

double Sum(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

}  // namespace

double Float32Bounds::dense_norm() const { return Sum(errors.dense); }

double Float32Bounds::relative(const ErrorSums& sums) const {
  return QuotientBound(Sum(sums.difference), Sum(errors.difference), Sum(sums.dense),
                       Sum(errors.dense));
}

double Float32Bounds::relative(const ErrorSums& sums, Index head) const {
  const size_t h = static_cast<size_t>(head);
  return QuotientBound(sums.difference[h], errors.difference[h], sums.dense[h], errors.dense[h]);
}

Dense BoundAttention(const AttentionProblem& problem, const std::vector<Dense>& weights,
                     const Dense& x, Index head, InputRounding rounding) {
  const InputUnits units = UnitsOf(rounding);
  const Factors factors = HeadFactors(problem, RoundedAll(weights, units.pruned),
                                      Rounded(x, units.input), head, units.input);
  return HeadAttention(problem, factors).bound;
}

Float32Bounds BoundFloat32Errors(const AttentionProblem& problem, const std::vector<Dense>& pruned,
                                 InputRounding rounding) {
  const InputUnits units = UnitsOf(rounding);
  const std::vector<Bounded> dense_weights = RoundedAll(problem.weights, units.input);
  const std::vector<Bounded> pruned_weights = RoundedAll(pruned, units.pruned);
  Float32Bounds bounds = {0,
                          {},
                          {std::vector<double>(static_cast<size_t>(problem.heads), 0.0),
                           std::vector<double>(static_cast<size_t>(problem.heads), 0.0)}};
  for (const Dense& w : pruned) {
    bounds.weight_gradients.push_back(Dense::Zero(w.rows(), w.cols()));
  }
  for (const Dense& batch : problem.batches) {
    const Bounded x = Rounded(batch, units.input);
    for (Index head = 0; head < problem.heads; ++head) {
      const Factors dense = HeadFactors(problem, dense_weights, x, head, units.input);
      const Factors changed = HeadFactors(problem, pruned_weights, x, head, units.input);
      const Bounded f = HeadAttention(problem, dense);
      const Bounded f_tilde = HeadAttention(problem, changed);
      const Bounded c = Difference(f_tilde, f);
      bounds.errors.difference[static_cast<size_t>(head)] += SquaredNormBound(c);
      bounds.errors.dense[static_cast<size_t>(head)] += SquaredNormBound(f);
      AddGradientBounds(problem, x, LogitGradient(c, f_tilde), changed, head,
                        &bounds.weight_gradients);
    }
  }
  bounds.attention_loss = 0.5 * Sum(bounds.errors.difference);
  return bounds;
}

}  // namespace attnprune::reference
