#include "core/problem/hf_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace attnprune {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;
using Kind = AttentionMask::Kind;

json Llama() {
  return {{"model_type", "llama"},
          {"hidden_size", 128},
          {"num_hidden_layers", 4},
          {"num_attention_heads", 8},
          {"num_key_value_heads", 4}};
}

json OfType(const char* model_type) {
  json config = Llama();
  config["model_type"] = model_type;
  return config;
}

absl::StatusOr<HfAttention> Parse(const json& config, Index layer = 0) {
  return ParseHfConfig(config.dump(), "config.json", layer);
}

// What the reader makes of the config after `change`, which must be acceptable.
HfAttention Accepted(json config, const std::function<void(json&)>& change) {
  change(config);
  absl::StatusOr<HfAttention> attention = Parse(config);
  EXPECT_TRUE(attention.ok()) << attention.status();
  return attention.ok() ? *attention : HfAttention();
}

TEST(HfConfig, ReadsTheShapeOfALlama) {
  const HfAttention attention = Accepted(Llama(), [](json&) {});
  EXPECT_EQ(attention.layers, 4);
  EXPECT_EQ(attention.hidden_size, 128);
  EXPECT_EQ(attention.heads, 8);
  EXPECT_EQ(attention.kv_heads, 4);
  EXPECT_EQ(attention.head_dim, 16);
  EXPECT_FALSE(attention.biases);
  EXPECT_EQ(attention.rope.theta, 10000);
  EXPECT_EQ(attention.rope.layout, RopeLayout::kRotateHalf);
  EXPECT_EQ(attention.attention.kind, Kind::kCausal);
}

TEST(HfConfig, TakesAsManyKeyHeadsAsHeadsWhenALlamaDoesNotSay) {
  EXPECT_EQ(Accepted(Llama(), [](json& c) { c.erase("num_key_value_heads"); }).kv_heads, 8);
  EXPECT_EQ(Accepted(Llama(), [](json& c) { c["num_key_value_heads"] = nullptr; }).kv_heads, 8);
}

// The transformers library's MistralConfig has 8 key heads, whatever the heads, unless told null.
TEST(HfConfig, TakesMistralsOwnNumberOfKeyHeadsWhenItDoesNotSay) {
  const auto absent = [](json& c) {
    c["num_attention_heads"] = 16;
    c.erase("num_key_value_heads");
  };
  EXPECT_EQ(Accepted(OfType("mistral"), absent).kv_heads, 8);
  EXPECT_EQ(Accepted(OfType("mistral"),
                     [](json& c) {
                       c["num_attention_heads"] = 16;
                       c["num_key_value_heads"] = nullptr;
                     })
                .kv_heads,
            16);
}

TEST(HfConfig, TakesHeadDimFromTheConfigOrTheWidth) {
  EXPECT_EQ(Accepted(Llama(), [](json& c) { c["head_dim"] = nullptr; }).head_dim, 16);
  EXPECT_EQ(Accepted(Llama(), [](json& c) { c["head_dim"] = 32; }).head_dim, 32);
}

TEST(HfConfig, ReadsThetaWhereverTheConfigKeepsIt) {
  const auto theta = [](const std::function<void(json&)>& change) {
    return Accepted(Llama(), change).rope.theta;
  };
  EXPECT_EQ(theta([](json& c) { c["rope_theta"] = 500000.0; }), 500000);
  EXPECT_EQ(theta([](json& c) { c["rope_theta"] = nullptr; }), 10000);
  EXPECT_EQ(theta([](json& c) { c["rope_theta"] = 1000000; }), 1000000);
  EXPECT_EQ(theta([](json& c) {
              c["rope_parameters"] = {{"rope_type", "default"}, {"rope_theta", 500000.0}};
            }),
            500000);
  EXPECT_EQ(theta([](json& c) {
              c["rope_theta"] = 1.0;
              c["rope_parameters"] = {{"rope_theta", 2.0}};
            }),
            2);
  EXPECT_EQ(theta([](json& c) {
              c["rope_theta"] = 3.0;
              c["rope_parameters"] = {{"rope_type", "default"}};
            }),
            3);
}

TEST(HfConfig, AcceptsEveryWayToSayThatRopeIsTheDefault) {
  for (const json& scaling :
       {json(), json::object(), json{{"rope_type", "default"}}, json{{"type", "default"}},
        json{{"rope_type", "default"}, {"factor", nullptr}, {"partial_rotary_factor", 1.0}}}) {
    EXPECT_EQ(Accepted(Llama(), [&](json& c) { c["rope_scaling"] = scaling; }).rope.theta, 10000);
  }
}

