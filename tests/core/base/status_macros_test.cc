#include "core/base/status_macros.h"

#include <gtest/gtest.h>

#include <memory>

namespace attnprune {
namespace {

absl::StatusOr<int> Half(int number) {
  if (number % 2 != 0) return absl::InvalidArgumentError("odd");
  return number / 2;
}

absl::Status RequireEven(int number, int* evaluations) {
  ATTNPRUNE_RETURN_IF_ERROR((++*evaluations, Half(number).status()));
  return absl::OkStatus();
}

absl::StatusOr<int> Quarter(int number) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const int half, Half(number));
  int quarter = 0;
  ATTNPRUNE_ASSIGN_OR_RETURN(quarter, Half(half));
  return quarter;
}

absl::StatusOr<std::unique_ptr<int>> Boxed(int value) { return std::make_unique<int>(value); }

absl::StatusOr<int> Unboxed(int value) {
  ATTNPRUNE_ASSIGN_OR_RETURN(std::unique_ptr<int> box, Boxed(value));
  return *box;
}

TEST(ReturnIfError, GoesOnAfterOk) {
  int evaluations = 0;
  EXPECT_TRUE(RequireEven(4, &evaluations).ok());
  EXPECT_EQ(evaluations, 1);
}

TEST(ReturnIfError, ReturnsTheErrorUnchangedAndEvaluatesOnce) {
  int evaluations = 0;
  EXPECT_EQ(RequireEven(3, &evaluations), absl::InvalidArgumentError("odd"));
  EXPECT_EQ(evaluations, 1);
}

TEST(AssignOrReturn, DeclaresAndAssigns) {
  const absl::StatusOr<int> quarter = Quarter(12);
  ASSERT_TRUE(quarter.ok()) << quarter.status();
  EXPECT_EQ(*quarter, 3);
}

TEST(AssignOrReturn, ReturnsTheFirstError) {
  EXPECT_EQ(Quarter(7).status(), absl::InvalidArgumentError("odd"));
  EXPECT_EQ(Quarter(6).status(), absl::InvalidArgumentError("odd"));
}

TEST(AssignOrReturn, MovesAValueThatCannotBeCopied) {
  const absl::StatusOr<int> value = Unboxed(5);
  ASSERT_TRUE(value.ok()) << value.status();
  EXPECT_EQ(*value, 5);
}

}  // namespace
}  // namespace attnprune
