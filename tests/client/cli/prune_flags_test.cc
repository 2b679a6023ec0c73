#include "client/cli/flags/prune_flags.h"

#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "client/cli/flags/loss_flags.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/value_or_die.h"

namespace attnprune::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string TextOf(const absl::Status& status) { return std::string(status.message()); }

// The least that a run needs.
PruneFlags Least() {
  PruneFlags flags;
  flags.job.model = "model";
  flags.job.tokens.text = "corpus.txt";
  return flags;
}

TEST(ParseRuleFlag, ReadsMethodAndSparsity) {
  const auto rule = ParseRuleFlag("model.layers.0.*=alps:steps=100@0.3");
  ASSERT_TRUE(rule.ok()) << rule.status();
  EXPECT_EQ(rule->pattern(), "model.layers.0.*");
  EXPECT_EQ(rule->method().name(), "alps");
  EXPECT_EQ(rule->method().parameters().at("steps"), 100);
  EXPECT_EQ(rule->sparsity().fraction(), 0.3);
  EXPECT_FALSE(rule->skip());
}

TEST(ParseRuleFlag, LeavesOutWhatTheTextLeavesOut) {
  const auto method = ParseRuleFlag("q=wanda");
  ASSERT_TRUE(method.ok()) << method.status();
  EXPECT_EQ(method->method().name(), "wanda");
  EXPECT_FALSE(method->has_sparsity());
  const auto sparsity = ParseRuleFlag("down=@2:4");
  ASSERT_TRUE(sparsity.ok()) << sparsity.status();
  EXPECT_FALSE(sparsity->has_method());
  EXPECT_EQ(sparsity->sparsity().n_of_m().m(), 4);
}

TEST(ParseRuleFlag, NamesTheFlagTheRuleAndTheValue) {
  for (const char* text : {"q", "=wanda", "q=", "q=@", "q=wanda@"}) {
    EXPECT_EQ(TextOf(ParseRuleFlag(text).status()),
              std::string("--rule must be PATTERN=METHOD@SPARSITY, PATTERN=METHOD or "
                          "PATTERN=@SPARSITY, got ") +
                  text);
  }
  EXPECT_THAT(TextOf(ParseRuleFlag("q=@1.5").status()),
              AllOf(HasSubstr("--rule"), HasSubstr("sparsity"), HasSubstr("1.5")));
  EXPECT_THAT(TextOf(ParseRuleFlag("q=wanda:x").status()), HasSubstr("--rule"));
}

// "label=method@dense target curvature allocation distill" of each.
std::vector<std::string> VariantsOf(const PruneFlags& flags) {
  std::vector<std::string> texts;
  for (const RunVariant& variant : testing::ValueOrDie(CompletePruneFlags(flags)).variants) {
    texts.push_back(absl::StrCat(variant.label, "=", variant.method, "@", variant.dense_target, " ",
                                 variant.curvature, " ", variant.allocation, " ", variant.distill));
  }
  return texts;
}

TEST(CompletePruneFlags, SamplesAsTheRecipeOrTheFlagSays) {
  const auto rows = [](const PruneFlags& flags) {
    return testing::ValueOrDie(CompletePruneFlags(flags)).variants[0].sampled_rows;
  };
  PruneFlags flags = Least();
  EXPECT_EQ(rows(flags), "off");
  flags.recipes = {"best"};
  EXPECT_EQ(rows(flags), "on");
  flags.sampled_rows = "7:temperature=1.5";
  EXPECT_EQ(rows(flags), "7:temperature=1.5");
}

TEST(ParseSampledFlag, ReadsHowManyRowsAndHow) {
  EXPECT_EQ(testing::ValueOrDie(ParseSampledFlag("off")).rows, 0);
  EXPECT_EQ(testing::ValueOrDie(ParseSampledFlag("0")).rows, 0);
  EXPECT_EQ(testing::ValueOrDie(ParseSampledFlag("on")).rows, std::nullopt);
  const SampledFlag flag = testing::ValueOrDie(ParseSampledFlag("64:temperature=0.8,prefix=9"));
  EXPECT_EQ(flag.rows, 64);
  EXPECT_EQ(flag.how.temperature(), 0.8);
  EXPECT_EQ(flag.how.prefix(), 9);
}

TEST(CompletePruneFlags, RefusesSampledRowsThatAreNone) {
  const auto error = [](const std::string& text, const char* order = "sequential") {
    PruneFlags flags = Least();
    flags.sampled_rows = text;
    flags.order = order;
    return TextOf(CompletePruneFlags(flags).status());
  };
  EXPECT_THAT(error("-3"), HasSubstr("--sampled-rows must be off, on or COUNT"));
  EXPECT_THAT(error("many"), HasSubstr("got many"));
  EXPECT_THAT(error("99999999999"), HasSubstr("got 99999999999"));
  EXPECT_THAT(error("8:prefix=0.5"), HasSubstr("prefix must be a whole number from 1 on"));
  EXPECT_THAT(error("8:top=5"), HasSubstr("there is no parameter top"));
  EXPECT_THAT(error("off:prefix=2"), HasSubstr("no rows have parameters"));
  EXPECT_THAT(error("7", "independent"), HasSubstr("must be off unless --order is sequential"));
  EXPECT_EQ(error("off", "independent"), "");
}