TEST(HfConfig, KnowsWhichArchitecturesHaveBiases) {
  EXPECT_TRUE(Accepted(Llama(), [](json& c) { c["attention_bias"] = true; }).biases);
  EXPECT_FALSE(Accepted(Llama(), [](json& c) { c["attention_bias"] = false; }).biases);
  EXPECT_TRUE(Accepted(OfType("qwen2"), [](json&) {}).biases);
  EXPECT_FALSE(Accepted(OfType("mistral"), [](json&) {}).biases);
}

TEST(HfConfig, ReadsMistralsSlidingWindowAsTheTransformersLibraryDoes) {
  const AttentionMask given =
      Accepted(OfType("mistral"), [](json& c) { c["sliding_window"] = 32; }).attention;
  EXPECT_EQ(ToString(given), "window:32");
  const AttentionMask absent = Accepted(OfType("mistral"), [](json&) {}).attention;
  EXPECT_EQ(ToString(absent), "window:4096");
  const AttentionMask null =
      Accepted(OfType("mistral"), [](json& c) { c["sliding_window"] = nullptr; }).attention;
  EXPECT_EQ(ToString(null), "causal");
}

TEST(HfConfig, IgnoresASlidingWindowThatIsNotUsed) {
  const auto unused = [](json& c) {
    c["sliding_window"] = 32;
    c["use_sliding_window"] = false;
    c["layer_types"] = std::vector<std::string>(4, "full_attention");
  };
  EXPECT_EQ(Accepted(OfType("qwen2"), unused).attention.kind, Kind::kCausal);
  EXPECT_EQ(Accepted(Llama(), unused).attention.kind, Kind::kCausal);
}

TEST(HfConfig, RefusesALayerThatTheModelDoesNotHave) {
  EXPECT_TRUE(Parse(Llama(), 3).ok());
  EXPECT_EQ(Parse(Llama(), 4).status().message(),
            "layer must be in [0, 4), the layers of config.json, got 4");
  EXPECT_EQ(Parse(Llama(), -1).status().message(),
            "layer must be in [0, 4), the layers of config.json, got -1");
}

struct Refusal {
  const char* title;
  const char* model_type;
  std::function<void(json&)> change;
  const char* message;
};

std::function<void(json&)> Set(const char* key, json value) {
  return [key, value](json& config) { config[key] = value; };
}
std::function<void(json&)> Erase(const char* key) {
  return [key](json& config) { config.erase(key); };
}

void ExpectRefusals(const std::vector<Refusal>& refusals) {
  for (const Refusal& refusal : refusals) {
    json config = OfType(refusal.model_type);
    ASSERT_TRUE(Parse(config).ok()) << refusal.title;
    refusal.change(config);
    const absl::Status status = Parse(config).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << refusal.title;
    EXPECT_THAT(status.message(), HasSubstr(refusal.message)) << refusal.title;
  }
}

TEST(HfConfig, RefusesArchitecturesWhoseAttentionIsAnother) {
  for (const char* type :
       {"qwen3", "gemma", "gemma2", "phi3", "stablelm", "granite", "LLAMA", ""}) {
    const absl::Status status = Parse(OfType(type)).status();
    EXPECT_THAT(status.message(),
                HasSubstr("config.json: model_type must be one of llama, mistral, qwen2"));
    EXPECT_THAT(status.message(), HasSubstr("got '" + std::string(type) + "'"));
  }
  ExpectRefusals(
      {{"no model type", "llama", Erase("model_type"), "model_type must be one of"},
       {"quantised weights", "llama", Set("quantization_config", {{"quant_method", "gptq"}}),
        "config.json: quantization_config must not be given: weights must be floats"}});
}

