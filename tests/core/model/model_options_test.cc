#include "core/model/model_options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "tests/core/model/golden_models.h"
#include "tests/support/value_or_die.h"

namespace attnprune {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

json Llama() {
  return {{"model_type", "llama"},  {"hidden_size", 128},       {"num_hidden_layers", 4},
          {"vocab_size", 100},      {"num_attention_heads", 8}, {"num_key_value_heads", 4},
          {"intermediate_size", 44}};
}

json OfType(const char* model_type) {
  json config = Llama();
  config["model_type"] = model_type;
  return config;
}

absl::StatusOr<ModelOptions> Parse(const json& config) {
  return ParseModelOptions(config.dump(), "config.json");
}

// What the reader makes of the config after `change`, which must be acceptable.
ModelOptions Accepted(json config, const std::function<void(json&)>& change) {
  change(config);
  absl::StatusOr<ModelOptions> options = Parse(config);
  EXPECT_TRUE(options.ok()) << options.status();
  return options.ok() ? *options : ModelOptions();
}

std::function<void(json&)> Set(const char* key, json value) {
  return [key, value](json& config) { config[key] = value; };
}
std::function<void(json&)> Erase(const char* key) {
  return [key](json& config) { config.erase(key); };
}
void Nothing(json&) {}

TEST(ModelOptions, ReadsTheShapeOfALlama) {
  const ModelOptions options = Accepted(Llama(), Nothing);
  EXPECT_EQ(options.layer_count(), 4);
  EXPECT_EQ(options.hidden_size, 128);
  EXPECT_EQ(options.heads, 8);
  EXPECT_EQ(options.kv_heads, 4);
  EXPECT_EQ(options.head_dim, 16);
  EXPECT_EQ(options.attention_scale, 0.25);
  EXPECT_FALSE(options.biases.qkv);
  EXPECT_FALSE(options.tied);
  ASSERT_TRUE(options.layers[0].rope.has_value());
  EXPECT_EQ(options.layers[0].rope->theta, 10000);
  EXPECT_EQ(ToString(options.Mask(0)), "causal");
}

TEST(ModelOptions, TakesAsManyKeyHeadsAsHeadsWhenALlamaDoesNotSay) {
  EXPECT_EQ(Accepted(Llama(), Erase("num_key_value_heads")).kv_heads, 8);
  EXPECT_EQ(Accepted(Llama(), Set("num_key_value_heads", nullptr)).kv_heads, 8);
}

// The transformers library's MistralConfig has 8 key heads, whatever the heads, unless told null.
TEST(ModelOptions, TakesMistralsOwnNumberOfKeyHeadsWhenItDoesNotSay) {
  const auto with = [](json key_heads, bool given) {
    return [key_heads, given](json& c) {
      c["num_attention_heads"] = 16;
      c.erase("num_key_value_heads");
      if (given) c["num_key_value_heads"] = key_heads;
    };
  };
  EXPECT_EQ(Accepted(OfType("mistral"), with(nullptr, false)).kv_heads, 8);
  EXPECT_EQ(Accepted(OfType("mistral"), with(nullptr, true)).kv_heads, 16);
}

TEST(ModelOptions, TakesHeadDimFromTheConfigOrTheWidth) {
  EXPECT_EQ(Accepted(Llama(), Set("head_dim", nullptr)).head_dim, 16);
  EXPECT_EQ(Accepted(Llama(), Set("head_dim", 32)).head_dim, 32);
  EXPECT_EQ(Accepted(OfType("qwen3"), Nothing).head_dim, 128);
}

TEST(ModelOptions, ReadsThetaWhereverTheConfigKeepsIt) {
  const auto theta = [](const std::function<void(json&)>& change) {
    return Accepted(Llama(), change).layers[0].rope->theta;
  };
  EXPECT_EQ(theta(Set("rope_theta", 500000.0)), 500000);
  EXPECT_EQ(theta(Set("rope_theta", nullptr)), 10000);
  EXPECT_EQ(theta(Set("rope_parameters", {{"rope_type", "default"}, {"rope_theta", 2.0}})), 2);
  EXPECT_EQ(theta([](json& c) {
              c["rope_theta"] = 3.0;
              c["rope_parameters"] = {{"rope_type", "default"}};
            }),
            3);
}

TEST(ModelOptions, ReadsTheScalingOfLlama3) {
  const ModelOptions options =
      Accepted(Llama(), Set("rope_scaling", {{"rope_type", "llama3"},
                                             {"factor", 32.0},
                                             {"low_freq_factor", 1.0},
                                             {"high_freq_factor", 4.0},
                                             {"original_max_position_embeddings", 8192}}));
  const Rope& rope = *options.layers[0].rope;
  EXPECT_EQ(rope.scaling, RopeScaling::kLlama3);
  EXPECT_EQ(rope.factor, 32);
  EXPECT_EQ(rope.original_max_positions, 8192);
}

TEST(ModelOptions, OptionsOfOtherRopeTypesChangeNothing) {
  const ModelOptions options = Accepted(
      Llama(), Set("rope_scaling", {{"type", "linear"}, {"factor", 1.0}, {"beta_fast", 32}}));
  EXPECT_EQ(options.layers[0].rope->scaling, RopeScaling::kLinear);
}

TEST(ModelOptions, SaysThatVersionsOfTransformersDifferInYarn) {
  const ModelOptions options = Accepted(
      Llama(),
      Set("rope_scaling",
          {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 2048}}));
  EXPECT_THAT(options.notes, ::testing::ElementsAre(HasSubstr("factor 4 is used")));
}

