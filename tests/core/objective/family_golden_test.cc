// Queries, keys and attention of tiny random models of many families, against those of
// transformers' own classes in float64 (tests/data/models).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/io/safetensors.h"
#include "core/kernels/alibi.h"
#include "core/kernels/attention.h"
#include "core/kernels/blas.h"
#include "core/objective/qk_projection.h"
#include "core/problem/problem.h"
#include "tests/support/paths.h"
#include "tests/support/value_or_die.h"
#include "tests/support/whole_attention.h"

namespace attnprune {
namespace {

using ::attnprune::testing::ValueOrDie;

constexpr double kTolerance = 1e-4;  // of float32, as the models' README has it

// Layer 0 of a model: its files and, as a test writes it down, its options.
struct Model {
  explicit Model(const std::string& name)
      : weights(ValueOrDie(
            SafetensorsFile::Open(TestData(absl::StrCat("/models/", name, "/model.safetensors"))))),
        expected(ValueOrDie(SafetensorsFile::Open(
            TestData(absl::StrCat("/models/", name, "/expected.safetensors"))))) {}

  Matrix Read(const std::string& name) const { return ValueOrDie(weights.ReadMatrix(name)); }
  std::vector<float> ReadFloats(const std::string& name) const {
    const std::vector<double> values = ValueOrDie(ToDoubles(*ValueOrDie(weights.Find(name))));
    return {values.begin(), values.end()};
  }

  SafetensorsFile weights, expected;
  Problem problem;
  ProjectionWeights layer;
};

constexpr char kPrefix[] = "model.layers.0.self_attn.";

void ReadSplit(Model& model, Index heads, Index kv_heads) {
  model.layer.w_q = model.Read(absl::StrCat(kPrefix, "q_proj.weight"));
  model.layer.w_k = model.Read(absl::StrCat(kPrefix, "k_proj.weight"));
  model.layer.heads = heads;
  model.layer.kv_heads = kv_heads;
}

// Rows q_0 k_0 v_0 q_1 k_1 v_1 ... of one tensor.
void ReadGrouped(Model& model, Index heads) {
  const std::string name = "transformer.h.0.self_attention.query_key_value.";
  const Matrix all = model.Read(name + "weight");
  const std::vector<float> bias = model.ReadFloats(name + "bias");
  const Index dim = all.rows() / (3 * heads);
  model.layer.w_q = Matrix(heads * dim, all.cols());
  model.layer.w_k = Matrix(heads * dim, all.cols());
  for (Index i = 0; i < heads * dim; ++i) {
    const Index q = i / dim * 3 * dim + i % dim;
    std::copy_n(all.row(q), all.cols(), model.layer.w_q.row(i));
    std::copy_n(all.row(q + dim), all.cols(), model.layer.w_k.row(i));
    model.layer.b_q.push_back(bias[static_cast<size_t>(q)]);
    model.layer.b_k.push_back(bias[static_cast<size_t>(q + dim)]);
  }
  model.layer.heads = model.layer.kv_heads = heads;
}

QkNorm NormOf(const Model& model, NormKind kind, QkNormGroup group, double eps) {
  const ProjectionWeights& layer = model.layer;
  return {.kind = kind,
          .group = group,
          .eps = eps,
          .q_weight =
              TileNorm(model.ReadFloats(absl::StrCat(kPrefix, "q_norm.weight")), layer.w_q.rows()),
          .k_weight =
              TileNorm(model.ReadFloats(absl::StrCat(kPrefix, "k_norm.weight")), layer.w_k.rows())};
}

// One tensor a head.
std::vector<float> NormsByHead(const Model& model, const char* side, Index heads) {
  std::vector<float> all;
  for (Index h = 0; h < heads; ++h) {
    const std::vector<float> head =
        model.ReadFloats(absl::StrCat(kPrefix, side, "_layernorm.norms.", h, ".weight"));
    all.insert(all.end(), head.begin(), head.end());
  }
  return all;
}

struct Family {
  const char* name;
  std::function<void(Model&)> options;
};
void PrintTo(const Family& family, std::ostream* out) { *out << family.name; }

std::vector<Family> Families() {
  return {
      {"qwen3",
       [](Model& m) {
         ReadSplit(m, 4, 2);
         m.layer.rope = Rope{.theta = 1e6};
         m.layer.qk_norm = NormOf(m, NormKind::kRms, QkNormGroup::kHead, 1e-6);
       }},
      {"gemma2",
       [](Model& m) {
         ReadSplit(m, 4, 2);
         m.layer.rope = Rope{};
         m.layer.softcap = 2;
         m.problem.scale = 1 / std::sqrt(24.0);
         m.problem.attention = {AttentionMask::Kind::kWindow, 7};
       }},
      {"olmo",
       [](Model& m) {
         ReadSplit(m, 4, 4);
         m.layer.rope = Rope{};
         m.layer.clip_qkv = 0.8;
       }},
      {"olmo2",
       [](Model& m) {
         ReadSplit(m, 4, 2);
         m.layer.rope = Rope{.theta = 500000};
         m.layer.qk_norm = NormOf(m, NormKind::kRms, QkNormGroup::kWhole, 1e-6);
       }},
      {"cohere",
       [](Model& m) {
         ReadSplit(m, 4, 2);
         m.layer.rope = Rope{.layout = RopeLayout::kInterleaved};
         m.layer.qk_norm = NormOf(m, NormKind::kLayer, QkNormGroup::kHead, 1e-5);
       }},
      {"stablelm-parallel-qknorm",
       [](Model& m) {
         ReadSplit(m, 4, 2);
         m.layer.rope = Rope{.dim = 4};
         m.layer.qk_norm = QkNorm{.kind = NormKind::kLayer,
                                  .eps = 1e-5,
                                  .q_weight = NormsByHead(m, "q", 4),
                                  .k_weight = NormsByHead(m, "k", 2)};
       }},
      {"llama-rope-yarn",
       [](Model& m) {
         ReadSplit(m, 4, 2);
         m.layer.rope = Rope{.scaling = RopeScaling::kYarn,
                             .factor = 4,
                             .original_max_positions = 32,
                             .attention_factor = 0.1 * std::log(4.0) + 1};
       }},
      {"llama-rope-dynamic",
       [](Model& m) {
         ReadSplit(m, 4, 2);
         m.layer.rope = Rope{.scaling = RopeScaling::kDynamic, .factor = 2, .max_positions = 16};
       }},
      {"bloom",
       [](Model& m) {
         ReadGrouped(m, 6);
         m.layer.alibi = Alibi::kBloom;
       }},
      {"falcon-rw-like",
       [](Model& m) {
         ReadGrouped(m, 4);
         m.layer.alibi = Alibi::kFalcon;
       }},
  };
}

Batches OneBatch(Matrix tokens) {
  const Index length = tokens.rows();
  return Batches(std::move(tokens), {length});
}

class FamilyGolden : public ::testing::TestWithParam<Family> {
 protected:
  void SetUp() override {
    GetParam().options(model_);
    model_.problem.weights = std::move(model_.layer);
    model_.problem.calibration =
        OneBatch(ValueOrDie(model_.expected.ReadMatrix("layer.0.attn_in")));
    ASSERT_TRUE(InitializeBlas().ok());
    ASSERT_TRUE(Validate(model_.problem).ok()) << Validate(model_.problem);
    const ProjectionWeights& layer = model_.problem.projections();
    const Index tokens = model_.problem.calibration.total_tokens();
    q_ = Matrix(tokens, layer.w_q.rows());
    k_ = Matrix(tokens, layer.w_k.rows());
    QkProjection(layer, model_.problem.calibration, pool_)
        .Forward({.batches = 1, .tokens = tokens}, layer.w_q, layer.w_k, {q_, k_}, nullptr);
  }

