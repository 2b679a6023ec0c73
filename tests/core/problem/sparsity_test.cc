#include "core/problem/sparsity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "absl/strings/str_cat.h"

namespace attnprune {
namespace {

using ::testing::HasSubstr;

TEST(Sparsity, RoundsTheNumberOfPrunedWeightsDown) {
  EXPECT_EQ(Sparsity::Fraction(0.5).PrunedOf(4096), 2048);
  EXPECT_EQ(Sparsity::Fraction(0.5).PrunedOf(9), 4);
  EXPECT_EQ(Sparsity::Fraction(0.999).PrunedOf(1), 0);
  EXPECT_EQ(Sparsity::Fraction(0).PrunedOf(4096), 0);
  EXPECT_EQ(Sparsity::Fraction(0.5).PrunedOf(0), 0);
}

// 0.29 is stored a little below 29/100, so that the product in double is 28.999999999999996. NumPy
// says 28 too; a mask compared with NumPy's must have the same count.
TEST(Sparsity, RoundsTheProductInDoubleAsNumPyDoes) {
  EXPECT_EQ(Sparsity::Fraction(0.29).PrunedOf(100), 28);
  EXPECT_EQ(Sparsity::Fraction(0.3).PrunedOf(10), 3);
  EXPECT_EQ(Sparsity::Fraction(0.7).PrunedOf(10), 7);
  EXPECT_EQ(Sparsity::Fraction(0.57).PrunedOf(100), 56);
}

TEST(Sparsity, PrunesNOfEveryGroupOfM) {
  EXPECT_EQ(Sparsity::NOfM(2, 4).PrunedOf(4096), 2048);
  EXPECT_EQ(Sparsity::NOfM(1, 4).PrunedOf(16), 4);
  EXPECT_EQ(Sparsity::NOfM(0, 2).PrunedOf(16), 0);
  EXPECT_EQ(Sparsity::NOfM(5, 8).PrunedOf(8), 5);
}

TEST(Sparsity, DoesNotOverflowOnLargeGroups) {
  constexpr Index kGroup = Index{1} << 40;
  EXPECT_EQ(Sparsity::NOfM(kGroup - 1, kGroup).PrunedOf(kGroup), kGroup - 1);
}

TEST(ParseSparsity, ReadsAFraction) {
  for (const char* text : {"0", "0.5", "0.7", "0.999999", "5e-1", ".5", "0.30000000000000004"}) {
    const absl::StatusOr<Sparsity> sparsity = ParseSparsity(text);
    ASSERT_TRUE(sparsity.ok()) << sparsity.status();
    EXPECT_FALSE(sparsity->structured());
    EXPECT_EQ(sparsity->fraction, std::stod(text));
  }
}

TEST(ParseSparsity, ReadsNOfM) {
  const absl::StatusOr<Sparsity> sparsity = ParseSparsity("2:4");
  ASSERT_TRUE(sparsity.ok()) << sparsity.status();
  EXPECT_TRUE(sparsity->structured());
  EXPECT_EQ(sparsity->pruned, 2);
  EXPECT_EQ(sparsity->group, 4);
}

TEST(ParseSparsity, ReadsBackWhatToStringWrites) {
  for (const char* text : {"0.5", "0.30000000000000004", "0.1", "2:4", "0:2", "7:8"}) {
    EXPECT_EQ(ToString(*ParseSparsity(text)), text);
  }
}

TEST(ParseSparsity, RefusesEverythingElseWithTheRuleAndTheText) {
  for (const char* text : {"",
                           "0.5x",
                           " 0.5",
                           "0.5 ",
                           "+0.5",
                           "half",
                           "nan",
                           "-nan",
                           "inf",
                           "1",
                           "1.0",
                           "1.2",
                           "-0.1",
                           "-1e-9",
                           "1e999",
                           "0x0.8",
                           "0,5",
                           "2:4:8",
                           "4:4",
                           "5:4",
                           "-1:4",
                           "2:-4",
                           "0:0",
                           "0:1",
                           "1:0",
                           ":4",
                           "2:",
                           ":",
                           "2 :4",
                           "2: 4",
                           "2.0:4",
                           "+2:4",
                           "1e0:4",
                           "2:4x",
                           "nan:4",
                           "2:inf",
                           "--1",
                           "0.5:0.75",
                           "1:1e400",
                           "1:99999999999999999999",
                           "99999999999999999999:4"}) {
    const absl::StatusOr<Sparsity> sparsity = ParseSparsity(text);
    EXPECT_EQ(sparsity.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(sparsity.status().message(),
                HasSubstr(absl::StrCat("sparsity must be a fraction in [0, 1), or N:M with "
                                       "0 <= N < M and M >= 2, got ",
                                       text)));
  }
}

}  // namespace
}  // namespace attnprune