TEST(CompletePruneFlags, TakesFromTheRecipeWhatIsNotGiven) {
  PruneFlags flags = Least();
  EXPECT_THAT(VariantsOf(flags), ElementsAre("alps=alps@0.5 on uniform off"));
  flags.recipes = {"linear"};
  EXPECT_THAT(VariantsOf(flags), ElementsAre("alps=alps@0.5 off uniform off"));
  flags.recipes = {"best"};
  EXPECT_THAT(VariantsOf(flags), ElementsAre("alps=alps@0.5 on:labels=32768 loss on"));
  flags.job.sparsity = "2:4";
  EXPECT_THAT(VariantsOf(flags), ElementsAre("alps=alps@0.5 on:labels=32768 uniform on"));
  flags.job.sparsity = "0.5";
  flags.curvature = "on:rows=8";
  flags.allocation = "owl";
  EXPECT_THAT(VariantsOf(flags), ElementsAre("alps=alps@0.5 on:rows=8 owl on"));
  flags.curvature = "off";
  flags.allocation.reset();
  EXPECT_THAT(VariantsOf(flags), ElementsAre("alps=alps@0.5 off uniform on"));
  flags.curvature.reset();
  flags.job.methods = {"wanda"};
  EXPECT_THAT(VariantsOf(flags), ElementsAre("wanda=wanda@0.5 off uniform on"))
      << "wanda reads no curvature";
  flags.order = "independent";
  EXPECT_THAT(VariantsOf(flags), ElementsAre("wanda=wanda@0 off uniform off"));
  flags.job.methods.clear();
  EXPECT_THAT(VariantsOf(flags), ElementsAre("alps=alps@0 off uniform off"));
  flags.recipes.clear();
  flags.order = PruneFlags().order;
  flags.job.methods = {"alps"};
  EXPECT_THAT(VariantsOf(flags), ElementsAre("alps=alps@0 off uniform off")) << "as published";
  flags.recipes = {"best"};
  flags.order = "independent";
  flags.dense_target = 0.25;
  EXPECT_THAT(TextOf(CompletePruneFlags(flags).status()), HasSubstr("--order is sequential"));
  flags.dense_target = 1.5;
  EXPECT_EQ(TextOf(CompletePruneFlags(flags).status()),
            "--dense-target must be in [0, 1], got 1.5");
  flags = Least();
  flags.recipes = {"slow"};
  EXPECT_THAT(TextOf(CompletePruneFlags(flags).status()),
              AllOf(HasSubstr("--recipe"), HasSubstr("got slow"), HasSubstr("linear: alps")));
}

TEST(CompletePruneFlags, ComparesMethodsAndRecipes) {
  PruneFlags flags = Least();
  flags.compare = true;
  flags.job.methods = {"magnitude", "alps:steps=9", "alps"};
  flags.recipes = {"best"};
  EXPECT_THAT(
      VariantsOf(flags),
      ElementsAre("magnitude=magnitude@0 off uniform off", "alps=alps:steps=9@0 off uniform off",
                  "alps#2=alps@0 off uniform off", "best=alps@0.5 on:labels=32768 loss on"));
}

TEST(CompletePruneFlags, RefusesWhatDoesNotGoTogether) {
  PruneFlags twice = Least();
  twice.job.methods = {"wanda", "alps"};
  EXPECT_THAT(TextOf(CompletePruneFlags(twice).status()), HasSubstr("--compare"));
  PruneFlags recipes = Least();
  recipes.recipes = {"fast", "best"};
  EXPECT_THAT(TextOf(CompletePruneFlags(recipes).status()),
              HasSubstr("--recipe must be given once"));
  twice.compare = true;
  EXPECT_TRUE(CompletePruneFlags(twice).ok());
  twice.job.methods.pop_back();
  EXPECT_THAT(TextOf(CompletePruneFlags(twice).status()), HasSubstr("at least two models"));

  PruneFlags held_out = Least();
  held_out.job.held_out_fraction = 0.25;
  EXPECT_TRUE(CompletePruneFlags(held_out).ok());
  held_out.held_out_text = "other.txt";
  EXPECT_THAT(TextOf(CompletePruneFlags(held_out).status()), HasSubstr("at most one"));

  PruneFlags no_text = Least();
  no_text.job.tokens.text.clear();
  EXPECT_THAT(TextOf(CompletePruneFlags(no_text).status()), HasSubstr("--text"));
}

