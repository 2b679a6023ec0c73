#include "core/problem/hf_layer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

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
#include "core/io/checkpoint.h"
#include "core/problem/load_batches.h"
#include "tests/core/problem/temp_folder.h"
#include "tests/core/problem/test_problems.h"
#include "tests/support/paths.h"

namespace attnprune {
namespace {

using nlohmann::json;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::StrEq;

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
  absl::StatusOr<HfLayer> layer = LoadHfLayer(TinyLlama(), GetParam());
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
  const absl::StatusOr<HfLayer> layer = LoadHfLayer(TinyLlama(), GetParam());
  ASSERT_TRUE(layer.ok()) << layer.status();
  const std::string prefix = absl::StrCat("model.layers.", GetParam(), ".self_attn.");
  const auto source = [&](const char* weight, const char* suffix) {
    return AllOf(Field(&SourceTensor::weight, StrEq(weight)),
                 Field(&SourceTensor::name, prefix + suffix),
                 Field(&SourceTensor::dtype, DType::kF16),
                 Field(&SourceTensor::file, TinyLlama("/model.safetensors")));
  };
  EXPECT_THAT(layer->sources,
              ElementsAre(source("w_q", "q_proj.weight"), source("w_k", "k_proj.weight")));
}

INSTANTIATE_TEST_SUITE_P(HfLayer, TinyLlamaLayer, ::testing::Values(0, 1, 2, 3));

TEST(HfLayer, LayersOfOneModelDiffer) {
  EXPECT_FALSE(
      SameBits(LoadHfLayer(TinyLlama(), 0)->weights.w_q, LoadHfLayer(TinyLlama(), 1)->weights.w_q));
}

// tiny-llama again, the queries in one shard and everything else in another.
TEST(HfLayer, AShardedModelLoadsTheSameBits) {
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
    const absl::StatusOr<HfLayer> sharded = LoadHfLayer(folder.path(), i);
    ASSERT_TRUE(sharded.ok()) << sharded.status();
    const absl::StatusOr<HfLayer> whole = LoadHfLayer(TinyLlama(), i);
    EXPECT_TRUE(SameBits(sharded->weights.w_q, whole->weights.w_q));
    EXPECT_TRUE(SameBits(sharded->weights.w_k, whole->weights.w_k));
    EXPECT_NE(sharded->sources[0].file, sharded->sources[1].file);
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

  absl::StatusOr<HfLayer> Load() {
    std::vector<TensorInfo> tensors;
    for (const auto& [name, tensor] : tensors_) tensors.push_back(tensor);
    EXPECT_EQ(WriteSafetensors(folder_ / "model.safetensors", tensors), absl::OkStatus());
    folder_.Write("config.json", config_.dump());
    return LoadHfLayer(folder_.path(), 0);
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
  const absl::StatusOr<HfLayer> layer = Load();
  ASSERT_TRUE(layer.ok()) << layer.status();
  EXPECT_TRUE(SameBits(layer->weights.w_q, CountingMatrix(8, 8)));
  EXPECT_TRUE(SameBits(layer->weights.w_k, CountingMatrix(4, 8)));
}

TEST_F(SmallModel, LoadsBiasesWhereTheConfigAsksForThem) {
  SetConfig("attention_bias", true);
  AddVector(kQueryBias, 8);
  AddVector(kKeyBias, 4);
  const absl::StatusOr<HfLayer> layer = Load();
  ASSERT_TRUE(layer.ok()) << layer.status();
  EXPECT_EQ(layer->weights.b_q.size(), 8u);
  EXPECT_EQ(layer->weights.b_k[0], 0.1f);
  ASSERT_EQ(layer->sources.size(), 4u);
  EXPECT_EQ(layer->sources[3].name, kKeyBias);
}

TEST_F(SmallModel, TakesTheWindowFromTheConfig) {
  SetConfig("model_type", "mistral");
  SetConfig("sliding_window", 5);
  const absl::StatusOr<HfLayer> layer = Load();
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

TEST_F(SmallModel, RefusesABiasThatTheConfigDenies) {
  AddVector(kKeyBias, 4);
  ExpectRefused("model.safetensors", kKeyBias,
                "must not be there, as config.json gives the attention no biases, got [4]");
}

TEST_F(SmallModel, RefusesNormalisedQueries) {
  AddVector("model.layers.0.self_attn.q_norm.weight", 2);
  ExpectRefused("model.safetensors", "model.layers.0.self_attn.q_norm.weight",
                "must not be there, as queries and keys are not normalised here");
}

TEST_F(SmallModel, RefusesAConfigItDoesNotUnderstandNamingTheFile) {
  SetConfig("model_type", "qwen3");
  ExpectRefused("config.json", "model_type", "got 'qwen3'");
}

TEST(HfLayer, CountsTheLayersOfTheModel) {
  EXPECT_EQ(*CountHfLayers(TinyLlama()), 4);
  const TempFolder folder;
  EXPECT_THAT(CountHfLayers(folder.path()).status().message(), HasSubstr("config.json"));
}

TEST(HfLayer, RefusesAFolderWithoutConfig) {
  TempFolder folder;
  const absl::Status status = LoadHfLayer(folder.path(), 0).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(status.message(), HasSubstr(folder / "config.json"));
}

TEST(HfLayer, RefusesALayerThatTheModelDoesNotHave) {
  EXPECT_THAT(
      LoadHfLayer(TinyLlama(), 4).status().message(),
      HasSubstr("layer must be in [0, 4), the layers of " + TinyLlama() + "/config.json, got 4"));
}

}  // namespace
}  // namespace attnprune