TEST(ModelOptions, KnowsWhichArchitecturesHaveBiases) {
  EXPECT_TRUE(Accepted(Llama(), Set("attention_bias", true)).biases.qkv);
  EXPECT_TRUE(Accepted(Llama(), Set("attention_bias", true)).biases.o);
  EXPECT_TRUE(Accepted(OfType("qwen2"), Nothing).biases.qkv);
  EXPECT_FALSE(Accepted(OfType("qwen2"), Nothing).biases.o);
  EXPECT_FALSE(Accepted(OfType("mistral"), Nothing).biases.qkv);
}

TEST(ModelOptions, ReadsMistralsSlidingWindowAsTheTransformersLibraryDoes) {
  const auto mask = [](const std::function<void(json&)>& change) {
    return ToString(Accepted(OfType("mistral"), change).Mask(0));
  };
  EXPECT_EQ(mask(Set("sliding_window", 32)), "window:32");
  EXPECT_EQ(mask(Nothing), "window:4096");
  EXPECT_EQ(mask(Set("sliding_window", nullptr)), "causal");
}

TEST(ModelOptions, ReadsTheWindowOfEachLayer) {
  const ModelOptions gemma = Accepted(OfType("gemma2"), Set("sliding_window", 32));
  EXPECT_EQ(ToString(gemma.Mask(0)), "window:32");
  EXPECT_EQ(ToString(gemma.Mask(1)), "causal");
  const ModelOptions named = Accepted(OfType("gemma2"), [](json& c) {
    c["sliding_window"] = 32;
    c["layer_types"] = {"full_attention", "full_attention", "sliding_attention", "full_attention"};
  });
  EXPECT_EQ(ToString(named.Mask(0)), "causal");
  EXPECT_EQ(ToString(named.Mask(2)), "window:32");
}

TEST(ModelOptions, ReadsSmolLm3sWindowByLayerTypesAndWithoutThem) {
  const auto used = [](json& c) {
    c["sliding_window"] = 32;
    c["use_sliding_window"] = true;
  };
  const ModelOptions by_rope = Accepted(OfType("smollm3"), used);
  EXPECT_EQ(ToString(by_rope.Mask(0)), "causal");
  EXPECT_EQ(ToString(by_rope.Mask(3)), "window:32") << "the layer without a rotary embedding";
  const ModelOptions named = Accepted(OfType("smollm3"), [&](json& c) {
    used(c);
    c["layer_types"] = {"full_attention", "sliding_attention", "full_attention", "full_attention"};
  });
  EXPECT_EQ(ToString(named.Mask(1)), "window:32");
  EXPECT_EQ(ToString(named.Mask(3)), "causal");
}