TEST(CompletePruneFlags, TriesTheBestRecipeFirstForATime) {
  PruneFlags flags = Least();
  flags.time = absl::Minutes(30);
  EXPECT_THAT(VariantsOf(flags),
              ElementsAre("best=alps@0.5 on:labels=32768 loss on", "fast=alps@0.5 on uniform off",
                          "linear=alps@0.5 off uniform off"));
  flags.recipes = {"fast"};
  EXPECT_THAT(TextOf(CompletePruneFlags(flags).status()), HasSubstr("--time chooses the recipe"));
  flags.recipes.clear();
  flags.job.methods = {"wanda"};
  EXPECT_THAT(TextOf(CompletePruneFlags(flags).status()), HasSubstr("--time chooses the recipe"));
}

TEST(CompletePruneFlags, DistilsAsTheRecipeOrTheFlagSays) {
  PruneFlags flags = Least();
  flags.distill = "on:steps=50";
  EXPECT_THAT(VariantsOf(flags), ElementsAre("alps=alps@0.5 on uniform on:steps=50"));
  flags.recipes = {"best"};
  flags.distill = "off";
  EXPECT_THAT(VariantsOf(flags), ElementsAre("alps=alps@0.5 on:labels=32768 loss off"));
}

TEST(CompletePruneFlags, ReconstructsAsTheRecipeOrTheFlagSays) {
  const auto reconstruct = [](const PruneFlags& flags) {
    return testing::ValueOrDie(CompletePruneFlags(flags)).variants[0].reconstruct;
  };
  PruneFlags flags = Least();
  EXPECT_EQ(reconstruct(flags), "off");
  flags.recipes = {"best"};
  EXPECT_EQ(reconstruct(flags), "on");
  flags.reconstruct = "on:steps=50";
  EXPECT_EQ(reconstruct(flags), "on:steps=50");
}

TEST(CompletePruneFlags, RefusesATrainingThatIsNone) {
  const auto error = [](const std::string& text, const char* order = "sequential") {
    PruneFlags flags = Least();
    flags.distill = text;
    flags.order = order;
    return TextOf(CompletePruneFlags(flags).status());
  };
  PruneFlags flags = Least();
  flags.reconstruct = "yes";
  EXPECT_THAT(TextOf(CompletePruneFlags(flags).status()),
              HasSubstr("--reconstruct must be off or on[:steps=COUNT"));
  EXPECT_THAT(error("yes"), HasSubstr("--distill must be off or on[:steps=COUNT"));
  EXPECT_THAT(error("on:steps=0"), HasSubstr("steps must be a whole number from 1 on"));
  EXPECT_THAT(error("on:rows=1.5"), HasSubstr("rows must be a whole number"));
  EXPECT_THAT(error("on:temperature=2"), HasSubstr("on has no parameter temperature"));
  EXPECT_THAT(error("on", "independent"), HasSubstr("must be off unless --order is sequential"));
  EXPECT_EQ(error("on:rate=0.01"), "");
}

TEST(CompletePruneFlags, RefusesACurvatureThatIsNone) {
  const auto error = [](const std::string& text, const char* order = "sequential") {
    PruneFlags flags = Least();
    flags.curvature = text;
    flags.order = order;
    return TextOf(CompletePruneFlags(flags).status());
  };
  EXPECT_THAT(error("yes"), HasSubstr("--curvature must be off or on[:rows=COUNT"));
  EXPECT_THAT(error("on:rows=0"), HasSubstr("rows must be a whole number from 1 on"));
  EXPECT_THAT(error("on:labels=1.5"), HasSubstr("labels must be a whole number"));
  EXPECT_THAT(error("on:seed=3"), HasSubstr("on has no parameter seed"));
  EXPECT_THAT(error("off:rows=3"), HasSubstr("got off:rows=3"));
  EXPECT_THAT(error("on", "independent"), HasSubstr("must be off unless --order is sequential"));
  EXPECT_EQ(error("off", "independent"), "");
}

TEST(CompletePruneFlags, RefusesFlagsThatSayALayer) {
  PruneFlags flags = Least();
  flags.job.layer = 3;
  EXPECT_THAT(TextOf(CompletePruneFlags(flags).status()), HasSubstr("--layer is for jobs"));
}

TEST(CheckNoRunFlags, NamesAFlagThatOnlyRunsHave) {
  PruneFlags flags;
  EXPECT_TRUE(CheckNoRunFlags(flags).ok());
  flags.skips = {"q"};
  EXPECT_EQ(TextOf(CheckNoRunFlags(flags)), "--skip needs --run");
}

}  // namespace
}  // namespace attnprune::cli
