#include "core/kernels/attention.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <tuple>
#include <vector>

#include "core/kernels/lanes.h"
#include "tests/support/matrices.h"
#include "tests/support/whole_attention.h"

namespace attnprune {
namespace {

using ::attnprune::testing::GaussianMatrix;
using ::attnprune::testing::LogitOptions;
using ::attnprune::testing::Values;
using ::attnprune::testing::WholeAttention;
using ::testing::Each;
using ::testing::Gt;
using ::testing::SizeIs;

constexpr double kUnit = 0x1p-24;  // half an ulp of 1 in float32
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

// Ranges of n queries, as the four kinds of attention mask make them.
using Ranges = std::vector<KeyRange> (*)(Index n);

std::vector<KeyRange> Causal(Index n) {
  std::vector<KeyRange> ranges;
  for (Index i = 0; i < n; ++i) ranges.push_back({0, i + 1});
  return ranges;
}
std::vector<KeyRange> Full(Index n) {
  return std::vector<KeyRange>(static_cast<size_t>(n), {0, n});
}
template <Index kSize>
std::vector<KeyRange> BlockCausal(Index n) {
  std::vector<KeyRange> ranges;
  for (Index i = 0; i < n; ++i) ranges.push_back({i / kSize * kSize, i + 1});
  return ranges;
}
template <Index kSize>
std::vector<KeyRange> Window(Index n) {
  std::vector<KeyRange> ranges;
  for (Index i = 0; i < n; ++i) ranges.push_back({std::max<Index>(0, i + 1 - kSize), i + 1});
  return ranges;
}

struct MaskCase {
  std::string name;
  Ranges ranges;
};

// What logits are beside products.
struct OptionCase {
  std::string name;
  float slope;  // of the keys' bias; 0: none
  float softcap;
};

LogitOptions OptionsFor(const OptionCase& option, Index n) {
  LogitOptions options{.softcap = option.softcap};
  if (option.slope == 0) return options;
  const Index padded = (n + kAttentionPadding - 1) / kAttentionPadding * kAttentionPadding;
  for (Index j = 0; j < padded; ++j) {
    options.key_bias.push_back(option.slope * static_cast<float>(j));
  }
  return options;
}

// Every kind of mask and of logits, by the kernels of every instruction set that this CPU has.
class AttentionOfEveryMask
    : public ::testing::TestWithParam<std::tuple<MaskCase, const AttentionKernels*, OptionCase>> {
 protected:
  void SetUp() override {
    if (&kernels() == &kAttentionKernelsAvx512 &&
        &AttentionKernelsOfThisCpu() != &kAttentionKernelsAvx512) {
      GTEST_SKIP() << "this CPU has no AVX-512";
    }
  }
  const AttentionKernels& kernels() const { return *std::get<1>(GetParam()); }
  AttentionLayout Layout(Index n) const {
    return AttentionLayout(std::get<0>(GetParam()).ranges(n));
  }
  LogitOptions Options(Index n) const { return OptionsFor(std::get<2>(GetParam()), n); }
};
const OptionCase kPlain = {"Plain", 0, 0}, kCapped = {"Capped", 0, 2},
                 kBiasedAndCapped = {"BiasedAndCapped", 0.03125f, 4};
const MaskCase kCausal = {"Causal", Causal}, kWindowOf40 = {"WindowOf40", Window<40>};
const auto kEveryKernel = ::testing::Values(&kAttentionKernelsAvx2, &kAttentionKernelsAvx512);

std::string NameOfCase(
    const ::testing::TestParamInfo<std::tuple<MaskCase, const AttentionKernels*, OptionCase>>&
        test) {
  return std::get<0>(test.param).name + "_" + std::get<1>(test.param)->name + "_" +
         std::get<2>(test.param).name;
}

INSTANTIATE_TEST_SUITE_P(
    All, AttentionOfEveryMask,
    ::testing::Combine(::testing::Values(kCausal, MaskCase{"Full", Full},
                                         MaskCase{"BlockOf1", BlockCausal<1>},
                                         MaskCase{"BlockOf7", BlockCausal<7>},
                                         MaskCase{"BlockOf32", BlockCausal<32>},
                                         MaskCase{"WindowOf1", Window<1>},
                                         MaskCase{"WindowOf5", Window<5>}, kWindowOf40),
                       kEveryKernel, ::testing::Values(kPlain)),
    NameOfCase);
INSTANTIATE_TEST_SUITE_P(Capped, AttentionOfEveryMask,
                         ::testing::Combine(::testing::Values(kCausal), kEveryKernel,
                                            ::testing::Values(kCapped)),
                         NameOfCase);
INSTANTIATE_TEST_SUITE_P(BiasedAndCapped, AttentionOfEveryMask,
                         ::testing::Combine(::testing::Values(kWindowOf40), kEveryKernel,
                                            ::testing::Values(kBiasedAndCapped)),
                         NameOfCase);

// Around the blocks of 64 rows, the panels of 32 columns, the tiles of 4 or 8 rows and the lanes of
// 8 or 16.
constexpr Index kSizes[] = {1, 2, 8, 17, 31, 32, 33, 64, 65, 100, 130, 300};

// Entries of a query: less than a vector, whole vectors, more than a panel, deeper than the 256
// that are multiplied at once.
constexpr Index kWidths[] = {1, 6, 16, 40, 64, 300};
Index WidthFor(Index n) { return kWidths[static_cast<size_t>(n) % std::size(kWidths)]; }

bool Allowed(const AttentionLayout& layout, Index i, Index j) {
  return layout.keys(i).begin <= j && j < layout.keys(i).end;
}

TEST_P(AttentionOfEveryMask, HasALayoutWhoseBlocksCoverWhatIsAllowedFromAWholeVectorOn) {
  for (Index n = 1; n <= 100; ++n) {
    const AttentionLayout layout = Layout(n);
    ASSERT_EQ(layout.tokens(), n);
    Index next_row = 0;
    for (const AttentionBlock& block : layout.blocks()) {
      ASSERT_EQ(block.row, next_row) << n;
      ASSERT_GT(block.rows, 0) << n;
      next_row += block.rows;
      Index first = n, end = 0;
      for (Index i = block.row; i < next_row; ++i) {
        first = std::min(first, layout.keys(i).begin);
        end = std::max(end, layout.keys(i).end);
      }
      ASSERT_EQ(block.key, first / kAttentionPadding * kAttentionPadding) << n;
      ASSERT_EQ(block.key + block.keys, end) << n;
    }
    ASSERT_EQ(next_row, n);
  }
}

TEST_P(AttentionOfEveryMask, HasALayoutOfBlocksOneBehindTheOtherInWholeVectors) {
  for (Index n = 1; n <= 100; ++n) {
    const AttentionLayout layout = Layout(n);
    Index next_float = 0, largest = 0;
    for (const AttentionBlock& block : layout.blocks()) {
      ASSERT_EQ(block.offset, next_float) << n;
      ASSERT_EQ(block.stride % kAttentionPadding, 0) << n;
      ASSERT_GE(block.stride, block.keys) << n;
      ASSERT_LT(block.stride, block.keys + kAttentionPadding) << n;
      next_float += block.rows * block.stride;
      largest = std::max(largest, block.rows * block.stride);
    }
    ASSERT_EQ(layout.packed_size(), next_float) << n;
    ASSERT_EQ(layout.block_size(), largest) << n;
  }
}

TEST(AttentionLayout, CutsRowsIntoBlocksOf64) {
  EXPECT_THAT(AttentionLayout(Causal(64)).blocks(), SizeIs(1));
  EXPECT_THAT(AttentionLayout(Causal(65)).blocks(), SizeIs(2));
  EXPECT_THAT(AttentionLayout(Causal(200)).blocks(), SizeIs(4));
}

TEST(AttentionLayout, OfNoTokensIsEmpty) {
  EXPECT_EQ(AttentionLayout().tokens(), 0);
  EXPECT_EQ(AttentionLayout(std::vector<KeyRange>()).packed_size(), 0);
}

// --- a float64 reference, and how far float32 may be from it -------------------------------------

using Rows = std::vector<std::vector<double>>;

Rows Zeros(Index rows, Index cols) {
  return Rows(static_cast<size_t>(rows), std::vector<double>(static_cast<size_t>(cols)));
}
double& At(Rows& rows, Index i, Index j) {
  return rows[static_cast<size_t>(i)][static_cast<size_t>(j)];
}
double At(const Rows& rows, Index i, Index j) {
  return rows[static_cast<size_t>(i)][static_cast<size_t>(j)];
}

Rows Logits(const Matrix& a, const Matrix& b, float scale, const LogitOptions& options) {
  Rows s = Zeros(a.rows(), b.rows());
  for (Index i = 0; i < a.rows(); ++i) {
    const float* const query = a.row(i);
    for (Index j = 0; j < b.rows(); ++j) {
      const float* const key = b.row(j);
      double dot = 0;
      for (Index k = 0; k < a.cols(); ++k) {
        dot += static_cast<double>(query[k]) * static_cast<double>(key[k]);
      }
      At(s, i, j) = static_cast<double>(scale) * dot;
      if (!options.key_bias.empty()) {
        At(s, i, j) += static_cast<double>(options.key_bias[static_cast<size_t>(j)]);
      }
      const auto cap = static_cast<double>(options.softcap);
      if (cap > 0) At(s, i, j) = cap * std::tanh(At(s, i, j) / cap);
    }
  }
  return s;
}

// log softmax over the allowed keys, -infinity elsewhere.
Rows LogSoftmax(const AttentionLayout& layout, const Matrix& a, const Matrix& b, float scale,
                const LogitOptions& options) {
  const Rows s = Logits(a, b, scale, options);
  Rows out = Zeros(a.rows(), b.rows());
  for (Index i = 0; i < a.rows(); ++i) {
    double max = -std::numeric_limits<double>::infinity(), sum = 0;
    for (Index j = 0; j < b.rows(); ++j) {
      if (Allowed(layout, i, j)) max = std::max(max, At(s, i, j));
    }
    for (Index j = 0; j < b.rows(); ++j) {
      if (Allowed(layout, i, j)) sum += std::exp(At(s, i, j) - max);
    }
    for (Index j = 0; j < b.rows(); ++j) {
      At(out, i, j) = Allowed(layout, i, j) ? At(s, i, j) - max - std::log(sum)
                                            : -std::numeric_limits<double>::infinity();
    }
  }
  return out;
}

Rows Softmax(const AttentionLayout& layout, const Matrix& a, const Matrix& b, float scale,
             const LogitOptions& options) {
  Rows out = LogSoftmax(layout, a, b, scale, options);
  for (std::vector<double>& row : out) {
    for (double& entry : row) entry = std::exp(entry);
  }
  return out;
}

double LargestMagnitude(const Matrix& m) {
  double largest = 0;
  for (float v : m.flat()) largest = std::max(largest, std::abs(static_cast<double>(v)));
  return largest;
}

// Of scale a b' and, where there is one, the keys' bias.
double LargestLogit(const Matrix& a, const Matrix& b, float scale, const LogitOptions& options) {
  const double largest_bias =
      options.key_bias.empty() ? 0.0 : static_cast<double>(options.key_bias.back());
  return static_cast<double>(a.cols()) * LargestMagnitude(a) * LargestMagnitude(b) *
             std::abs(static_cast<double>(scale)) +
         largest_bias;
}

// Of a float32 logit: r products of at most max|a| max|b|, summed, times the scale; the sum with a
// bias; a softcap, whose slope is at most 1, with the rounding of S / c, of tanh (6 u) and of a
// product.
double LogitBound(const Matrix& a, const Matrix& b, float scale, const LogitOptions& options) {
  const double r = static_cast<double>(a.cols());
  const double largest = LargestLogit(a, b, scale, options);
  double bound = (r + 2) * kUnit * largest;
  if (!options.key_bias.empty()) bound += kUnit * largest;
  if (options.softcap > 0) bound += 10 * kUnit * largest;
  return bound;
}

// Relative, of an entry of f: the logit and, through the sum, the others' (2 dS); S - max, at most
// 2 max|S|, rounded, for the entry and for the sum; exp (4 u twice); a sum of n in lanes; a
// reciprocal and a product.
double EntryBound(const Matrix& a, const Matrix& b, float scale, const LogitOptions& options) {
  const double n = static_cast<double>(a.rows());
  const double t = 2 * LogitBound(a, b, scale, options) +
                   4 * kUnit * LargestLogit(a, b, scale, options) +
                   (8 + n / static_cast<double>(kLanes) + static_cast<double>(kLanes) + 3) * kUnit;
  return std::expm1(t);
}

// --- f -------------------------------------------------------------------------------------------

constexpr float kScale = 0.4f;

// Queries and keys of n tokens and the attention of other queries, packed.
struct Case {
  Case(const AttentionLayout& of, Index n, const AttentionKernels& kernels,
       const LogitOptions& with = {})
      : layout(of),
        options(with),
        a(GaussianMatrix(n, WidthFor(n), 1)),
        b(GaussianMatrix(n, WidthFor(n), 2)),
        dense_a(GaussianMatrix(n, WidthFor(n), 3)),
        packed(static_cast<size_t>(of.packed_size()), kNaN),
        attention(layout, b, kScale, kernels, options) {
    norm = attention.Dense(dense_a, packed.data());
  }
  DenseRows dense() const { return {.packed = packed.data()}; }

