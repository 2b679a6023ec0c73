#include "client/cli/files/run_report.h"

#include <nlohmann/json.hpp>

#include "core/io/sha256.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/cli/run_examples.h"

namespace attnprune::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

// 16 entries of 2 bytes, 8 of them kept: 16 bytes of values, 2 of bits, 2 of places.
TEST(SizesOf, CountsValuesAndWhatSaysWhereTheyAre) {
  v1::PrunedTensor tensor = ExamplePruned("a.q", "q");
  EXPECT_EQ(SizesOf(tensor).dense, 32);
  EXPECT_EQ(SizesOf(tensor).bitmask, 18);
  EXPECT_EQ(SizesOf(tensor).packed_2_4, 18);
  tensor.mutable_asked()->set_fraction(0.5);
  EXPECT_EQ(SizesOf(tensor).packed_2_4, absl::nullopt);
}

TEST(SizesOf, TakesTheRestOfTheModelAsItIs) {
  v1::Run run = ExampleRun();
  EXPECT_EQ(SizesOf(run).dense, 4 * 32);
  EXPECT_EQ(SizesOf(run).bitmask, 3 * 18 + 32);
  EXPECT_EQ(SizesOf(run).packed_2_4, 3 * 18 + 32);
  run.mutable_results(0)->mutable_tensors(1)->mutable_asked()->set_fraction(0.5);
  EXPECT_EQ(SizesOf(run).packed_2_4, absl::nullopt) << "one tensor is not 2:4";
}

TEST(RunReportJson, HasTensorsBlocksModelAndProvenance) {
  v1::Run run = ExampleRun();
  run.set_seed(7);
  run.add_rules()->set_pattern("gate");
  run.mutable_rules(0)->set_skip(true);
  const auto report = nlohmann::json::parse(RunReportJson(run, "1.2.3"));
  EXPECT_EQ(report["tensors"].size(), 3u);
  EXPECT_EQ(report["tensors"][1]["name"], "a.down");
  EXPECT_EQ(report["tensors"][1]["maps"], nlohmann::json({"down"}));
  EXPECT_EQ(report["tensors"][1]["heldOutError"], 0.5);
  EXPECT_EQ(report["tensors"][2]["block"], 1);
  EXPECT_EQ(report["blocks"].size(), 1u);
  EXPECT_EQ(report["blocks"][0]["outputError"], 0.125);
  EXPECT_EQ(report["model"]["loss"]["difference"]["mean"], 0.5);
  EXPECT_EQ(report["model"]["loss"]["pruned"]["perplexity"], std::exp(1.5));
  EXPECT_EQ(report["model"]["bytes"]["dense"], 128);
  const auto& provenance = report["provenance"];
  EXPECT_EQ(provenance["attnprune"], "1.2.3");
  EXPECT_EQ(provenance["run"], "runs/r-1");
  EXPECT_EQ(provenance["seed"], 7);
  EXPECT_EQ(provenance["order"], "sequential");
  EXPECT_EQ(provenance["configSha256"], Sha256Of(std::string("{}")));
  EXPECT_EQ(provenance["calibration"]["sha256"], "ca11b");
  EXPECT_EQ(provenance["calibration"]["tokens"], 8);
  EXPECT_EQ(provenance["rules"], nlohmann::json({"gate skipped"}));
}

TEST(RunReportMarkdown, SaysThatADenseOutputIsNeitherSmallerNorFaster) {
  EXPECT_THAT(RunReportMarkdown(ExampleRun(), "1.2.3"),
              AllOf(HasSubstr("is not smaller or faster by itself"), HasSubstr("2:4-packed"),
                    HasSubstr("| pruned | 1.5000 | 4.4817 |"), HasSubstr("| `a.down` | down |"),
                    HasSubstr("- attnprune: 1.2.3")));
}

TEST(RunReportMarkdown, SaysWhereNothingWasHeldOut) {
  v1::Run run = ExampleRun();
  run.mutable_results()->RemoveLast();
  EXPECT_THAT(RunReportMarkdown(run, "1.2.3"),
              AllOf(HasSubstr("No tokens were held out"), Not(HasSubstr("perplexity"))));
}

}  // namespace
}  // namespace attnprune::cli
