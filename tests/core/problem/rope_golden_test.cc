// The inverse frequencies of ten rotary embeddings at real sizes, as transformers computes them.
#include <gtest/gtest.h>

#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/kernels/rope.h"
#include "tests/support/paths.h"

namespace attnprune {
namespace {

using nlohmann::json;

RopeScaling ScalingOf(const std::string& type) {
  static const std::map<std::string, RopeScaling> kTypes = {
      {"default", RopeScaling::kDefault}, {"linear", RopeScaling::kLinear},
      {"dynamic", RopeScaling::kDynamic}, {"llama3", RopeScaling::kLlama3},
      {"yarn", RopeScaling::kYarn},       {"longrope", RopeScaling::kLongrope}};
  return kTypes.at(type);
}

Rope RopeOf(const json& table) {
  const json& rope = table["rope"];
  return {.theta = rope["rope_theta"],
          .scaling = ScalingOf(rope["rope_type"]),
          .factor = rope.value("factor", 1.0),
          .original_max_positions =
              rope.value("original_max_position_embeddings", table["max_positions"].get<Index>()),
          .max_positions = table["max_positions"],
          .low_freq_factor = rope.value("low_freq_factor", 1.0),
          .high_freq_factor = rope.value("high_freq_factor", 4.0),
          .short_factor = rope.value("short_factor", std::vector<double>()),
          .long_factor = rope.value("long_factor", std::vector<double>())};
}

TEST(RopeFrequencies, AreThoseOfTransformersAtRealSizes) {
  std::ifstream file(TestData("/models/golden-rope.json"));
  const json tables = json::parse(file);
  ASSERT_EQ(tables.size(), 10u);
  for (const json& table : tables) {
    SCOPED_TRACE(table["name"].get<std::string>());
    const std::vector<double> expected = table["inverse"];
    const std::vector<double> got = RopeFrequencies(RopeOf(table), table["dim"], table["length"]);
    ASSERT_EQ(got.size(), expected.size());
    for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], expected[i], 1e-6) << i;
    for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i] / expected[i], 1, 1e-6) << i;
  }
}

// theta = 10000, 8 features, L0 = 1000: pair p turns 1000 / 10^p / 2 pi times over L0. Bounds at 20
// and 2 turns are the pairs 0.901 and 1.901: whole ones 0 and 2 with `truncate`.
TEST(RopeFrequencies, OfYarnBlendFromWholePairsOnOnlyIfToldTo) {
  Rope yarn{.scaling = RopeScaling::kYarn,
            .factor = 2,
            .original_max_positions = 1000,
            .beta_fast = 20,
            .beta_slow = 2};
  EXPECT_NEAR(RopeFrequencies(yarn, 8, 1)[1], 0.1 * 0.75, 1e-12);  // half of each
  yarn.truncate = false;
  const double share = 1 - 0.9007907;  // (1 - 0.9008) / (1.9008 - 0.9008)
  EXPECT_NEAR(RopeFrequencies(yarn, 8, 1)[1], 0.1 * (share / 2 + 1 - share), 1e-7);
}

TEST(RopeFrequencies, AreThoseOfThePartThatTurns) {
  EXPECT_EQ(RopeFrequencies({.dim = 4}, 64, 1), RopeFrequencies({}, 4, 1));
}

}  // namespace
}  // namespace attnprune
