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
  const Index half = TurnedFeatures(rope, bound.cols()) / 2;
  Dense out = bound;
  for (Index pair = 0; pair < half; ++pair) {
    const bool interleaved = rope.layout == RopeLayout::kInterleaved;
    const Index first = interleaved ? 2 * pair : pair;
    const Index second = interleaved ? 2 * pair + 1 : pair + half;
    // |cos| a + |sin| b <= sqrt(a^2 + b^2), for both of the pair.
    out.col(first) =
        rope.attention_factor *
        (bound.col(first).array().square() + bound.col(second).array().square()).sqrt();
    out.col(second) = out.col(first);
  }
  return out;
}

Bounded Rotated(const Bounded& q, const Rope& rope, Rotation direction) {
  return {Rotate(q.value, rope, direction), RotateBound(q.bound + 4 * kUnit * q.magnitude(), rope)};
}

// One group of features as a norm sees it, and how far float32's may be from it.
struct BoundedGroup {
  Vector x_hat, x_hat_bound;
  double root, relative_root_bound;
};

// To first order dx_hat = (dx - mean(dx)) / r - x_hat mean(x_hat dx) / r, without mean(dx) for RMS;
// dr / r = mean(x_hat dx) / r. The norm itself is computed in float64.
BoundedGroup StandardBound(const QkNorm& norm, const Vector& x, const Vector& bound) {
  const double n = static_cast<double>(x.size());
  const bool layer = norm.kind == NormKind::kLayer;
  const Vector centred = x.array() - (layer ? x.mean() : 0.0);
  const double root = std::sqrt(centred.squaredNorm() / n + norm.eps);
  const Vector x_hat = centred / root;
  const double of_root = x_hat.cwiseAbs().dot(bound) / n / root;
  const Vector moved = (bound.array() + (layer ? bound.mean() : 0.0)) / root;
  return {x_hat, moved + of_root * x_hat.cwiseAbs(), root, of_root};
}

// Calls group(t, first, size) for each group of features of each token.
template <typename Group>
void ForGroups(const AttentionProblem& problem, const Dense& rows, Group group) {
  const Index size =
      problem.qk_norm->group == QkNormGroup::kHead ? problem.head_dim() : rows.cols();
  for (Index t = 0; t < rows.rows(); ++t) {
    for (Index first = 0; first < rows.cols(); first += size) group(t, first, size);
  }
}

Vector AbsWeight(const AttentionProblem& problem, Side side) {
  const QkNorm& norm = *problem.qk_norm;
  const std::vector<float>& weight = side == Side::kQueries ? norm.q_weight : norm.k_weight;
  Vector out(static_cast<Index>(weight.size()));
  for (Index i = 0; i < out.size(); ++i) {
    out(i) = std::abs(static_cast<double>(weight[static_cast<size_t>(i)]));
  }
  return out;
}

// clip(x W' + b) of all heads.
Bounded ClippedBound(const AttentionProblem& problem, Side side, const Bounded& x,
                     const std::vector<Bounded>& weights, double b_units) {
  const Bounded& w = weights[static_cast<size_t>(side)];
  const Vector& b = side == Side::kQueries ? problem.b_q : problem.b_k;
  Bounded y = Product(x, w.Transposed(), x.value.cols() + 1);
  if (b.size() > 0) {
    y.value.rowwise() += b.transpose();
    const Vector error = (b_units * kUnit + Gamma(x.value.cols() + 1)) * b.cwiseAbs();
    y.bound.rowwise() += error.transpose();
  }
  if (problem.clip_qkv == 0) return y;
  const double c = problem.clip_qkv;
  y.value = y.value.cwiseMax(-c).cwiseMin(c);
  return y;
}

Bounded NormedBound(const AttentionProblem& problem, Side side, const Bounded& clipped) {
  if (!problem.qk_norm) return clipped;
  const Vector weight = AbsWeight(problem, side);
  Bounded y = {Normed(problem, side, clipped.value), clipped.bound};
  ForGroups(problem, y.value, [&](Index t, Index first, Index size) {
    const BoundedGroup group =
        StandardBound(*problem.qk_norm, clipped.value.row(t).segment(first, size),
                      clipped.bound.row(t).segment(first, size));
    y.bound.row(t).segment(first, size) =
        weight.segment(first, size).cwiseProduct(group.x_hat_bound);
  });
  y.bound += kUnit * y.magnitude();
  return y;
}

