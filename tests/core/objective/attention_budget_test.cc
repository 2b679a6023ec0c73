#include "core/objective/attention_budget.h"

#include <gtest/gtest.h>

#include "tests/core/objective/core_objective.h"
#include "tests/reference/problems.h"

namespace attnprune {
namespace {

TEST(AttentionBudget, GivesWhatItHasAndNoMore) {
  AttentionBudget budget(100);
  EXPECT_TRUE(budget.Take(60));
  EXPECT_FALSE(budget.Take(41));
  EXPECT_TRUE(budget.Take(40));
  EXPECT_FALSE(budget.Take(1));
  budget.GiveBack(60);
  EXPECT_TRUE(budget.Take(60));
}

TEST(AttentionBudget, GetsBackWhatAnObjectiveHeld) {
  constexpr int64_t kRoom = 1 << 20;
  AttentionBudget budget(kRoom);
  {
    CoreObjective objective(reference::AllRows().front().problem, 1, {.budget = &budget});
    EXPECT_FALSE(budget.Take(kRoom)) << "the objective took nothing";
  }
  EXPECT_TRUE(budget.Take(kRoom));
}

}  // namespace
}  // namespace attnprune