TEST(ModelOptions, IgnoresASlidingWindowThatIsNotUsed) {
  const auto unused = [](json& c) {
    c["sliding_window"] = 32;
    c["use_sliding_window"] = false;
    c["layer_types"] = std::vector<std::string>(4, "full_attention");
  };
  EXPECT_EQ(ToString(Accepted(OfType("qwen2"), unused).Mask(0)), "causal");
  EXPECT_EQ(ToString(Accepted(Llama(), unused).Mask(0)), "causal");
}

TEST(ModelOptions, ReadsFullAttentionWhereItIsNotCausal) {
  EXPECT_EQ(ToString(Accepted(Llama(), Set("is_causal", false)).Mask(0)), "full");
}

TEST(ModelOptions, ReadsWeightsThatAreSparseOrNotQuantised) {
  Accepted(Llama(), Set("quantization_config", json::object()));
  Accepted(Llama(), Set("quantization_config", {{"quant_method", "compressed-tensors"},
                                                {"config_groups", json::object()},
                                                {"format", "dense"},
                                                {"sparsity_config", {{"format", "dense"}}}}));
}

// What transformers 5 writes for a model is read as what 4 does.
TEST(ModelOptions, BothFormsOfAConfigSayTheSame) {
  int both = 0;
  for (const std::string& name : testing::GoldenModels()) {
    const std::string path = testing::GoldenModel(name) + "/config.v5.json";
    if (!std::filesystem::exists(path)) continue;
    ++both;
    std::ifstream file(path);
    const json v5 = json::parse(file);
    const ModelOptions now = testing::ValueOrDie(Parse(v5));
    const ModelOptions then = testing::ValueOrDie(LoadModelOptions(testing::GoldenModel(name)));
    ASSERT_EQ(now.layer_count(), then.layer_count()) << name;
    for (size_t i = 0; i < now.layers.size(); ++i) {
      EXPECT_EQ(now.layers[i].window, then.layers[i].window) << name;
      ASSERT_EQ(now.layers[i].rope.has_value(), then.layers[i].rope.has_value()) << name;
      if (!now.layers[i].rope.has_value()) continue;
      EXPECT_EQ(RopeFrequencies(*now.layers[i].rope, now.head_dim, 24),
                RopeFrequencies(*then.layers[i].rope, then.head_dim, 24))
          << name;
    }
  }
  EXPECT_EQ(both, 6);
}

struct Refusal {
  const char* title;
  const char* model_type;
  std::function<void(json&)> change;
  const char* message;
};

void ExpectRefusals(const std::vector<Refusal>& refusals) {
  for (const Refusal& refusal : refusals) {
    json config = OfType(refusal.model_type);
    ASSERT_TRUE(Parse(config).ok()) << refusal.title << Parse(config).status();
    refusal.change(config);
    const absl::Status status = Parse(config).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << refusal.title;
    EXPECT_THAT(status.message(), HasSubstr(refusal.message)) << refusal.title;
  }
}

TEST(ModelOptions, RefusesModelsByNameWithTheReason) {
  const std::pair<const char*, const char*> refused[] = {
      {"mixtral", "a mixture of experts"},
      {"deepseek_v3", "multi-head latent attention"},
      {"mamba2", "a state-space"},
      {"t5", "an encoder-decoder"},
      {"llava_next", "image or audio towers"},
      {"gemma3", "image or audio towers"},
      {"granitemoehybrid", "mixture of experts"}};
  for (const auto& [type, reason] : refused) {
    const absl::Status status = Parse(OfType(type)).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(status.message(),
                HasSubstr("config.json: model_type must be one of llama, mistral"));
    EXPECT_THAT(status.message(), HasSubstr(reason));
    EXPECT_THAT(status.message(), HasSubstr("got '" + std::string(type) + "'"));
  }
  for (const char* type : {"LLAMA", "", "my_model"}) {
    EXPECT_THAT(Parse(OfType(type)).status().message(), HasSubstr("model_type must be one of"));
  }
}

