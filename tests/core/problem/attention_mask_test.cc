#include "core/problem/attention_mask.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <string>

#include "absl/strings/str_cat.h"

namespace attnprune {
namespace {

using ::testing::HasSubstr;
using Kind = AttentionMask::Kind;

// The definitions of attention_mask.h, entry by entry.
bool Allowed(const AttentionMask& mask, Index i, Index j) {
  switch (mask.kind) {
    case Kind::kCausal:
      return j <= i;
    case Kind::kFull:
      return true;
    case Kind::kBlock:
      return j <= i && j / mask.size == i / mask.size;
    case Kind::kWindow:
      return i - mask.size < j && j <= i;
  }
  return false;
}

class EveryAttentionMask : public ::testing::TestWithParam<AttentionMask> {};

TEST_P(EveryAttentionMask, AllowsExactlyTheKeysOfItsDefinition) {
  constexpr Index kTokens = 11;
  for (Index i = 0; i < kTokens; ++i) {
    const AttentionMask::Range keys = GetParam().Keys(i, kTokens);
    for (Index j = 0; j < kTokens; ++j) {
      EXPECT_EQ(keys.begin <= j && j < keys.end, Allowed(GetParam(), i, j))
          << "query " << i << ", key " << j;
    }
  }
}

TEST_P(EveryAttentionMask, AllowsANonEmptyRangeWithinTheTokensWhoseEndsGrow) {
  constexpr Index kTokens = 11;
  AttentionMask::Range before{0, 0};
  for (Index i = 0; i < kTokens; ++i) {
    const AttentionMask::Range keys = GetParam().Keys(i, kTokens);
    EXPECT_LT(keys.begin, keys.end);
    EXPECT_LE(keys.end, kTokens);
    EXPECT_LE(before.begin, keys.begin);
    EXPECT_LE(before.end, keys.end);
    before = keys;
  }
}

TEST_P(EveryAttentionMask, ReadsBackFromItsText) {
  const absl::StatusOr<AttentionMask> read = ParseAttentionMask(ToString(GetParam()));
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(read->kind, GetParam().kind);
  EXPECT_EQ(read->size, GetParam().size);
}

INSTANTIATE_TEST_SUITE_P(
    AttentionMask, EveryAttentionMask,
    ::testing::Values(AttentionMask{Kind::kCausal}, AttentionMask{Kind::kFull},
                      AttentionMask{Kind::kBlock, 1}, AttentionMask{Kind::kBlock, 4},
                      AttentionMask{Kind::kBlock, 11}, AttentionMask{Kind::kBlock, 100},
                      AttentionMask{Kind::kWindow, 1}, AttentionMask{Kind::kWindow, 3},
                      AttentionMask{Kind::kWindow, 11},
                      AttentionMask{Kind::kWindow, std::numeric_limits<Index>::max()}),
    [](const auto& instance) {
      std::string name = ToString(instance.param);
      std::replace(name.begin(), name.end(), ':', '_');
      return name;
    });

TEST(ParseAttentionMask, RefusesEverythingElseWithTheRuleAndTheText) {
  for (const char* text : {"",
                           "Causal",
                           "causal ",
                           " full",
                           "full:3",
                           "block",
                           "block:",
                           "block:0",
                           "block:-3",
                           "block:+3",
                           "block: 3",
                           "block:3 ",
                           "block:3x",
                           "block:0x3",
                           "block:2.5",
                           "window:0",
                           "window:99999999999999999999",
                           "windows:3",
                           "block:3:4",
                           "window:nan"}) {
    const absl::StatusOr<AttentionMask> mask = ParseAttentionMask(text);
    EXPECT_EQ(mask.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(mask.status().message(),
                HasSubstr(absl::StrCat("attention must be causal, full, block:B or window:B with "
                                       "B >= 1, got ",
                                       text)));
  }
}

}  // namespace
}  // namespace attnprune