  AttentionLayout layout;
  LogitOptions options;
  Matrix a, b, dense_a;
  std::vector<float> packed;
  mutable WholeAttention attention;
  double norm = 0;
};

TEST_P(AttentionOfEveryMask, IsTheSoftmaxOfItsLogits) {
  for (Index n : kSizes) {
    const Case c(Layout(n), n, kernels(), Options(n));
    const Matrix f = testing::Unpack(c.layout, c.packed.data());
    const Rows expected = Softmax(c.layout, c.dense_a, c.b, kScale, c.options);
    const double relative = EntryBound(c.dense_a, c.b, kScale, c.options);
    double norm = 0;
    for (Index i = 0; i < n; ++i) {
      for (Index j = 0; j < n; ++j) {
        ASSERT_NEAR(f(i, j), At(expected, i, j), relative * At(expected, i, j)) << n;
        norm += At(expected, i, j) * At(expected, i, j);
      }
    }
    // Each square by twice the entry's error, and a sum of n in lanes.
    EXPECT_NEAR(c.norm, norm, (2.1 * relative + static_cast<double>(n + kLanes) * kUnit) * norm);
  }
}

// The sum of the row in lanes, its reciprocal, the products.
TEST_P(AttentionOfEveryMask, HasRowsThatSumToOne) {
  for (Index n : kSizes) {
    const Case c(Layout(n), n, kernels(), Options(n));
    const Matrix f = testing::Unpack(c.layout, c.packed.data());
    for (Index i = 0; i < n; ++i) {
      double sum = 0;
      for (Index j = 0; j < n; ++j) sum += static_cast<double>(f(i, j));
      ASSERT_NEAR(sum, 1, static_cast<double>(n + kLanes + 3) * kUnit) << n << ", row " << i;
    }
  }
}

// The storage was full of NaN before.
TEST_P(AttentionOfEveryMask, IsExactlyZeroInPackedStorageWhereNotAllowedPaddingIncluded) {
  for (Index n : kSizes) {
    const Case c(Layout(n), n, kernels(), Options(n));
    for (const AttentionBlock& block : c.layout.blocks()) {
      for (Index i = 0; i < block.rows; ++i) {
        for (Index j = 0; j < block.stride; ++j) {
          const float f = c.packed[static_cast<size_t>(block.offset + i * block.stride + j)];
          if (Allowed(c.layout, block.row + i, block.key + j)) {
            ASSERT_GT(f, 0) << n << ": " << block.row + i << ", " << block.key + j;
          } else {
            ASSERT_EQ(f, 0) << n << ": " << block.row + i << ", " << block.key + j;
          }
        }
      }
    }
  }
}

// Numbers every float of packed storage: an entry must come from its own place, or be 0.
TEST_P(AttentionOfEveryMask, IsUnpackedFromEveryPlaceToItsOwn) {
  for (Index n : kSizes) {
    const AttentionLayout layout = Layout(n);
    std::vector<float> packed(static_cast<size_t>(layout.packed_size()));
    for (size_t i = 0; i < packed.size(); ++i) packed[i] = static_cast<float>(i + 1);
    const Matrix dense = testing::Unpack(layout, packed.data());
    Matrix expected(n, n);
    for (const AttentionBlock& block : layout.blocks()) {
      for (Index i = 0; i < block.rows; ++i) {
        for (Index j = 0; j < block.keys; ++j) {
          expected(block.row + i, block.key + j) =
              static_cast<float>(block.offset + i * block.stride + j + 1);
        }
      }
    }
    ASSERT_EQ(Values(dense), Values(expected)) << n;
  }
}

TEST(DenseAttention, IsEvenWhereAllLogitsAreEqual) {
  const AttentionLayout layout(Causal(4));
  std::vector<float> packed(static_cast<size_t>(layout.packed_size()));
  const Matrix zero(4, 2), b = GaussianMatrix(4, 2, 1);
  WholeAttention(layout, b, 1.0f).Dense(zero, packed.data());
  const Matrix f = testing::Unpack(layout, packed.data());
  for (Index i : {0, 1, 3}) {
    for (Index j = 0; j <= i; ++j) EXPECT_EQ(f(i, j), 1.0f / static_cast<float>(i + 1));
  }
}

// --- the difference, the loss and its gradient ---------------------------------------------------

struct LossAndGradient {
  double loss;
  Matrix d_a, d_b;
};

// d_a starts as NaN, d_b as `start` everywhere.
LossAndGradient Evaluate(const Case& c, float start, const DenseRows& dense) {
  LossAndGradient out{0, Matrix::Constant(c.a.rows(), c.a.cols(), kNaN),
                      Matrix::Constant(c.b.rows(), c.b.cols(), start)};
  out.loss = c.attention.LossGradient(c.a, dense, out.d_a, out.d_b);
  return out;
}

LossAndGradient Evaluate(const Case& c, float start) { return Evaluate(c, start, c.dense()); }

TEST_P(AttentionOfEveryMask, HasADifferenceOfTwiceItsLossBitForBit) {
  for (Index n : kSizes) {
    const Case c(Layout(n), n, kernels(), Options(n));
    const double difference = c.attention.Difference(c.a, c.dense());
    EXPECT_EQ(difference, 2 * Evaluate(c, 0).loss) << n;
  }
}

TEST_P(AttentionOfEveryMask, IsTheSameBitForBitWhereItIsRebuiltInsteadOfKept) {
  for (Index n : kSizes) {
    const Case c(Layout(n), n, kernels(), Options(n));
    const DenseRows rebuilt = c.attention.DenseToRebuild(c.dense_a);
    const LossAndGradient kept = Evaluate(c, 0), made_again = Evaluate(c, 0, rebuilt);
    EXPECT_EQ(made_again.loss, kept.loss) << n;
    EXPECT_EQ(Values(made_again.d_a), Values(kept.d_a)) << n;
    EXPECT_EQ(Values(made_again.d_b), Values(kept.d_b)) << n;
    EXPECT_EQ(c.attention.Difference(c.a, rebuilt), 2 * kept.loss) << n;
  }
}

// Columns beside the target's belong to other heads.
TEST_P(AttentionOfEveryMask, WritesItsOwnColumnsOnly) {
  for (Index n : kSizes) {
    const Case c(Layout(n), n, kernels(), Options(n));
    const Index width = c.a.cols();
    Matrix d_a = Matrix::Constant(n, width + 5, -7), d_b = Matrix::Constant(n, width + 5, -7);
    c.attention.LossGradient(c.a, c.dense(), MutableMatrixView(d_a).Cols(2, width),
                             MutableMatrixView(d_b).Cols(2, width));
    for (const Matrix* m : {&d_a, &d_b}) {
      for (Index i = 0; i < n; ++i) {
        for (Index k : {Index{0}, Index{1}, width + 2, width + 3, width + 4}) {
          ASSERT_EQ((*m)(i, k), -7) << n << ": " << i << ", " << k;
        }
      }
    }
  }
}

TEST_P(AttentionOfEveryMask, HasNoLossAndNoGradientAtItsOwnQueriesExactly) {
  for (Index n : kSizes) {
    Case c(Layout(n), n, kernels(), Options(n));
    c.a = c.dense_a.Clone();
    const LossAndGradient at_dense = Evaluate(c, 0);
    EXPECT_EQ(at_dense.loss, 0) << n;
    EXPECT_THAT(Values(at_dense.d_a), Each(0)) << n;
    EXPECT_THAT(Values(at_dense.d_b), Each(0)) << n;
  }
}

// Values in float64 by the formulas at the head of attention.h, and how far float32 may be off, to
// first order with 1.1 for the rest. With e of the entries of f~ and f, both relative:
//   dc = e (f~ + f) + u |c|
//   dt = sum_j (dc f~ + e |c| f~) + (n + 2) u sum_j |c| f~       t = sum_j c f~
//   dp = f~ (dc + dt + (e + 4 u) (|c| + |t|))                    p = f~ (c - t), times the
//   softcap's slope loss: sum (|c| dc + dc^2 / 2) and a sum of n; gradients: sums of n products
struct Reference {
  double loss = 0, loss_bound = 0;
  Rows d_a, d_b, d_a_bound, d_b_bound;
};

// Adds the part of query i: p_j and its bound for every key.
void AddGradients(const Case& c, Index i, const std::vector<double>& p,
                  const std::vector<double>& p_bound, Reference& out) {
  const double n = static_cast<double>(c.a.rows()), scale = static_cast<double>(kScale);
  for (Index j = 0; j < c.b.rows(); ++j) {
    const double p_j = p[static_cast<size_t>(j)];
    const double bound = 1.1 * p_bound[static_cast<size_t>(j)] + (n + 2) * kUnit * std::abs(p_j);
    const double slope = scale * p_j, spread = scale * bound;
    if (slope == 0 && spread == 0) continue;  // a key that is not allowed
    const float* const a = c.a.row(i);
    const float* const b = c.b.row(j);
    double* const d_a = &At(out.d_a, i, 0);
    double* const d_b = &At(out.d_b, j, 0);
    double* const d_a_bound = &At(out.d_a_bound, i, 0);
    double* const d_b_bound = &At(out.d_b_bound, j, 0);
    for (Index k = 0; k < c.a.cols(); ++k) {
      d_a[k] += slope * static_cast<double>(b[k]);
      d_b[k] += slope * static_cast<double>(a[k]);
      d_a_bound[k] += spread * std::abs(static_cast<double>(b[k]));
      d_b_bound[k] += spread * std::abs(static_cast<double>(a[k]));
    }
  }
}

// p o (1 - t^2) with t = S~ / c, which is off by its logit's bound; t^2, 1 - t^2 and the product
// round.
void ThroughSoftcap(const Case& c, const std::vector<double>& logits, std::vector<double>& p,
                    std::vector<double>& p_bound) {
  if (c.options.softcap == 0) return;
  const auto cap = static_cast<double>(c.options.softcap);
  const double t_bound = LogitBound(c.a, c.b, kScale, c.options) / cap;
  for (size_t j = 0; j < p.size(); ++j) {
    const double t = logits[j] / cap, slope = 1 - t * t;
    const double slope_bound = 2 * std::abs(t) * t_bound + 2 * kUnit;
    p_bound[j] =
        p_bound[j] * (slope + slope_bound) + std::abs(p[j]) * (slope_bound + kUnit * slope);
    p[j] *= slope;
  }
}

// Adds row i, f~, f and the capped logits given.
void AddRow(const Case& c, Index i, double e, const std::vector<double>& f_tilde,
            const std::vector<double>& f, const std::vector<double>& logits, Reference& out) {
  const size_t n = f.size();
  std::vector<double> difference(n), bound(n), p(n), p_bound(n);
  double t = 0, t_bound = 0;
  for (size_t j = 0; j < n; ++j) {
    const double size = std::abs(f_tilde[j] - f[j]);
    difference[j] = f_tilde[j] - f[j];
    bound[j] = e * (f_tilde[j] + f[j]) + kUnit * size;
    t += difference[j] * f_tilde[j];
    t_bound += (bound[j] + (e + static_cast<double>(n + 2) * kUnit) * size) * f_tilde[j];
    out.loss += 0.5 * size * size;
    out.loss_bound += size * bound[j] + 0.5 * bound[j] * bound[j] +
                      static_cast<double>(n + kLanes) * kUnit * 0.5 * size * size;
  }
  for (size_t j = 0; j < n; ++j) {
    p[j] = f_tilde[j] * (difference[j] - t);
    p_bound[j] = f_tilde[j] *
                 (bound[j] + t_bound + (e + 4 * kUnit) * (std::abs(difference[j]) + std::abs(t)));
  }
  ThroughSoftcap(c, logits, p, p_bound);
  AddGradients(c, i, p, p_bound, out);
}

Reference InFloat64(const Case& c) {
  const Index n = c.a.rows();
  const Rows f = Softmax(c.layout, c.dense_a, c.b, kScale, c.options);
  const Rows f_tilde = Softmax(c.layout, c.a, c.b, kScale, c.options);
  const Rows logits = Logits(c.a, c.b, kScale, c.options);
  const double e = std::max(EntryBound(c.a, c.b, kScale, c.options),
                            EntryBound(c.dense_a, c.b, kScale, c.options));
  Reference out{.d_a = Zeros(n, c.a.cols()),
                .d_b = Zeros(n, c.a.cols()),
                .d_a_bound = Zeros(n, c.a.cols()),
                .d_b_bound = Zeros(n, c.a.cols())};
  for (Index i = 0; i < n; ++i) {
    const auto row = static_cast<size_t>(i);
    AddRow(c, i, e, f_tilde[row], f[row], logits[row], out);
  }
  return out;
}

TEST_P(AttentionOfEveryMask, HasTheLossAndGradientOfItsFormulas) {
  for (Index n : kSizes) {
    const Case c(Layout(n), n, kernels(), Options(n));
    const LossAndGradient got = Evaluate(c, 0);
    const Reference expected = InFloat64(c);
    EXPECT_NEAR(got.loss, expected.loss, 1.1 * expected.loss_bound) << n;
    for (Index i = 0; i < n; ++i) {
      for (Index k = 0; k < c.a.cols(); ++k) {
        ASSERT_NEAR(got.d_a(i, k), At(expected.d_a, i, k), At(expected.d_a_bound, i, k))
            << n << ": " << i << ", " << k;
        ASSERT_NEAR(got.d_b(i, k), At(expected.d_b, i, k), At(expected.d_b_bound, i, k))
            << n << ": " << i << ", " << k;
      }
    }
  }
}

// A sum of one part a block, none larger than s n max|a|, begun at 64 instead of 0.
TEST_P(AttentionOfEveryMask, AddsToTheGradientOfItsKeys) {
  constexpr float kStart = 64;
  for (Index n : kSizes) {
    const Case c(Layout(n), n, kernels(), Options(n));
    const LossAndGradient from_zero = Evaluate(c, 0), from_start = Evaluate(c, kStart);
    EXPECT_EQ(Values(from_start.d_a), Values(from_zero.d_a)) << n;
    const double parts =
        static_cast<double>(kScale) * static_cast<double>(n) * LargestMagnitude(c.a);
    const double bound = static_cast<double>(c.layout.blocks().size() + 2) * 2 * kUnit *
                         (static_cast<double>(kStart) + parts);
    for (Index i = 0; i < n; ++i) {
      for (Index k = 0; k < c.a.cols(); ++k) {
        ASSERT_NEAR(from_start.d_b(i, k), kStart + from_zero.d_b(i, k), bound) << n << ": " << i;
      }
    }
  }
}

TEST_P(AttentionOfEveryMask, NeedsNoGradientOfItsKeys) {
  for (Index n : kSizes) {
    const Case c(Layout(n), n, kernels(), Options(n));
    const LossAndGradient both = Evaluate(c, 0);
    Matrix d_a(n, c.a.cols());
    const double loss = c.attention.LossGradient(c.a, c.dense(), d_a, MutableMatrixView());
    EXPECT_EQ(loss, both.loss) << n;
    EXPECT_EQ(Values(d_a), Values(both.d_a)) << n;
  }
}

// Logits in the hundreds: the smallest entry is far below what a float holds. From float32
// logits: a logit and the log of the sum are off by dS each.
TEST_P(AttentionOfEveryMask, KnowsTheLogarithmOfItsSmallestEntry) {
  constexpr float kLoud = 30;
  for (Index n : kSizes) {
    const Case c(Layout(n), n, kernels(), Options(n));
    double smallest = 0;
    const Rows log_f = LogSoftmax(c.layout, c.a, c.b, kLoud, c.options);
    for (Index i = 0; i < n; ++i) {
      for (Index j = 0; j < n; ++j) {
        if (Allowed(c.layout, i, j)) smallest = std::min(smallest, At(log_f, i, j));
      }
    }
    WholeAttention loud(c.layout, c.b, kLoud, kernels(), c.options);
    EXPECT_NEAR(loud.SmallestLog(c.a, c.dense()), smallest,
                2.01 * LogitBound(c.a, c.b, kLoud, c.options))
        << n;
  }
}

TEST(SmallestLogAttention, IsFarBelowFloat32) {
  const Case c(AttentionLayout(Causal(100)), 100, AttentionKernelsOfThisCpu());
  WholeAttention loud(c.layout, c.b, 30);
  EXPECT_LT(loud.SmallestLog(c.a, c.dense()), -150);
}

// --- denormals -----------------------------------------------------------------------------------

TEST(ScopedFlushDenormals, FlushesWhileItLivesOnly) {
  volatile float tiny = std::numeric_limits<float>::min();
  const auto half = [&tiny] { return tiny * 0.5f; };
  EXPECT_THAT(half(), Gt(0.0f));
  {
    ScopedFlushDenormals flush;
    EXPECT_EQ(half(), 0.0f);
  }
  EXPECT_THAT(half(), Gt(0.0f));
}

}  // namespace
}  // namespace attnprune
