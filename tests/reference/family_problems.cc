#include "tests/reference/family_problems.h"

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/reference/attention_reference.h"

namespace attnprune::reference {
namespace {

using Kind = AttentionMask::Kind;
constexpr AttentionMask kCausalMask = {Kind::kCausal, 0};
const Rope kPlainRope = {};

AttentionProblem Having(AttentionProblem problem, double scale) {
  problem.scale = scale;
  return problem;
}

AttentionProblem Having(AttentionProblem problem, Rope rope) {
  problem.rope = std::move(rope);
  return problem;
}

AttentionProblem HavingBiases(AttentionProblem problem) {
  problem.b_q = RandomBias(problem.weights[0].rows(), 51);
  problem.b_k = RandomBias(problem.weights[1].rows(), 52);
  return problem;
}

// Of weights and, where asked for, biases that float32 holds.
std::vector<float> RandomFloats(Index size, uint64_t seed) {
  std::vector<float> out;
  const Vector values = RandomBias(size, seed);
  for (Index i = 0; i < size; ++i) out.push_back(static_cast<float>(values(i)));
  return out;
}

struct NormOptions {
  NormKind kind;
  QkNormGroup group;
  bool biases = false;
};

AttentionProblem Having(AttentionProblem problem, const NormOptions& options) {
  const Index q = problem.weights[0].rows(), k = problem.weights[1].rows();
  QkNorm norm = {.kind = options.kind,
                 .group = options.group,
                 .eps = 0.5,
                 .q_weight = RandomFloats(q, 61),
                 .k_weight = RandomFloats(k, 62)};
  if (options.biases) {
    norm.q_bias = RandomFloats(q, 63);
    norm.k_bias = RandomFloats(k, 64);
  }
  problem.qk_norm = std::move(norm);
  return problem;
}

AttentionProblem Having(AttentionProblem problem, Alibi alibi) {
  problem.alibi = alibi;
  return problem;
}

AttentionProblem WithSoftcap(AttentionProblem problem, double softcap) {
  problem.softcap = softcap;
  return problem;
}

// A bound that no entry is near and that about half of them reach.
AttentionProblem WithClip(AttentionProblem problem) {
  problem.clip_qkv = 0.701;
  return problem;
}

// Rotary embeddings of other families: scaled, in part, with an attention factor.
std::vector<Rope> OtherRopes() {
  return {{.dim = 2},
          {.layout = RopeLayout::kInterleaved, .dim = 4},
          {.theta = 2, .scaling = RopeScaling::kLinear, .factor = 4},
          {.theta = 2, .scaling = RopeScaling::kDynamic, .factor = 3, .max_positions = 5},
          {.scaling = RopeScaling::kLlama3, .factor = 8, .original_max_positions = 20},
          {.theta = 4,
           .dim = 4,
           .scaling = RopeScaling::kYarn,
           .factor = 4,
           .original_max_positions = 40,
           .attention_factor = 1.25},
          {.theta = 3,
           .scaling = RopeScaling::kLongrope,
           .original_max_positions = 5,
           .short_factor = {1, 1.5, 2},
           .long_factor = {3, 4, 6},
           .attention_factor = 1.125}};
}

// What layers of other families have between projection and softmax.
}  // namespace

void AddFamilyRows(std::vector<ProblemRow>* rows) {
  const auto multi_head = [](AttentionMask mask) { return RandomProjections({}, mask, 41); };
  const auto grouped = [](AttentionMask mask) {
    return RandomProjections({.heads = 4, .kv_heads = 2, .head_dim = 6}, mask, 42);
  };
  const auto three_heads = [](AttentionMask mask) {
    return RandomProjections({.heads = 3, .kv_heads = 3}, mask, 43);
  };
  for (const Rope& rope : OtherRopes()) {
    rows->push_back(Row(absl::StrCat("projections with rope ", rows->size()),
                        Having(grouped(kCausalMask), rope)));
  }
  const NormOptions rms_head = {NormKind::kRms, QkNormGroup::kHead};
  const NormOptions rms_whole = {NormKind::kRms, QkNormGroup::kWhole};
  const NormOptions layer_head = {NormKind::kLayer, QkNormGroup::kHead, true};
  const NormOptions layer_whole = {NormKind::kLayer, QkNormGroup::kWhole};
  rows->push_back(
      Row("projections with a norm per head", Having(multi_head(kCausalMask), rms_head)));
  rows->push_back(
      Row("projections with a norm of all heads", Having(grouped(kCausalMask), rms_whole), 0.05));
  rows->push_back(Row("projections with a layer norm per head and biases",
                      Having(HavingBiases(grouped(kCausalMask)), layer_head)));
  rows->push_back(Row("projections with a layer norm of all heads",
                      Having(multi_head({Kind::kFull, 0}), layer_whole)));
  rows->push_back(Row("projections with a softcap", WithSoftcap(multi_head(kCausalMask), 1.5)));
  rows->push_back(
      Row("projections with a softcap in a window", WithSoftcap(grouped({Kind::kWindow, 3}), 0.5)));
  rows->push_back(Row("projections with a clip", WithClip(multi_head(kCausalMask))));
  rows->push_back(Row("projections with a clip and biases, rotated",
                      Having(WithClip(HavingBiases(multi_head(kCausalMask))), kPlainRope)));
  rows->push_back(Row("projections with alibi", Having(three_heads(kCausalMask), Alibi::kBloom)));
  rows->push_back(
      Row("projections with rounded alibi", Having(three_heads({Kind::kFull, 0}), Alibi::kFalcon)));
  const auto everything = [&](Alibi alibi, const NormOptions& norm, const Rope& rope) {
    AttentionProblem problem = HavingBiases(grouped({Kind::kWindow, 4}));
    problem = Having(Having(Having(std::move(problem), norm), rope), alibi);
    return WithSoftcap(WithClip(Having(std::move(problem), 0.75)), 4);
  };
  rows->push_back(Row("projections with every option",
                      everything(Alibi::kBloom, layer_head, OtherRopes()[6]), 0.05));
  rows->push_back(Row("projections with every other option",
                      everything(Alibi::kFalcon, rms_whole, OtherRopes()[5])));
}

}  // namespace attnprune::reference
