// Every rule of a problem: a valid one is spoiled in one way and the message must say which.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"
#include "core/problem/problem.h"
#include "tests/core/problem/test_problems.h"

namespace attnprune {
namespace {

using Kind = AttentionMask::Kind;
using ::testing::HasSubstr;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr Index kIndexMax = std::numeric_limits<Index>::max();

FusedWeights& Fused(Problem& problem) { return std::get<FusedWeights>(problem.weights); }
ProjectionWeights& Projections(Problem& problem) {
  return std::get<ProjectionWeights>(problem.weights);
}

// The batches with one entry of the stacked tokens replaced.
Batches WithToken(const Batches& batches, Index row, Index col, float value) {
  Matrix tokens = Matrix::CopyFrom(batches.all());
  tokens(row, col) = value;
  std::vector<Index> lengths;
  for (Index j = 0; j < batches.count(); ++j) lengths.push_back(batches.length(j));
  return Batches(std::move(tokens), std::move(lengths));
}

struct Rule {
  const char* title;
  std::function<void(Problem&)> spoil;
  const char* message;
};

void ExpectRefusals(const std::function<Problem()>& valid, const std::vector<Rule>& rules) {
  for (const Rule& rule : rules) {
    Problem problem = valid();
    ASSERT_TRUE(Validate(problem).ok()) << Validate(problem);
    rule.spoil(problem);
    const absl::Status status = Validate(problem);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << rule.title;
    EXPECT_EQ(status.message(), rule.message) << rule.title;
    EXPECT_EQ(absl::StrCat(FieldAtFault(status), " must"),
              std::string(status.message()).substr(0, FieldAtFault(status).size() + 5))
        << rule.title;
  }
}

TEST(Validate, AcceptsBothKindsOfProblem) {
  EXPECT_EQ(Validate(FusedTestProblem()), absl::OkStatus());
  EXPECT_EQ(Validate(ProjectionTestProblem()), absl::OkStatus());
}

TEST(Validate, AcceptsTheSmallestProblemWithNothingPruned) {
  Problem problem;
  problem.weights = FusedWeights{CountingMatrix(1, 1), Matrix(), Matrix()};
  problem.calibration = Batches(CountingMatrix(2, 1), {2});
  problem.sparsity = Sparsity::Fraction(0);
  EXPECT_EQ(Validate(problem), absl::OkStatus());
}

TEST(Validate, AcceptsWhatIsOptionalToBeAbsent) {
  Problem problem = ProjectionTestProblem();
  problem.held_out = Batches();
  Projections(problem).b_q.clear();
  Projections(problem).b_k.clear();
  Projections(problem).rope.reset();
  EXPECT_EQ(Validate(problem), absl::OkStatus());
}

TEST(Validate, AcceptsNOfMThatDividesTheInputs) {
  Problem problem = ProjectionTestProblem();
  problem.sparsity = Sparsity::NOfM(1, 3);
  EXPECT_EQ(Validate(problem), absl::OkStatus());
}

TEST(Validate, RefusesFusedWeightsThatDoNotFitOrAreNotFinite) {
  ExpectRefusals(
      FusedTestProblem,
      {{"no weight at all", [](Problem& p) { p.weights = FusedWeights(); },
        "weights.w must have at least one row and one column, got 0 x 0"},
       {"a weight of no columns", [](Problem& p) { Fused(p).w = Matrix(6, 0); },
        "weights.w must have at least one row and one column, got 6 x 0"},
       {"a row count beyond the BLAS", [](Problem& p) { Fused(p).w = Matrix(Index{1} << 31, 0); },
        "weights.w must have at most 2147483647 rows and columns, got 2147483648 x 0"},
       {"a weight that is not square", [](Problem& p) { Fused(p).w = CountingMatrix(6, 5); },
        "weights.w must be square, got 6 x 5"},
       {"NaN in the weight", [](Problem& p) { Fused(p).w(3, 5) = kNan; },
        "weights.w must be finite, got nan at row 3, column 5"},
       {"infinity in the last entry of the weight", [](Problem& p) { Fused(p).w(5, 5) = -kInf; },
        "weights.w must be finite, got -inf at row 5, column 5"},
       {"a query factor without a key factor", [](Problem& p) { Fused(p).w_k = Matrix(); },
        "weights.w_k must have at least one row and one column, got 0 x 0"},
       {"a key factor without a query factor", [](Problem& p) { Fused(p).w_q = Matrix(); },
        "weights.w_q must have at least one row and one column, got 0 x 0"},
       {"factors of another width",
        [](Problem& p) {
          Fused(p).w_q = CountingMatrix(5, 2);
          Fused(p).w_k = CountingMatrix(5, 2);
        },
        "weights.w_q must have the 6 rows of weights.w, got 5"},
       {"factors of different ranks", [](Problem& p) { Fused(p).w_k = CountingMatrix(6, 3); },
        "weights.w_k must match weights.w_q, 6 x 2, got 6 x 3"},
       {"NaN in the query factor", [](Problem& p) { Fused(p).w_q(0, 0) = kNan; },
        "weights.w_q must be finite, got nan at row 0, column 0"},
       {"infinity in the key factor", [](Problem& p) { Fused(p).w_k(5, 1) = kInf; },
        "weights.w_k must be finite, got inf at row 5, column 1"}});
}

TEST(Validate, RefusesProjectionsThatDoNotFitOrAreNotFinite) {
  ExpectRefusals(
      ProjectionTestProblem,
      {{"no query projection", [](Problem& p) { Projections(p).w_q = Matrix(); },
        "weights.w_q must have at least one row and one column, got 0 x 0"},
       {"no key projection", [](Problem& p) { Projections(p).w_k = Matrix(0, 6); },
        "weights.w_k must have at least one row and one column, got 0 x 6"},
       {"no heads", [](Problem& p) { Projections(p).heads = 0; },
        "heads must be at least 1, got 0"},
       {"heads that do not divide the rows", [](Problem& p) { Projections(p).heads = 3; },
        "heads must divide the 8 rows of weights.w_q, got 3"},
       {"more heads than rows", [](Problem& p) { Projections(p).heads = kIndexMax; },
        "heads must divide the 8 rows of weights.w_q, got 9223372036854775807"},
       {"a negative number of key heads", [](Problem& p) { Projections(p).kv_heads = -2; },
        "kv_heads must be at least 1, got -2"},
       {"key heads that do not divide the heads", [](Problem& p) { Projections(p).kv_heads = 3; },
        "kv_heads must divide heads (4), got 3"},
       {"more key heads than heads", [](Problem& p) { Projections(p).kv_heads = 8; },
        "kv_heads must divide heads (4), got 8"},
       {"key rows for another number of heads", [](Problem& p) { Projections(p).kv_heads = 4; },
        "weights.w_k must be kv_heads * head_dim x d = 8 x 6, got 4 x 6"},
       {"a key projection of another width",
        [](Problem& p) { Projections(p).w_k = CountingMatrix(4, 5); },
        "weights.w_k must be kv_heads * head_dim x d = 4 x 6, got 4 x 5"},
       {"NaN in the query projection", [](Problem& p) { Projections(p).w_q(7, 0) = kNan; },
        "weights.w_q must be finite, got nan at row 7, column 0"},
       {"infinity in the key projection", [](Problem& p) { Projections(p).w_k(0, 5) = kInf; },
        "weights.w_k must be finite, got inf at row 0, column 5"},
       {"a query bias of the wrong length", [](Problem& p) { Projections(p).b_q.pop_back(); },
        "weights.b_q must come to one entry a row of its weight, 8, got 7"},
       {"a key bias of the wrong length", [](Problem& p) { Projections(p).b_k.push_back(0); },
        "weights.b_k must come to one entry a row of its weight, 4, got 5"},
       {"NaN in the query bias", [](Problem& p) { Projections(p).b_q[6] = kNan; },
        "weights.b_q must be finite, got nan at entry 6"},
       {"infinity in the key bias", [](Problem& p) { Projections(p).b_k[0] = -kInf; },
        "weights.b_k must be finite, got -inf at entry 0"}});
}

TEST(Validate, RefusesARotaryEmbeddingThatDoesNotExist) {
  ExpectRefusals(
      ProjectionTestProblem,
      {{"an odd head_dim",
        [](Problem& p) {
          Projections(p).heads = 8;
          Projections(p).kv_heads = 4;
        },
        "rope must go with an even head_dim, got 1"},
       {"theta 0", [](Problem& p) { Projections(p).rope->theta = 0; },
        "rope.theta must be finite and above 0, got 0"},
       {"a negative theta", [](Problem& p) { Projections(p).rope->theta = -10000; },
        "rope.theta must be finite and above 0, got -10000"},
       {"an infinite theta", [](Problem& p) { Projections(p).rope->theta = HUGE_VAL; },
        "rope.theta must be finite and above 0, got inf"},
       {"theta not a number", [](Problem& p) { Projections(p).rope->theta = std::nan(""); },
        "rope.theta must be finite and above 0, got nan"},
       {"an unknown layout",
        [](Problem& p) { Projections(p).rope->layout = static_cast<RopeLayout>(7); },
        "rope.layout must be rotate_half or interleaved, got 7"}});
}

// Heads of 4 features, all options.
Problem OptionsTestProblem() {
  Problem problem = ProjectionTestProblem();
  ProjectionWeights& layer = Projections(problem);
  layer.heads = 2;
  layer.kv_heads = 1;
  layer.qk_norm = QkNorm{.q_weight = std::vector<float>(8, 1.0f),
                         .k_weight = std::vector<float>(4, 1.0f),
                         .q_bias = std::vector<float>(8, 0.0f),
                         .k_bias = std::vector<float>(4, 0.0f)};
  layer.softcap = 30;
  layer.clip_qkv = 8;
  layer.alibi = Alibi::kBloom;
  return problem;
}

QkNorm& Norm(Problem& problem) { return *Projections(problem).qk_norm; }

TEST(Validate, RefusesANormThatDoesNotFitItsProjections) {
  ExpectRefusals(OptionsTestProblem,
                 {{"a weight for one head", [](Problem& p) { Norm(p).q_weight.resize(4); },
                   "qk_norm.q_weight must come to one entry a row of weights.w_q, 8, got 4"},
                  {"no weight", [](Problem& p) { Norm(p).k_weight.clear(); },
                   "qk_norm.k_weight must come to one entry a row of weights.w_k, 4, got 0"},
                  {"a bias of another length", [](Problem& p) { Norm(p).q_bias.resize(3); },
                   "qk_norm.q_bias must come to one entry a row of its weight, 8, got 3"},
                  {"another bias of another length", [](Problem& p) { Norm(p).k_bias.resize(8); },
                   "qk_norm.k_bias must come to one entry a row of its weight, 4, got 8"},
                  {"eps 0", [](Problem& p) { Norm(p).eps = 0; },
                   "qk_norm.eps must be finite and above 0, got 0"},
                  {"eps not a number", [](Problem& p) { Norm(p).eps = std::nan(""); },
                   "qk_norm.eps must be finite and above 0, got nan"},
                  {"a NaN in a weight", [](Problem& p) { Norm(p).k_weight[2] = kNan; },
                   "qk_norm.k_weight must be finite, got nan at entry 2"},
                  {"infinity in a bias", [](Problem& p) { Norm(p).q_bias[7] = kInf; },
                   "qk_norm.q_bias must be finite, got inf at entry 7"},
                  {"infinity in the other weight", [](Problem& p) { Norm(p).q_weight[0] = -kInf; },
                   "qk_norm.q_weight must be finite, got -inf at entry 0"},
                  {"a NaN in the other bias", [](Problem& p) { Norm(p).k_bias[0] = kNan; },
                   "qk_norm.k_bias must be finite, got nan at entry 0"}});
}

TEST(Validate, RefusesOptionsOutOfRange) {
  constexpr char kSoftcap[] = "softcap must be above 0 and finite in float32, or 0 for none, got ";
  constexpr char kClip[] = "clip_qkv must be above 0 and finite in float32, or 0 for none, got ";
  for (const auto& [value, text] : std::vector<std::pair<double, std::string>>{
           {-0.125, "-0.125"}, {HUGE_VAL, "inf"}, {1e39, "1e+39"}, {1e-60, "1e-60"}}) {
    Problem problem = OptionsTestProblem();
    Projections(problem).softcap = value;
    EXPECT_EQ(Validate(problem).message(), kSoftcap + text);
    problem = OptionsTestProblem();
    Projections(problem).clip_qkv = value;
    EXPECT_EQ(Validate(problem).message(), kClip + text);
  }
  Problem problem = OptionsTestProblem();
  Projections(problem).alibi = static_cast<Alibi>(5);
  EXPECT_EQ(Validate(problem).message(), "alibi must be none, bloom or falcon, got 5");
}

// A rule of a rotary embedding that `valid` meets.
struct RopeRule {
  Rope valid;
  std::function<void(Rope&)> spoil;
  const char* message;
};

TEST(Validate, RefusesARotaryEmbeddingThatIsScaledInNoWay) {
  const Rope linear = {.scaling = RopeScaling::kLinear, .factor = 2};
  const Rope dynamic = {.scaling = RopeScaling::kDynamic, .factor = 2, .max_positions = 64};
  const Rope llama3 = {.scaling = RopeScaling::kLlama3, .factor = 8, .original_max_positions = 64};
  const Rope yarn = {.scaling = RopeScaling::kYarn, .factor = 4, .original_max_positions = 64};
  const Rope longrope = {.scaling = RopeScaling::kLongrope,
                         .original_max_positions = 64,
                         .short_factor = {1, 1},
                         .long_factor = {1, 2}};
  const std::vector<RopeRule> rules = {
      {{},
       [](Rope& r) { r.dim = 3; },
       "rope.dim must be even, from 2 to head_dim (4), or 0 for all of it, got 3"},
      {{},
       [](Rope& r) { r.dim = 6; },
       "rope.dim must be even, from 2 to head_dim (4), or 0 for all of it, got 6"},
      {{},
       [](Rope& r) { r.dim = -2; },
       "rope.dim must be even, from 2 to head_dim (4), or 0 for all of it, got -2"},
      {{},
       [](Rope& r) { r.attention_factor = 0; },
       "rope.attention_factor must be finite and above 0, got 0"},
      {{},
       [](Rope& r) { r.scaling = static_cast<RopeScaling>(9); },
       "rope must be default, linear, dynamic, llama3, yarn or longrope, got 9"},
      {linear, [](Rope& r) { r.factor = 0.5; },
       "rope.factor must be finite and at least 1, got 0.5"},
      {linear, [](Rope& r) { r.factor = std::nan(""); },
       "rope.factor must be finite and at least 1, got nan"},
      {dynamic, [](Rope& r) { r.factor = HUGE_VAL; },
       "rope.factor must be finite and at least 1, got inf"},
      {dynamic, [](Rope& r) { r.max_positions = 0; },
       "rope.max_positions must be at least 1 token, got 0"},
      {dynamic, [](Rope& r) { r.dim = 2; },
       "rope must turn at least 4 features of a head to be dynamic, got 2"},
      {llama3, [](Rope& r) { r.factor = 0; }, "rope.factor must be finite and at least 1, got 0"},
      {llama3, [](Rope& r) { r.original_max_positions = -1; },
       "rope.original_max_positions must be at least 1 token, got -1"},
      {llama3, [](Rope& r) { r.low_freq_factor = 0; },
       "rope.low_freq_factor must be finite and above 0, got 0"},
      {llama3, [](Rope& r) { r.high_freq_factor = 1; },
       "rope.high_freq_factor must be finite and above low_freq_factor, got 1"},
      {yarn, [](Rope& r) { r.factor = 0.9; }, "rope.factor must be finite and at least 1, got 0.9"},
      {yarn, [](Rope& r) { r.original_max_positions = 0; },
       "rope.original_max_positions must be at least 1 token, got 0"},
      {yarn, [](Rope& r) { r.beta_slow = -1; },
       "rope.beta_slow must be finite and above 0, got -1"},
      {yarn, [](Rope& r) { r.beta_fast = 0.5; },
       "rope.beta_fast must be finite and at least beta_slow, got 0.5"},
      {yarn, [](Rope& r) { r.theta = 1; }, "rope.theta must be finite and above 1 for yarn, got 1"},
      {longrope, [](Rope& r) { r.original_max_positions = 0; },
       "rope.original_max_positions must be at least 1 token, got 0"},
      {longrope, [](Rope& r) { r.short_factor = {1}; },
       "rope.short_factor must have an entry for each pair of features, 2, got 1"},
      {longrope, [](Rope& r) { r.dim = 2; },
       "rope.short_factor must have an entry for each pair of features, 1, got 2"},
      {longrope, [](Rope& r) { r.long_factor = {}; },
       "rope.long_factor must have an entry for each pair of features, 2, got 0"},
      {longrope, [](Rope& r) { r.long_factor[1] = 0; },
       "rope.long_factor must be finite and above 0, got 0"}};
  for (const RopeRule& rule : rules) {
    Problem problem = OptionsTestProblem();
    Projections(problem).rope = rule.valid;
    ASSERT_TRUE(Validate(problem).ok()) << rule.message << Validate(problem);
    rule.spoil(*Projections(problem).rope);
    EXPECT_EQ(Validate(problem).message(), rule.message);
  }
}

TEST(Validate, AcceptsPartOfAHeadTurningWhereHeadsAreOdd) {
  Problem problem = ProjectionTestProblem();
  ProjectionWeights& layer = Projections(problem);
  layer.w_q = CountingMatrix(6, 6);
  layer.w_k = CountingMatrix(3, 6);
  layer.b_q.clear();
  layer.b_k.clear();
  layer.heads = 2;
  layer.kv_heads = 1;
  layer.rope->dim = 2;
  EXPECT_TRUE(Validate(problem).ok()) << Validate(problem);
}

TEST(Validate, RefusesAScaleThatIsNotAPositiveFloat) {
  constexpr char kRule[] = "scale must be above 0 and finite in float32, got ";
  for (const auto& [scale, text] : std::vector<std::pair<double, std::string>>{
           {0, "0"}, {-0.125, "-0.125"}, {HUGE_VAL, "inf"}, {1e39, "1e+39"}, {1e-60, "1e-60"}}) {
    Problem problem = FusedTestProblem();
    problem.scale = scale;
    EXPECT_EQ(Validate(problem).message(), kRule + text);
  }
  Problem problem = FusedTestProblem();
  problem.scale = std::nan("");
  EXPECT_THAT(Validate(problem).message(), HasSubstr(kRule));
}

TEST(Validate, RefusesAnAttentionMaskWhoseSizeDoesNotSuitItsKind) {
  ExpectRefusals(FusedTestProblem,
                 {{"blocks of no tokens",
                   [](Problem& p) {
                     p.attention = {Kind::kBlock, 0};
                   },
                   "attention.size must be at least 1 token, got block:0"},
                  {"a negative window",
                   [](Problem& p) {
                     p.attention = {Kind::kWindow, -4};
                   },
                   "attention.size must be at least 1 token, got window:-4"},
                  {"causal with a size",
                   [](Problem& p) {
                     p.attention = {Kind::kCausal, 3};
                   },
                   "attention.size must be 0 for causal, got 3"},
                  {"full with a size",
                   [](Problem& p) {
                     p.attention = {Kind::kFull, 3};
                   },
                   "attention.size must be 0 for full, got 3"},
                  {"an unknown kind", [](Problem& p) { p.attention.kind = static_cast<Kind>(9); },
                   "attention must be causal, full, block or window, got 9"}});
}

TEST(Validate, RefusesASparsityOutOfRange) {
  ExpectRefusals(
      FusedTestProblem,
      {{"everything pruned", [](Problem& p) { p.sparsity = Sparsity::Fraction(1); },
        "sparsity must be in [0, 1), got 1"},
       {"more than everything", [](Problem& p) { p.sparsity = Sparsity::Fraction(1.2); },
        "sparsity must be in [0, 1), got 1.2"},
       {"less than nothing", [](Problem& p) { p.sparsity = Sparsity::Fraction(-0.1); },
        "sparsity must be in [0, 1), got -0.1"},
       {"not a number", [](Problem& p) { p.sparsity = Sparsity::Fraction(std::nan("")); },
        "sparsity must be in [0, 1), got nan"},
       {"all of a group", [](Problem& p) { p.sparsity = Sparsity::NOfM(3, 3); },
        "sparsity must be N:M with 0 <= N < M and M >= 2, got 3:3"},
       {"a negative N", [](Problem& p) { p.sparsity = Sparsity::NOfM(-1, 3); },
        "sparsity must be N:M with 0 <= N < M and M >= 2, got -1:3"},
       {"a negative M", [](Problem& p) { p.sparsity = Sparsity::NOfM(0, -2); },
        "sparsity must be N:M with 0 <= N < M and M >= 2, got 0:-2"},
       {"groups of one", [](Problem& p) { p.sparsity = Sparsity::NOfM(0, 1); },
        "sparsity must be N:M with 0 <= N < M and M >= 2, got 0:1"},
       {"groups that do not divide the inputs",
        [](Problem& p) { p.sparsity = Sparsity::NOfM(2, 4); },
        "sparsity must be N:M with M dividing the 6 inputs, got 2:4"}});
}

TEST(Validate, AcceptsABatchOfOneTokenAmongOthers) {
  Problem problem = FusedTestProblem();
  problem.calibration = Batches(CountingMatrix(3, 6), {1, 2});
  EXPECT_EQ(Validate(problem), absl::OkStatus());
}

TEST(Validate, RefusesBatchesThatDoNotFitOrAreNotFinite) {
  ExpectRefusals(
      FusedTestProblem,
      {{"no calibration", [](Problem& p) { p.calibration = Batches(); },
        "calibration must have at least one batch, got 0"},
       {"calibration of another width", [](Problem& p) { p.calibration = TestBatches(5); },
        "calibration[0] must fit the weights' input features, d = 6, got 3 x 5"},
       {"held-out batches of another width", [](Problem& p) { p.held_out = TestBatches(7); },
        "held_out[0] must fit the weights' input features, d = 6, got 3 x 7"},
       {"an empty calibration batch",
        [](Problem& p) {
          p.calibration = Batches(CountingMatrix(5, 6), {3, 0, 2});
        },
        "calibration[1] must have at least one token, got 0"},
       {"an empty held-out batch", [](Problem& p) { p.held_out = Batches(Matrix(0, 6), {0}); },
        "held_out[0] must have at least one token, got 0"},
       {"a negative length",
        [](Problem& p) {
          p.calibration = Batches(CountingMatrix(5, 6), {6, -1});
        },
        "calibration[0] must end within the 5 tokens given, got 6 tokens after 0"},
       {"a batch beyond the tokens",
        [](Problem& p) {
          p.calibration = Batches(CountingMatrix(5, 6), {3, 3});
        },
        "calibration[1] must end within the 5 tokens given, got 3 tokens after 3"},
       {"tokens that belong to no batch",
        [](Problem& p) {
          p.held_out = Batches(CountingMatrix(5, 6), {3, 1});
        },
        "held_out must have batches for all its 5 tokens, got 4"},
       {"NaN in the second calibration batch",
        [](Problem& p) { p.calibration = WithToken(p.calibration, 4, 2, kNan); },
        "calibration[1] must be finite, got nan at row 1, column 2"},
       {"infinity in the first held-out batch",
        [](Problem& p) { p.held_out = WithToken(p.held_out, 0, 5, kInf); },
        "held_out[0] must be finite, got inf at row 0, column 5"},
       {"calibration batches of one token each",
        [](Problem& p) {
          p.calibration = Batches(CountingMatrix(2, 6), {1, 1});
        },
        "calibration must have a sequence of at least 2 tokens, since attention over one key is "
        "constant, got 2 x 1 x 6"},
       {"a calibration batch of equal tokens",
        [](Problem& p) { p.calibration = Batches(Matrix::Constant(4, 6, 2.5f), {4}); },
        "calibration[0] must have rows that differ, got 4 equal rows"},
       {"a held-out batch of zeros behind a good one",
        [](Problem& p) {
          Matrix tokens = CountingMatrix(5, 6);
          for (Index j = 0; j < 6; ++j) tokens(3, j) = tokens(4, j) = 0;
          p.held_out = Batches(std::move(tokens), {3, 2});
        },
        "held_out[1] must have rows that differ, got 2 rows of zeros"}});
}

}  // namespace
}  // namespace attnprune