TEST(ModelOptions, RefusesWhatWouldChangeTheForwardPass) {
  ExpectRefusals(
      {{"no model type", "llama", Erase("model_type"), "model_type must be one of"},
       {"quantised weights", "llama", Set("quantization_config", {{"quant_method", "gptq"}}),
        "config.json: quantization_config must not be given: weights must be floats"},
       {"cross attention", "gpt2", Set("add_cross_attention", true),
        "add_cross_attention must be false, got true"},
       {"relative positions", "bert", Set("position_embedding_type", "relative_key"),
        "position_embedding_type must be 'absolute', got 'relative_key'"},
       {"an unknown activation", "llama", Set("hidden_act", "mish"),
        "hidden_act must be one of silu"},
       {"two directions with a window", "mistral", Set("is_causal", false),
        "is_causal must be true where layers have a sliding window"}});
}

TEST(ModelOptions, RefusesRotaryEmbeddingsThatItDoesNotKnowByName) {
  ExpectRefusals(
      {{"an unknown type", "llama", Set("rope_scaling", {{"rope_type", "mrope"}}),
        "rope_scaling.rope_type must be one of default, linear, dynamic, llama3, yarn, longrope, "
        "got 'mrope'"},
       {"sections of a multimodal rope", "qwen2",
        Set("rope_scaling", {{"type", "default"}, {"mrope_section", {16, 24, 24}}}),
        "rope_scaling.mrope_section must not be given, got an array"},
       {"no factor", "llama", Set("rope_scaling", {{"type", "linear"}}),
        "rope_scaling.factor must be at least 1, got null"},
       {"lists of another length", "phi3",
        Set("rope_scaling",
            {{"type", "longrope"}, {"short_factor", {1.0}}, {"long_factor", {1.0}}}),
        "rope_scaling.short_factor must have 8 entries, one a pair of features, got 1"},
       {"scaling that is no object", "llama", Set("rope_scaling", "linear"),
        "rope_scaling must be an object, got 'linear'"},
       {"a type that is no text", "llama", Set("rope_scaling", {{"rope_type", 3}}),
        "rope_scaling.rope_type must be a string, got 3"},
       {"an odd part of a head", "llama", Set("partial_rotary_factor", 0.2),
        "must be even and in [2, head_dim = 16], got 3"},
       {"theta 0", "llama", Set("rope_theta", 0), "rope_theta must be above 0, got 0"},
       {"theta as text", "llama", Set("rope_theta", "10000"),
        "rope_theta must be a finite number, got '10000'"}});
}

TEST(ModelOptions, RefusesKeysOfTheWrongTypeOrRange) {
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
       {"a billion layers", "llama", Set("num_hidden_layers", 1000000000),
        "num_hidden_layers must be at most 100000"},
       {"key heads that do not divide the heads", "llama", Set("num_key_value_heads", 3),
        "num_key_value_heads must divide num_attention_heads (8), got 3"},
       {"heads that do not divide the width", "llama", Set("hidden_size", 130),
        "num_attention_heads must divide hidden_size (130) where head_dim is not given, got 8"},
       {"an odd head_dim", "llama", Set("head_dim", 15), "must be even and in [2, head_dim = 15]"},
       {"a bias that is a number", "llama", Set("attention_bias", 1),
        "attention_bias must be true or false, got 1"},
       {"a window of no tokens", "mistral", Set("sliding_window", 0),
        "sliding_window must be a whole number in [1, 2147483647], got 0"},
       {"a sliding layer of a causal model", "llama",
        Set("layer_types", std::vector<std::string>(4, "sliding_attention")),
        "config.json: layer_types[0] must be 'full_attention', as the other keys say, got "
        "'sliding_attention'"},
       {"another kind of layer", "gemma2",
        Set("layer_types", std::vector<std::string>(4, "linear_attention")),
        "layer_types[0] must be 'full_attention' or 'sliding_attention'"},
       {"too few layer types", "llama", Set("layer_types", json::array()),
        "layer_types must be a list with an entry for every layer, got an array"}});
}

TEST(ModelOptions, RefusesWhatIsNotOneJsonObject) {
  for (const char* text :
       {"", "[]", "{\"model_type\": ", "{} {}", "{\"a\": 1, \"a\": 2}", "null"}) {
    const absl::Status status = ParseModelOptions(text, "some/config.json").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(status.message()), ::testing::StartsWith("some/config.json: ")) << text;
  }
}

}  // namespace
}  // namespace attnprune
