#include "core/model/attention_layer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/thread_pool.h"
#include "core/io/checkpoint.h"
#include "core/objective/attention_objective.h"
#include "core/problem/load_batches.h"
#include "tests/core/model/golden_models.h"
#include "tests/core/problem/temp_folder.h"
#include "tests/core/problem/test_problems.h"
#include "tests/support/paths.h"
#include "tests/support/value_or_die.h"

namespace attnprune {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr char kQuery[] = "model.layers.0.self_attn.q_proj.weight";
constexpr char kKey[] = "model.layers.0.self_attn.k_proj.weight";
constexpr char kQueryBias[] = "model.layers.0.self_attn.q_proj.bias";
constexpr char kKeyBias[] = "model.layers.0.self_attn.k_proj.bias";

std::string ReadText(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

bool SameBits(const Matrix& a, const Matrix& b) {
  return SameShape(a, b) &&
         std::memcmp(a.data(), b.data(), static_cast<size_t>(a.size()) * sizeof(float)) == 0;
}

class TinyLlamaLayer : public ::testing::TestWithParam<Index> {};

TEST_P(TinyLlamaLayer, LoadsEachLayerAsAValidProblem) {
  absl::StatusOr<AttentionLayer> layer = LoadAttentionLayer(TinyLlama(), GetParam());
  ASSERT_TRUE(layer.ok()) << layer.status();
  const ProjectionWeights& weights = layer->weights;
  EXPECT_EQ(weights.heads, 8);
  EXPECT_EQ(weights.kv_heads, 4);
  EXPECT_EQ(weights.head_dim(), 16);
  EXPECT_EQ(weights.w_q.rows(), 128);
  EXPECT_EQ(weights.w_k.rows(), 64);
  EXPECT_TRUE(weights.b_q.empty());
  ASSERT_TRUE(weights.rope.has_value());
  EXPECT_EQ(weights.rope->theta, 10000);
  EXPECT_EQ(weights.rope->layout, RopeLayout::kRotateHalf);
  EXPECT_EQ(ToString(layer->attention), "causal");

  const std::string input = absl::StrCat("model.layers.", GetParam(), ".self_attn.input");
  absl::StatusOr<Batches> calibration = LoadBatches(TinyLlama("/calibration.safetensors"), input);
  ASSERT_TRUE(calibration.ok()) << calibration.status();
  EXPECT_EQ(calibration->count(), 16);
  EXPECT_EQ(calibration->length(15), 128);
  EXPECT_EQ(calibration->features(), 128);

  Problem problem;
  problem.weights = std::move(layer->weights);
  problem.attention = layer->attention;
  problem.calibration = *std::move(calibration);
  EXPECT_EQ(Validate(problem), absl::OkStatus());
}

TEST_P(TinyLlamaLayer, RemembersWhereEachWeightCameFrom) {
  const absl::StatusOr<AttentionLayer> layer = LoadAttentionLayer(TinyLlama(), GetParam());
  ASSERT_TRUE(layer.ok()) << layer.status();
  const std::string prefix = absl::StrCat("model.layers.", GetParam(), ".self_attn.");
  ASSERT_EQ(layer->tensors.size(), 2u);
  EXPECT_EQ(layer->tensors[0].role, "w_q");
  EXPECT_EQ(layer->tensors[0].tensor.name, prefix + "q_proj.weight");
  EXPECT_EQ(layer->tensors[0].tensor.dtype, DType::kF16);
  EXPECT_EQ(layer->tensors[0].tensor.file, TinyLlama("/model.safetensors"));
  EXPECT_EQ(layer->tensors[1].role, "w_k");
  EXPECT_EQ(layer->tensors[1].tensor.name, prefix + "k_proj.weight");
  EXPECT_FALSE(layer->scale.has_value());
}

INSTANTIATE_TEST_SUITE_P(AttentionLayer, TinyLlamaLayer, ::testing::Values(0, 1, 2, 3));

TEST(AttentionLayer, LayersOfOneModelDiffer) {
  EXPECT_FALSE(SameBits(LoadAttentionLayer(TinyLlama(), 0)->weights.w_q,
                        LoadAttentionLayer(TinyLlama(), 1)->weights.w_q));
}

// tiny-llama again, the queries in one shard and everything else in another.
TEST(AttentionLayer, AShardedModelLoadsTheSameBits) {
  const absl::StatusOr<Checkpoint> model = Checkpoint::Open(TinyLlama());
  ASSERT_TRUE(model.ok()) << model.status();
  const char* const shards[] = {"model-00001-of-00002.safetensors",
                                "model-00002-of-00002.safetensors"};
  std::map<std::string, std::vector<TensorInfo>> tensors;
  json weight_map;
  for (const std::string& name : model->names()) {
    const char* shard = shards[absl::StrContains(name, "q_proj") ? 0 : 1];
    tensors[shard].push_back(**model->Find(name));
    weight_map[name] = shard;
  }
  TempFolder folder;
  folder.Write("config.json", ReadText(TinyLlama("/config.json")));
  folder.Write("model.safetensors.index.json", json{{"weight_map", weight_map}}.dump());
  for (const auto& [shard, content] : tensors) {
    ASSERT_TRUE(WriteSafetensors(folder / shard, content).ok());
  }

  for (Index i = 0; i < 4; ++i) {
    const absl::StatusOr<AttentionLayer> sharded = LoadAttentionLayer(folder.path(), i);
    ASSERT_TRUE(sharded.ok()) << sharded.status();
    const absl::StatusOr<AttentionLayer> whole = LoadAttentionLayer(TinyLlama(), i);
    EXPECT_TRUE(SameBits(sharded->weights.w_q, whole->weights.w_q));
    EXPECT_TRUE(SameBits(sharded->weights.w_k, whole->weights.w_k));
    EXPECT_NE(sharded->tensors[0].tensor.file, sharded->tensors[1].tensor.file);
  }
}

// A one-layer model of width 8 with 4 heads on 2, whose tensors the test chooses.
class SmallModel : public ::testing::Test {
 protected:
  SmallModel() {
    Add(kQuery, 8, 8);
    Add(kKey, 4, 8);
  }

  void Add(const std::string& name, Index rows, Index cols) {
    matrices_[name] = CountingMatrix(rows, cols);
    tensors_[name] = TensorOf(name, matrices_[name]);
  }
  void AddVector(const std::string& name, Index size) {
    Add(name, 1, size);
    tensors_[name].shape = {size};
  }
  void Remove(const std::string& name) { tensors_.erase(name); }
  void SetConfig(const char* key, json value) { config_[key] = std::move(value); }

  absl::StatusOr<AttentionLayer> Load() {
    std::vector<TensorInfo> tensors;
    for (const auto& [name, tensor] : tensors_) tensors.push_back(tensor);
    EXPECT_EQ(WriteSafetensors(folder_ / "model.safetensors", tensors), absl::OkStatus());
    folder_.Write("config.json", config_.dump());
    return LoadAttentionLayer(folder_.path(), 0);
  }

  void ExpectRefused(const std::string& file, const std::string& tensor, const std::string& rule) {
    const absl::Status status = Load().status();
    EXPECT_FALSE(status.ok());
    EXPECT_THAT(status.message(),
                AllOf(HasSubstr(folder_ / file), HasSubstr(tensor), HasSubstr(rule)));
  }

  TempFolder folder_;

 private:
  std::map<std::string, Matrix> matrices_;
  std::map<std::string, TensorInfo> tensors_;
  json config_ = {{"model_type", "llama"},
                  {"hidden_size", 8},
                  {"num_hidden_layers", 1},
                  {"num_attention_heads", 4},
                  {"num_key_value_heads", 2}};
};

TEST_F(SmallModel, LoadsItsWeights) {
  const absl::StatusOr<AttentionLayer> layer = Load();
  ASSERT_TRUE(layer.ok()) << layer.status();
  EXPECT_TRUE(SameBits(layer->weights.w_q, CountingMatrix(8, 8)));
  EXPECT_TRUE(SameBits(layer->weights.w_k, CountingMatrix(4, 8)));
}

TEST_F(SmallModel, LoadsBiasesWhereTheConfigAsksForThem) {
  SetConfig("attention_bias", true);
  AddVector(kQueryBias, 8);
  AddVector(kKeyBias, 4);
  const absl::StatusOr<AttentionLayer> layer = Load();
  ASSERT_TRUE(layer.ok()) << layer.status();
  EXPECT_EQ(layer->weights.b_q.size(), 8u);
  EXPECT_EQ(layer->weights.b_k[0], 0.1f);
  ASSERT_EQ(layer->tensors.size(), 4u);
  EXPECT_EQ(layer->tensors[3].tensor.name, kKeyBias);
}

TEST_F(SmallModel, TakesTheWindowFromTheConfig) {
  SetConfig("model_type", "mistral");
  SetConfig("sliding_window", 5);
  const absl::StatusOr<AttentionLayer> layer = Load();
  ASSERT_TRUE(layer.ok()) << layer.status();
  EXPECT_EQ(ToString(layer->attention), "window:5");
}

TEST_F(SmallModel, RefusesAMissingWeightByName) {
  Remove(kKey);
  ExpectRefused("", kKey, "no tensor");
}

TEST_F(SmallModel, RefusesAMissingBiasByName) {
  SetConfig("attention_bias", true);
  AddVector(kQueryBias, 8);
  ExpectRefused("", kKeyBias, "no tensor");
}

TEST_F(SmallModel, RefusesAWeightOfAnotherShape) {
  Add(kKey, 8, 8);
  ExpectRefused("model.safetensors", kKey,
                "must have the shape that config.json gives, [4, 8], got [8, 8]");
}

TEST_F(SmallModel, RefusesABiasOfAnotherShape) {
  SetConfig("attention_bias", true);
  Add(kQueryBias, 1, 8);
  AddVector(kKeyBias, 4);
  ExpectRefused("model.safetensors", kQueryBias,
                "must have the shape that config.json gives, [8], got [1, 8]");
}

TEST_F(SmallModel, UsesABiasThatIsThere) {
  AddVector(kKeyBias, 4);
  const absl::StatusOr<AttentionLayer> layer = Load();
  ASSERT_TRUE(layer.ok()) << layer.status();
  EXPECT_TRUE(layer->weights.b_q.empty());
  EXPECT_EQ(layer->weights.b_k.size(), 4u);
}

TEST_F(SmallModel, RefusesNormalisedQueriesOfAFamilyThatHasNone) {
  AddVector("model.layers.0.self_attn.q_norm.weight", 2);
  ExpectRefused("model.safetensors", "model.layers.0.self_attn.q_norm.weight",
                "must not be there: no part of a llama layer by its config.json, got [2]");
}

TEST_F(SmallModel, RefusesAConfigItDoesNotUnderstandNamingTheFile) {
  SetConfig("model_type", "mixtral");
  ExpectRefused("config.json", "model_type", "a mixture of experts");
}

TEST(AttentionLayer, RefusesAFolderWithoutConfig) {
  TempFolder folder;
  const absl::Status status = LoadAttentionLayer(folder.path(), 0).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(status.message(), HasSubstr(folder / "config.json"));
}

TEST(AttentionLayer, TellsHowToGetAModelOfTheHub) {
  EXPECT_THAT(LoadAttentionLayer("meta-llama/Llama-3.2-1B", 0).status().message(),
              AllOf(HasSubstr("meta-llama/Llama-3.2-1B: no such folder"),
                    HasSubstr("hf download meta-llama/Llama-3.2-1B --local-dir DIR")));
}

TEST(AttentionLayer, RefusesALayerThatTheModelDoesNotHave) {
  EXPECT_THAT(LoadAttentionLayer(TinyLlama(), 4).status().message(),
              HasSubstr("layer must be in [0, 4), the layers of the model, got 4"));
}

// --- every family ---

class GoldenLayer : public ::testing::TestWithParam<std::string> {};

// The problem's dense attention on the layer's own input is the model's.
TEST_P(GoldenLayer, HasTheAttentionOfTheForwardPass) {
  const SafetensorsFile expected = testing::OpenExpected(GetParam());
  AttentionLayer layer =
      testing::ValueOrDie(LoadAttentionLayer(testing::GoldenModel(GetParam()), 0));
  Problem problem;
  problem.weights = std::move(layer.weights);
  problem.attention = layer.attention;
  problem.scale = layer.scale;
  Matrix input = testing::ValueOrDie(expected.ReadMatrix("layer.0.attn_in"));
  const Index tokens = input.rows();
  problem.calibration = Batches(std::move(input), {tokens});
  ASSERT_EQ(Validate(problem), absl::OkStatus());
  ThreadPool pool(1);
  const auto objective = testing::ValueOrDie(
      AttentionObjective::Create(problem, problem.calibration, "calibration", pool));
  double squares = 0;
  for (const double f : testing::Doubles(expected, "layer.0.attention")) {
    squares += f * f;
  }
  EXPECT_NEAR(objective->dense_norm_squared(), squares, 1e-4 * squares);
}

// A part, cut out and put back, leaves the tensor as it was; zeros land where the part was.
TEST_P(GoldenLayer, PartsOfFusedTensorsGoBackToTheirPlaces) {
  const std::string folder = testing::GoldenModel(GetParam());
  const ModelWeights model = testing::ValueOrDie(
      ModelWeights::Open(folder, testing::ValueOrDie(LoadModelOptions(folder))));
  const AttentionLayer layer = testing::ValueOrDie(StoredAttentionLayer(model, 1));
  for (const AttentionTensor& stored : layer.tensors) {
    const auto part = ParseFusedPart(model, stored.tensor.name);
    if (!part.has_value()) continue;
    const TensorInfo& tensor = *testing::ValueOrDie(model.checkpoint().Find(part->tensor));
    const size_t size = SizeOf(tensor.dtype);
    std::vector<char> whole(tensor.bytes.begin(), tensor.bytes.end());
    ASSERT_TRUE(PutBack(model, *part, size, stored.tensor.bytes, absl::MakeSpan(whole)).ok());
    EXPECT_TRUE(std::equal(whole.begin(), whole.end(), tensor.bytes.begin()));
    const std::vector<char> zeros(stored.tensor.bytes.size(), 0);
    ASSERT_TRUE(PutBack(model, *part, size, zeros, absl::MakeSpan(whole)).ok());
    EXPECT_EQ(std::count(whole.begin(), whole.end(), 0) -
                  std::count(tensor.bytes.begin(), tensor.bytes.end(), 0),
              static_cast<Index>(zeros.size()) -
                  std::count(stored.tensor.bytes.begin(), stored.tensor.bytes.end(), 0));
  }
}

INSTANTIATE_TEST_SUITE_P(Models, GoldenLayer, ::testing::ValuesIn(testing::GoldenModels()),
                         [](const auto& test) { return testing::TestName(test.param); });

}  // namespace
}  // namespace attnprune
