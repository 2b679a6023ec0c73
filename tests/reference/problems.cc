#include "tests/reference/problems.h"

#include <cctype>
#include <cmath>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/reference/family_problems.h"

namespace attnprune::reference {
namespace {

using Kind = AttentionMask::Kind;
constexpr AttentionMask kCausal = {Kind::kCausal, 0};

// The nearest multiple of 2^-bits.
double OnGrid(double value, int bits) {
  return std::ldexp(std::nearbyint(std::ldexp(value, bits)), -bits);
}

Dense RandomGaussian(Index rows, Index cols, double deviation, std::mt19937_64* random) {
  std::normal_distribution<double> normal(0.0, deviation);
  Dense out(rows, cols);
  for (Index e = 0; e < out.size(); ++e) out.data()[e] = OnGrid(normal(*random), 14);
  return out;
}

std::vector<Dense> RandomBatches(const std::vector<Index>& lengths, Index d,
                                 std::mt19937_64* random) {
  std::vector<Dense> batches;
  for (Index n : lengths) batches.push_back(RandomGaussian(n, d, 1.0, random));
  return batches;
}

AttentionProblem With(AttentionProblem problem, double scale) {
  problem.scale = scale;
  return problem;
}

AttentionProblem With(AttentionProblem problem, Rope rope) {
  problem.rope = rope;
  return problem;
}

AttentionProblem WithBiases(AttentionProblem problem) {
  problem.b_q = RandomBias(problem.weights[0].rows(), 51);
  problem.b_k = RandomBias(problem.weights[1].rows(), 52);
  return problem;
}

AttentionProblem WithSilentFeature(AttentionProblem problem, Index feature) {
  for (Dense& x : problem.batches) x.col(feature).setZero();
  return problem;
}

const Rope kRotateHalf = {10000.0, RopeLayout::kRotateHalf};
const Rope kInterleaved = {500000.0, RopeLayout::kInterleaved};
const Rope kFastRope = {2.0, RopeLayout::kRotateHalf};

void AddFusedRows(std::vector<ProblemRow>* rows) {
  const auto fused = [](AttentionMask mask) { return RandomFused({}, mask, 11); };
  rows->push_back(Row("fused with a causal mask", fused(kCausal)));
  rows->push_back(Row("fused with a full mask", fused({Kind::kFull, 0})));
  rows->push_back(Row("fused with blocks of 3", fused({Kind::kBlock, 3})));
  rows->push_back(Row("fused with blocks longer than a batch", fused({Kind::kBlock, 6})));
  rows->push_back(Row("fused with blocks of 1", fused({Kind::kBlock, 1})));
  rows->push_back(Row("fused with a window of 3", fused({Kind::kWindow, 3})));
  rows->push_back(Row("fused with a window of 1", fused({Kind::kWindow, 1})));
  rows->push_back(Row("fused with a window longer than a batch", fused({Kind::kWindow, 6})));
  rows->push_back(Row("fused with a scale", With(fused(kCausal), 0.25)));
  rows->push_back(Row("fused with a full mask and a scale", With(fused({Kind::kFull, 0}), 0.5)));
  rows->push_back(Row("fused with a regularization", fused(kCausal), 0.07));
  rows->push_back(Row("fused with a scale and a regularization", With(fused(kCausal), 0.5), 0.3));
  rows->push_back(Row("fused with an input feature that is always 0",
                      WithSilentFeature(fused(kCausal), 2), 0.1));
  rows->push_back(
      Row("fused with one feature", RandomFused({.d = 1, .lengths = {5, 3}}, kCausal, 12), 0.1));
  rows->push_back(Row("fused with a batch of one token among others",
                      RandomFused({.d = 5, .lengths = {1, 6, 1, 2}}, kCausal, 13)));
  rows->push_back(Row("fused with one batch", RandomFused({.d = 7, .lengths = {9}}, kCausal, 14)));
}

void AddProjectionRows(std::vector<ProblemRow>* rows) {
  const auto multi_head = [](AttentionMask mask) { return RandomProjections({}, mask, 21); };
  const auto grouped = [](AttentionMask mask) {
    return RandomProjections({.heads = 4, .kv_heads = 2}, mask, 22);
  };
  const auto multi_query = [](AttentionMask mask) {
    return RandomProjections({.heads = 3, .kv_heads = 1}, mask, 23);
  };
  rows->push_back(Row("projections with a causal mask", multi_head(kCausal)));
  rows->push_back(Row("projections with a full mask", multi_head({Kind::kFull, 0})));
  rows->push_back(Row("projections with blocks of 3", multi_head({Kind::kBlock, 3})));
  rows->push_back(Row("projections with a window of 2", multi_head({Kind::kWindow, 2})));
  rows->push_back(Row("projections with a scale of their own", With(multi_head(kCausal), 1.25)));
  rows->push_back(Row("projections with biases", WithBiases(multi_head(kCausal))));
  rows->push_back(Row("projections with a regularization", multi_head(kCausal), 0.05));
  rows->push_back(Row("projections with rotate half", With(multi_head(kCausal), kRotateHalf)));
  rows->push_back(
      Row("projections with interleaved rotation", With(multi_head(kCausal), kInterleaved)));
  rows->push_back(Row("projections with a fast rotation and a full mask",
                      With(multi_head({Kind::kFull, 0}), kFastRope)));
  rows->push_back(
      Row("projections with rotated biases", With(WithBiases(multi_head(kCausal)), kRotateHalf)));
  rows->push_back(Row("projections with grouped queries", grouped(kCausal)));
  rows->push_back(Row("projections with grouped queries and everything else",
                      With(With(WithBiases(grouped(kCausal)), kRotateHalf), 0.75), 0.05));
  rows->push_back(Row("projections with grouped queries in a window",
                      With(WithBiases(grouped({Kind::kWindow, 3})), kInterleaved), 0.05));
  rows->push_back(Row("projections with a single key head", multi_query(kCausal)));
  rows->push_back(Row("projections with a single key head and interleaved rotation",
                      With(multi_query({Kind::kBlock, 4}), kInterleaved)));
  rows->push_back(Row("projections with one head",
                      RandomProjections({.d = 5, .heads = 1, .kv_heads = 1}, kCausal, 24)));
  rows->push_back(
      Row("projections with head dimension 1", RandomProjections({.head_dim = 1}, kCausal, 25)));
  rows->push_back(
      Row("projections with one feature", RandomProjections({.d = 1, .head_dim = 2}, kCausal, 26)));
  rows->push_back(Row("projections with an input feature that is always 0",
                      WithSilentFeature(multi_head(kCausal), 3), 0.1));
  rows->push_back(Row("projections with a batch of one token among others",
                      With(RandomProjections({.lengths = {1, 5, 1}}, kCausal, 27), kRotateHalf)));
}

}  // namespace

void PrintTo(const ProblemRow& row, std::ostream* out) { *out << row.sentence; }

std::vector<ProblemRow> AllRows() {
  std::vector<ProblemRow> rows;
  AddFusedRows(&rows);
  AddProjectionRows(&rows);
  AddFamilyRows(&rows);
  return rows;
}

std::vector<ProblemRow> RowsWithLoss() {
  std::vector<ProblemRow> rows = AllRows();
  std::erase_if(
      rows, [](const ProblemRow& row) { return AttentionLoss(row.problem, row.pruned()) == 0; });
  return rows;
}

std::vector<ProblemRow> RegularizedRows() {
  std::vector<ProblemRow> rows = AllRows();
  std::erase_if(rows, [](const ProblemRow& row) { return row.lambda == 0; });
  return rows;
}

std::vector<ProblemRow> RowsOfStraddlingLengths() {
  std::vector<ProblemRow> rows;
  uint64_t seed = 1000;
  for (Index n : {1, 31, 32, 33, 63, 64, 65, 127, 128, 129, 200}) {
    std::vector<AttentionMask> masks = {kCausal, {Kind::kFull, 0}};
    for (Index size : {1, 7, 31, 32, 33, 64, 65, 100}) {
      masks.push_back({Kind::kBlock, size});
      masks.push_back({Kind::kWindow, size});
    }
    for (const AttentionMask& mask : masks) {
      rows.push_back(Row(absl::StrCat(n, " tokens ", ToString(mask)),
                         RandomFused({.d = 4, .lengths = {n}}, mask, ++seed)));
    }
  }
  for (Index n : {33, 129}) {
    for (const AttentionMask& mask :
         {kCausal, AttentionMask{Kind::kFull, 0}, AttentionMask{Kind::kBlock, 33},
          AttentionMask{Kind::kWindow, 31}}) {
      ProjectionShape shape = {.heads = 2, .kv_heads = 1, .lengths = {n, 32, 1}};
      rows.push_back(Row(absl::StrCat("grouped queries on ", n, " tokens ", ToString(mask)),
                         With(RandomProjections(shape, mask, ++seed), kRotateHalf)));
      AttentionProblem capped = RandomProjections(shape, mask, ++seed);
      capped.softcap = 3;
      capped.alibi = Alibi::kBloom;
      rows.push_back(Row(absl::StrCat("softcap and alibi on ", n, " tokens ", ToString(mask)),
                         std::move(capped)));
    }
  }
  return rows;
}

std::string TestName(const std::string& sentence) {
  std::string name;
  bool starts_word = true;
  for (char c : sentence) {
    const bool in_word = std::isalnum(static_cast<unsigned char>(c)) != 0;
    if (in_word) name += starts_word ? static_cast<char>(std::toupper(c)) : c;
    starts_word = !in_word;
  }
  return name;
}

AttentionProblem RandomFused(const FusedShape& shape, AttentionMask attention, uint64_t seed) {
  std::mt19937_64 random(seed);
  AttentionProblem problem;
  problem.weights = {RandomGaussian(shape.d, shape.d, 0.4, &random)};
  problem.attention = attention;
  problem.batches = RandomBatches(shape.lengths, shape.d, &random);
  return problem;
}

AttentionProblem RandomProjections(const ProjectionShape& shape, AttentionMask attention,
                                   uint64_t seed) {
  std::mt19937_64 random(seed);
  AttentionProblem problem;
  problem.weights = {RandomGaussian(shape.heads * shape.head_dim, shape.d, 0.5, &random),
                     RandomGaussian(shape.kv_heads * shape.head_dim, shape.d, 0.5, &random)};
  problem.heads = shape.heads;
  problem.kv_heads = shape.kv_heads;
  problem.attention = attention;
  problem.batches = RandomBatches(shape.lengths, shape.d, &random);
  return problem;
}

Vector RandomBias(Index size, uint64_t seed) {
  std::mt19937_64 random(seed);
  return RandomGaussian(size, 1, 0.5, &random);
}

std::vector<Dense> RandomMasks(const AttentionProblem& problem, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::uniform_real_distribution<double> uniform(0.0, 1.0);
  std::vector<Dense> masks = problem.weights;
  for (Dense& m : masks) {
    for (Index e = 0; e < m.size(); ++e) m.data()[e] = OnGrid(uniform(random), 6);
  }
  return masks;
}

ProblemRow Row(std::string sentence, AttentionProblem problem, double lambda) {
  std::vector<Dense> masks = RandomMasks(problem, 31);
  return {std::move(sentence), std::move(problem), std::move(masks), lambda};
}

namespace {

std::vector<float> ToFloats(const Vector& v) {
  std::vector<float> out;
  for (Index i = 0; i < v.size(); ++i) out.push_back(static_cast<float>(v(i)));
  return out;
}

ProjectionWeights ToProjections(const AttentionProblem& problem) {
  ProjectionWeights weights;
  weights.w_q = ToMatrix(problem.weights[0]);
  weights.w_k = ToMatrix(problem.weights[1]);
  weights.b_q = ToFloats(problem.b_q);
  weights.b_k = ToFloats(problem.b_k);
  weights.heads = problem.heads;
  weights.kv_heads = problem.kv_heads;
  weights.rope = problem.rope;
  weights.qk_norm = problem.qk_norm;
  weights.softcap = problem.softcap;
  weights.clip_qkv = problem.clip_qkv;
  weights.alibi = problem.alibi;
  return weights;
}

}  // namespace

attnprune::Problem ToCore(const AttentionProblem& problem, const Sparsity& sparsity) {
  attnprune::Problem core;
  if (problem.fused()) {
    FusedWeights weights;
    weights.w = ToMatrix(problem.weights[0]);
    core.weights = std::move(weights);
  } else {
    core.weights = ToProjections(problem);
  }
  core.attention = problem.attention;
  core.scale = problem.scale;
  core.calibration = Batches::Stack(ToMatrices(problem.batches));
  core.sparsity = sparsity;
  return core;
}

Matrix ToMatrix(const Dense& dense) {
  Matrix out(dense.rows(), dense.cols());
  for (Index e = 0; e < dense.size(); ++e) out.data()[e] = static_cast<float>(dense.data()[e]);
  return out;
}

std::vector<Matrix> ToMatrices(const std::vector<Dense>& dense) {
  std::vector<Matrix> out;
  for (const Dense& d : dense) out.push_back(ToMatrix(d));
  return out;
}

std::vector<MatrixView> Views(const std::vector<Matrix>& matrices) {
  return {matrices.begin(), matrices.end()};
}

Dense ToDense(MatrixView matrix) {
  Dense out(matrix.rows(), matrix.cols());
  for (Index i = 0; i < out.rows(); ++i) {
    for (Index j = 0; j < out.cols(); ++j) out(i, j) = static_cast<double>(matrix(i, j));
  }
  return out;
}

std::vector<Dense> ToDense(absl::Span<const Matrix> matrices) {
  std::vector<Dense> out;
  for (const Matrix& m : matrices) out.push_back(ToDense(MatrixView(m)));
  return out;
}

AttentionProblem RoundToFloat32(const AttentionProblem& problem) {
  const auto round = [](auto dense) {
    return decltype(dense)(dense.template cast<float>().template cast<double>());
  };
  AttentionProblem rounded = problem;
  for (Dense& w : rounded.weights) w = round(w);
  for (Dense& x : rounded.batches) x = round(x);
  rounded.b_q = round(rounded.b_q);
  rounded.b_k = round(rounded.b_k);
  return rounded;
}

}  // namespace attnprune::reference