// Of BackThroughNormAndClip, dx = (g - mean(g) - x_hat mean(g x_hat)) / r with g = w dy.
Bounded BackBound(const AttentionProblem& problem, Side side, const Bounded& clipped, Bounded d) {
  if (problem.qk_norm) {
    const Vector weight = AbsWeight(problem, side);
    const bool layer = problem.qk_norm->kind == NormKind::kLayer;
    const Dense of_y = d.magnitude();
    ForGroups(problem, d.bound, [&](Index t, Index first, Index size) {
      const BoundedGroup group =
          StandardBound(*problem.qk_norm, clipped.value.row(t).segment(first, size),
                        clipped.bound.row(t).segment(first, size));
      const Vector w = weight.segment(first, size), x_hat = group.x_hat.cwiseAbs();
      const Vector g = w.cwiseProduct(of_y.row(t).segment(first, size).transpose());
      const Vector dg = w.cwiseProduct(d.bound.row(t).segment(first, size).transpose());
      const double mean_dg = layer ? dg.mean() : 0.0, mean_g = layer ? g.mean() : 0.0;
      const double mean_gx = g.cwiseProduct(x_hat).mean();
      const double mean_dgx =
          dg.cwiseProduct(x_hat).mean() + g.cwiseProduct(group.x_hat_bound).mean();
      const Vector size_dx = ((g.array() + mean_g).matrix() + x_hat * mean_gx) / group.root;
      d.bound.row(t).segment(first, size) =
          ((dg.array() + mean_dg).matrix() + x_hat * mean_dgx + group.x_hat_bound * mean_gx) /
              group.root +
          (group.relative_root_bound + kUnit) * size_dx;
    });
  }
  d.value = BackThroughNormAndClip(problem, side, clipped.value, d.value);
  if (problem.clip_qkv > 0) {
    d.bound = (clipped.value.array().abs() < problem.clip_qkv).select(d.bound, 0.0);
  }
  return d;
}

Bounded ProjectHead(const AttentionProblem& problem, Side side, const Bounded& x,
                    const std::vector<Bounded>& weights, Index head, double b_units) {
  const Bounded all = NormedBound(problem, side, ClippedBound(problem, side, x, weights, b_units));
  const Index dim = problem.head_dim();
  const Bounded q = {all.value.middleCols(head * dim, dim), all.bound.middleCols(head * dim, dim)};
  return problem.rope ? Rotated(q, *problem.rope, Rotation::kForward) : q;
}

// The two factors A, B of the logits s A B'.
struct Factors {
  Bounded a, b;
};