TEST(HfConfig, RefusesRotaryEmbeddingsThatAreNotTheDefaultByName) {
  ExpectRefusals(
      {{"llama 3 scaling", "llama", Set("rope_scaling", {{"rope_type", "llama3"}, {"factor", 8.0}}),
        "config.json: rope_scaling.rope_type must be 'default', the only rotary embedding "
        "supported, got 'llama3'"},
       {"linear scaling, old key", "llama",
        Set("rope_scaling", {{"type", "linear"}, {"factor", 2.0}}),
        "rope_scaling.type must be 'default', the only rotary embedding supported, got 'linear'"},
       {"yarn in the new section", "mistral",
        Set("rope_parameters", {{"rope_type", "yarn"}, {"rope_theta", 1e6}}),
        "rope_parameters.rope_type must be 'default', the only rotary embedding supported, got "
        "'yarn'"},
       {"a factor without a type", "llama", Set("rope_scaling", {{"factor", 2.0}}),
        "rope_scaling.factor must not be given, got 2.0"},
       {"sections of a multimodal rope", "qwen2",
        Set("rope_scaling", {{"type", "default"}, {"mrope_section", {16, 24, 24}}}),
        "rope_scaling.mrope_section must not be given, got an array"},
       {"options for each layer type", "llama",
        Set("rope_parameters", {{"full_attention", {{"rope_type", "default"}}}}),
        "rope_parameters.full_attention must not be given, got an object"},
       {"scaling that is no object", "llama", Set("rope_scaling", "linear"),
        "rope_scaling must be an object, got 'linear'"},
       {"a type that is no text", "llama", Set("rope_scaling", {{"rope_type", 3}}),
        "rope_scaling.rope_type must be 'default', the only rotary embedding supported, got 3"},
       {"part of a head rotated", "llama", Set("partial_rotary_factor", 0.5),
        "config.json: partial_rotary_factor must be 1, got 0.5"},
       {"part of a head rotated, new section", "llama",
        Set("rope_parameters", {{"partial_rotary_factor", 0.25}}),
        "rope_parameters.partial_rotary_factor must be 1, got 0.25"},
       {"theta 0", "llama", Set("rope_theta", 0), "rope_theta must be finite and above 0, got 0"},
       {"theta as text", "llama", Set("rope_theta", "10000"),
        "rope_theta must be a number, got '10000'"}});
}

TEST(HfConfig, RefusesKeysOfTheWrongTypeOrRange) {
  constexpr char kCount[] = "must be a whole number in [1, 2147483647], got ";
  ExpectRefusals(
      {{"no width", "llama", Erase("hidden_size"), "config.json: hidden_size must be given"},
       {"no layers", "llama", Erase("num_hidden_layers"), "num_hidden_layers must be given"},
       {"no heads", "llama", Set("num_attention_heads", nullptr),
        "num_attention_heads must be given"},
       {"zero heads", "llama", Set("num_attention_heads", 0), kCount},
       {"a negative width", "llama", Set("hidden_size", -128), kCount},
       {"a width beyond the BLAS", "llama", Set("hidden_size", 2147483648), kCount},
       {"a width beyond 63 bits", "llama", Set("hidden_size", 18446744073709551615u), kCount},
       {"a fraction of a head", "llama", Set("num_attention_heads", 8.5), kCount},
       {"heads as text", "llama", Set("num_attention_heads", "8"), kCount},
       {"heads as a list", "llama", Set("num_attention_heads", {8, 8}), kCount},
       {"key heads that do not divide the heads", "llama", Set("num_key_value_heads", 3),
        "num_key_value_heads must divide num_attention_heads (8), got 3"},
       {"heads that do not divide the width", "llama", Set("hidden_size", 130),
        "num_attention_heads must divide hidden_size (130) where head_dim is not given, got 8"},
       {"an odd head_dim", "llama", Set("head_dim", 15),
        "head_dim must be even for the rotary embedding, got 15"},
       {"a bias that is a number", "llama", Set("attention_bias", 1),
        "attention_bias must be true or false, got 1"},
       {"a window of no tokens", "mistral", Set("sliding_window", 0),
        "sliding_window must be a whole number in [1, 2147483647], got 0"},
       {"a window used in some layers", "qwen2", Set("use_sliding_window", true),
        "use_sliding_window must be false for this model_type, got true"}});
}

TEST(HfConfig, RefusesALayerTypeThatContradictsTheOtherKeys) {
  ExpectRefusals(
      {{"a sliding layer of a causal model", "llama",
        Set("layer_types", {"sliding_attention", "full_attention"}),
        "config.json: layer_types[0] must be 'full_attention', as the other keys say, got "
        "'sliding_attention'"},
       {"a full layer of a sliding model", "mistral", Set("layer_types", {"full_attention", "x"}),
        "layer_types[0] must be 'sliding_attention', as the other keys say, got 'full_attention'"},
       {"too few layer types", "llama", Set("layer_types", json::array()),
        "layer_types must be a list with an entry for every layer, got an array"}});
}

TEST(HfConfig, RefusesWhatIsNotOneJsonObject) {
  for (const char* text :
       {"", "[]", "{\"model_type\": ", "{} {}", "{\"a\": 1, \"a\": 2}", "null"}) {
    const absl::Status status = ParseHfConfig(text, "some/config.json", 0).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(status.message()), ::testing::StartsWith("some/config.json: ")) << text;
  }
}

}  // namespace
}  // namespace attnprune