  MatrixView Head(const Matrix& rows, Index head) const {
    const Index dim = model_.problem.projections().head_dim();
    return MatrixView(rows).Cols(head * dim, dim);
  }
  // heads x tokens x features of a head in the file.
  void ExpectHeads(const std::string& name, const Matrix& got, Index heads) {
    const MatrixStack expected = ValueOrDie(ToStack(*ValueOrDie(model_.expected.Find(name))));
    ASSERT_EQ(expected.count, heads);
    for (Index h = 0; h < heads; ++h) {
      ExpectNear(MatrixView(expected.rows).Rows(h * expected.length, expected.length),
                 Head(got, h));
    }
  }
  static void ExpectNear(MatrixView expected, MatrixView got) {
    ASSERT_EQ(got.rows(), expected.rows());
    ASSERT_EQ(got.cols(), expected.cols());
    for (Index i = 0; i < got.rows(); ++i) {
      for (Index j = 0; j < got.cols(); ++j) {
        ASSERT_NEAR(got(i, j), expected(i, j), kTolerance) << i << ", " << j;
      }
    }
  }

  Model model_{GetParam().name};
  ThreadPool pool_{1};
  Matrix q_, k_;
};
INSTANTIATE_TEST_SUITE_P(All, FamilyGolden, ::testing::ValuesIn(Families()), [](const auto& test) {
  std::string name = test.param.name;
  std::replace(name.begin(), name.end(), '-', '_');
  return name;
});

TEST_P(FamilyGolden, HasTheQueriesAndKeysOfTransformers) {
  ExpectHeads("layer.0.q", q_, model_.problem.heads());
  ExpectHeads("layer.0.k", k_, model_.problem.projections().kv_heads);
}

TEST_P(FamilyGolden, HasTheAttentionOfTransformers) {
  const ProjectionWeights& layer = model_.problem.projections();
  const Index tokens = q_.rows();
  std::vector<KeyRange> ranges;
  for (Index i = 0; i < tokens; ++i) {
    const AttentionMask::Range keys = model_.problem.attention.Keys(i, tokens);
    ranges.push_back({keys.begin, keys.end});
  }
  const AttentionLayout layout(std::move(ranges));
  const float scale = model_.problem.effective_scale();
  const Matrix alibi = AlibiBias(layer.alibi, layer.heads, tokens, scale);
  const MatrixStack expected =
      ValueOrDie(ToStack(*ValueOrDie(model_.expected.Find("layer.0.attention"))));
  std::vector<float> packed(static_cast<size_t>(layout.packed_size()));
  for (Index h = 0; h < layer.heads; ++h) {
    testing::LogitOptions options{.softcap = static_cast<float>(layer.softcap)};
    if (!alibi.empty()) options.key_bias.assign(alibi.row(h), alibi.row(h) + alibi.cols());
    testing::WholeAttention attention(layout, Head(k_, h / (layer.heads / layer.kv_heads)), scale,
                                      AttentionKernelsOfThisCpu(), options);
    attention.Dense(Head(q_, h), packed.data());
    const Matrix f = testing::Unpack(layout, packed.data());
    ExpectNear(MatrixView(expected.rows).Rows(h * tokens, tokens), f);
  }
}

}  // namespace
}  // namespace attnprune