Factors HeadFactors(const AttentionProblem& problem, const std::vector<Bounded>& weights,
                    const Bounded& x, Index head, double b_units) {
  if (problem.fused()) return {Product(x, weights[0], x.value.cols()), x};
  return {ProjectHead(problem, Side::kQueries, x, weights, head, b_units),
          ProjectHead(problem, Side::kKeys, x, weights, problem.kv_head(head), b_units)};
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

// S + alibi, the bias rounded four times at most (slope, product, scale, sum); then c tanh(S / c),
// whose slope is at most 1: S / c by a product with 1 / c (2 u), tanh to 3 ulp (6 u), a product.
Bounded HeadLogits(const AttentionProblem& problem, const Factors& factors, Index head) {
  Bounded logits = Scaled(problem.effective_scale(),
                          Product(factors.a, factors.b.Transposed(), factors.a.value.cols()));
  if (problem.alibi != Alibi::kNone) {
    const Vector bias = AlibiOf(problem, head, logits.value.cols());
    const Vector bias_bound = 4 * kUnit * bias.cwiseAbs();
    logits.value.rowwise() += bias.transpose();
    logits.bound.rowwise() += bias_bound.transpose();
    logits.bound += kUnit * logits.magnitude();
  }
  if (problem.softcap == 0) return logits;
  const double c = problem.softcap;
  const Dense uncapped = logits.magnitude();
  logits.value = c * (logits.value / c).array().tanh();
  logits.bound += 2 * kUnit * uncapped + 8 * kUnit * logits.magnitude();
  return logits;
}

Bounded HeadAttention(const AttentionProblem& problem, const Factors& factors, Index head) {
  return BoundedSoftmax(HeadLogits(problem, factors, head), problem.attention);
}

// p o (1 - (S~ / c)^2): S~ / c is off by its bound, its square is rounded, so is the difference.
Bounded ThroughSoftcap(const AttentionProblem& problem, const Bounded& logits, const Bounded& p) {
  if (problem.softcap == 0) return p;
  const Dense t = logits.magnitude() / problem.softcap;
  const Dense slope = SoftcapSlope(problem, logits.value);
  const Dense slope_bound = 2 * t.cwiseProduct(logits.bound / problem.softcap).array() + 2 * kUnit;
  return {p.value.cwiseProduct(slope), p.bound.cwiseProduct(slope + slope_bound) +
                                           p.magnitude().cwiseProduct(slope_bound + kUnit * slope)};
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

Index TotalTokens(const AttentionProblem& problem) {
  Index tokens = 0;
  for (const Dense& x : problem.batches) tokens += x.rows();
  return tokens;
}

// Gradients in the queries and keys of one batch before their rotation, summed over heads.
struct BoundedGradients {
  Bounded q, k;
};

BoundedGradients NoGradients(const AttentionProblem& problem, Index tokens) {
  const auto zeros = [tokens](Index outputs) -> Bounded {
    return {Dense::Zero(tokens, outputs), Dense::Zero(tokens, outputs)};
  };
  return {zeros(problem.weights[0].rows()), zeros(problem.weights[1].rows())};
}

void AddHead(const AttentionProblem& problem, Bounded d, Index head, Bounded* all) {
  if (problem.rope) d = Rotated(d, *problem.rope, Rotation::kTransposed);
  const Index dim = problem.head_dim();
  all->value.middleCols(head * dim, dim) += d.value;
  all->bound.middleCols(head * dim, dim) += d.bound;
}

void AddHeadGradients(const AttentionProblem& problem, const Bounded& p, const Factors& pruned,
                      Index head, BoundedGradients* d) {
  const double s = problem.effective_scale();
  const Index n = p.value.rows(), group = problem.heads / problem.kv_heads;
  AddHead(problem, Scaled(s, Product(p, pruned.b, n)), head, &d->q);
  AddHead(problem, Scaled(s, Product(p.Transposed(), pruned.a, n * group)), problem.kv_head(head),
          &d->k);
}

// Adds those of dW = d' X, d being what is left of the gradients before the product with W.
void AddWeightBounds(const AttentionProblem& problem, const Bounded& x,
                     const std::vector<Bounded>& weights, const BoundedGradients& d, double b_units,
                     std::vector<Dense>* bounds) {
  const Index tokens = TotalTokens(problem), group = problem.heads / problem.kv_heads;
  for (const Side side : {Side::kQueries, Side::kKeys}) {
    const bool queries = side == Side::kQueries;
    const Bounded back = BackBound(problem, side, ClippedBound(problem, side, x, weights, b_units),
                                   queries ? d.q : d.k);
    (*bounds)[static_cast<size_t>(side)] +=
        Product(back.Transposed(), x, queries ? tokens : tokens + group).bound;
  }
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
  return HeadAttention(problem, factors, head).bound;
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
    BoundedGradients d;
    if (!problem.fused()) d = NoGradients(problem, batch.rows());
    for (Index head = 0; head < problem.heads; ++head) {
      const Factors dense = HeadFactors(problem, dense_weights, x, head, units.input);
      const Factors changed = HeadFactors(problem, pruned_weights, x, head, units.input);
      const Bounded f = HeadAttention(problem, dense, head);
      const Bounded logits = HeadLogits(problem, changed, head);
      const Bounded f_tilde = BoundedSoftmax(logits, problem.attention);
      const Bounded c = Difference(f_tilde, f);
      bounds.errors.difference[static_cast<size_t>(head)] += SquaredNormBound(c);
      bounds.errors.dense[static_cast<size_t>(head)] += SquaredNormBound(f);
      const Bounded p = ThroughSoftcap(problem, logits, LogitGradient(c, f_tilde));
      if (problem.fused()) {
        const Bounded da = Scaled(problem.effective_scale(), Product(p, changed.b, batch.rows()));
        bounds.weight_gradients[0] += Product(x.Transposed(), da, TotalTokens(problem)).bound;
      } else {
        AddHeadGradients(problem, p, changed, head, &d);
      }
    }
    if (problem.fused()) continue;
    AddWeightBounds(problem, x, pruned_weights, d, units.input, &bounds.weight_gradients);
  }
  bounds.attention_loss = 0.5 * Sum(bounds.errors.difference);
  return bounds;
}

}  // namespace attnprune::reference
