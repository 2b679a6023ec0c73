// The reference against closed forms and against differences of its own loss.
#include "tests/reference/attention_reference.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/reference/algorithm1.h"
#include "tests/reference/gradient_check.h"
#include "tests/reference/problems.h"

namespace attnprune::reference {
namespace {

using Kind = AttentionMask::Kind;

TEST(AllowedKeys, OfFiveTokensAreThoseOfThePaper) {
  const auto picture = [](AttentionMask mask) {
    std::string out;
    for (Index i = 0; i < 5; ++i) {
      for (Index j = 0; j < 5; ++j) out += Allowed(mask, i, j) ? '1' : '.';
      out += ' ';
    }
    return out;
  };
  EXPECT_EQ(picture({Kind::kCausal, 0}), "1.... 11... 111.. 1111. 11111 ");
  EXPECT_EQ(picture({Kind::kFull, 0}), "11111 11111 11111 11111 11111 ");
  EXPECT_EQ(picture({Kind::kBlock, 2}), "1.... 11... ..1.. ..11. ....1 ");
  EXPECT_EQ(picture({Kind::kWindow, 2}), "1.... 11... .11.. ..11. ...11 ");
}

// Logits (0, log 3) under a causal mask: rows (1, 0) and (1/4, 3/4).
TEST(Softmax, IsExactOnLogitsThatAreLogarithms) {
  Dense logits(2, 2);
  logits << 0, 1000, 0, std::log(3.0);
  Dense expected(2, 2);
  expected << 1, 0, 0.25, 0.75;
  EXPECT_TRUE(Near(Softmax(logits, {Kind::kCausal, 0}), expected, 1e-15));
}

// Position 1, theta 10000, head_dim 2: the only angle is 1 in either layout.
TEST(Rotate, TurnsTheSecondTokenByOneRadian) {
  Dense q(2, 2);
  q << 1, 0, 1, 0;
  Dense expected(2, 2);
  expected << 1, 0, std::cos(1.0), std::sin(1.0);
  for (RopeLayout layout : {RopeLayout::kRotateHalf, RopeLayout::kInterleaved}) {
    EXPECT_TRUE(Near(Rotate(q, {10000, layout}, Rotation::kForward), expected, 1e-15));
  }
}

// head_dim 4: the unit vector of feature 1 pairs with feature 3 (halves) or 0 (neighbours).
TEST(Rotate, PairsFeaturesAsTheLayoutSays) {
  Dense q = Dense::Zero(2, 4);
  q(1, 1) = 1;
  Dense half = Dense::Zero(2, 4), interleaved = Dense::Zero(2, 4);
  half(1, 1) = std::cos(0.01);  // the slower frequency, 10000^(-1/2)
  half(1, 3) = std::sin(0.01);
  interleaved(1, 0) = -std::sin(1.0);
  interleaved(1, 1) = std::cos(1.0);
  EXPECT_TRUE(Near(Rotate(q, {10000, RopeLayout::kRotateHalf}, Rotation::kForward), half, 1e-15));
  EXPECT_TRUE(
      Near(Rotate(q, {10000, RopeLayout::kInterleaved}, Rotation::kForward), interleaved, 1e-15));
}

TEST(Rotate, IsUndoneByItsInverse) {
  const Dense q = RandomFused({.d = 6, .lengths = {9}}, {}, 5).batches[0];
  for (RopeLayout layout : {RopeLayout::kRotateHalf, RopeLayout::kInterleaved}) {
    const Rope rope = {100, layout};
    const Dense turned = Rotate(q, rope, Rotation::kForward);
    EXPECT_TRUE(Near(Rotate(turned, rope, Rotation::kTransposed), q, 1e-14));
  }
}

TEST(Binarize, PrunesTheLowerOfTwoEqualEntries) {
  Dense mask(2, 3), expected(2, 3);
  mask << 5, 1, 3, 1, 1, 2;
  expected << 1, 0, 1, 0, 1, 1;
  EXPECT_EQ(Binarize(mask, 2), expected);
}

TEST(BinarizeGroups, RunsAlongTheInputs) {
  Dense mask(2, 2), across(2, 2), down(2, 2);
  mask << 1, 2, 4, 3;
  across << 0, 1, 1, 0;
  down << 0, 0, 1, 1;
  EXPECT_EQ(BinarizeGroups(mask, 1, 2, Inputs::kColumns), across);
  EXPECT_EQ(BinarizeGroups(mask, 1, 2, Inputs::kRows), down);
}

class ReferenceGradient : public ::testing::TestWithParam<ProblemRow> {
 protected:
  ::testing::AssertionResult AgreesWithDifferences(const std::vector<Dense>& gradients) const {
    const NumericGradients numeric =
        CentralDifferences(GetParam().problem, GetParam().masks, GetParam().lambda);
    return Near(gradients, numeric.value, numeric.error);
  }
  std::vector<Dense> Gradients(P1 p1 = P1::kDefinition) const {
    return MaskGradients(GetParam().problem, GetParam().masks, GetParam().lambda, p1);
  }
};
INSTANTIATE_TEST_SUITE_P(Rows, ReferenceGradient, ::testing::ValuesIn(AllRows()),
                         [](const auto& row) { return TestName(row.param.sentence); });

TEST_P(ReferenceGradient, AgreesWithCentralDifferences) {
  EXPECT_TRUE(AgreesWithDifferences(Gradients()));
}

TEST_P(ReferenceGradient, IsRejectedWhenAnyOneEntryIsSpoiled) {
  const NumericGradients numeric =
      CentralDifferences(GetParam().problem, GetParam().masks, GetParam().lambda);
  for (size_t w = 0; w < GetParam().masks.size(); ++w) {
    std::vector<Dense> spoiled = Gradients();
    const double size = std::max(spoiled[w].cwiseAbs().maxCoeff(), 0.1);
    for (Index e = 0; e < spoiled[w].size(); ++e) {
      const double right = spoiled[w].data()[e];
      spoiled[w].data()[e] = right + 0.01 * size;  // one part in a hundred of the largest entry
      EXPECT_FALSE(Near(spoiled, numeric.value, numeric.error)) << "weight " << w << " entry " << e;
      spoiled[w].data()[e] = right;
    }
  }
}

class ReferenceGradientOfALoss : public ReferenceGradient {};
INSTANTIATE_TEST_SUITE_P(Rows, ReferenceGradientOfALoss, ::testing::ValuesIn(RowsWithLoss()),
                         [](const auto& row) { return TestName(row.param.sentence); });

TEST_P(ReferenceGradientOfALoss, IsRejectedWithTheMisprintedP1) {
  EXPECT_FALSE(AgreesWithDifferences(Gradients(P1::kMisprint)));
}

class RegularizedReferenceGradient : public ReferenceGradient {};
INSTANTIATE_TEST_SUITE_P(Rows, RegularizedReferenceGradient, ::testing::ValuesIn(RegularizedRows()),
                         [](const auto& row) { return TestName(row.param.sentence); });

TEST_P(RegularizedReferenceGradient, IsRejectedWithoutItsRegularization) {
  EXPECT_FALSE(AgreesWithDifferences(MaskGradients(GetParam().problem, GetParam().masks, 0)));
}

TEST_P(ReferenceGradientOfALoss, IsRejectedWithAnotherScale) {
  AttentionProblem rescaled = GetParam().problem;
  rescaled.scale = 1.01 * rescaled.effective_scale();
  EXPECT_FALSE(AgreesWithDifferences(MaskGradients(rescaled, GetParam().masks, GetParam().lambda)));
}

}  // namespace
}  // namespace attnprune::reference
