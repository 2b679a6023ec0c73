#include "core/text/samples.h"

#include <numeric>

#include "tests/core/text/text_test_util.h"

namespace attnprune {
namespace {

// 0, 1, 2, ...: a window's first id is its start.
Ids Counting(int32_t count) {
  Ids ids(static_cast<size_t>(count));
  std::iota(ids.begin(), ids.end(), 0);
  return ids;
}

std::vector<int64_t> Starts(const TokenWindows& windows) {
  std::vector<int64_t> starts;
  for (int64_t i = 0; i < windows.count(); ++i) starts.push_back(windows.window(i).front());
  return starts;
}

// random.seed(s); [random.getrandbits(32) for _ in range(3)] of CPython 3.11.
TEST(PythonRandom, GivesCPythonsNumbers) {
  PythonRandom zero(0);
  for (const uint32_t word : {3626764237u, 1654615998u, 3255389356u}) {
    EXPECT_EQ(zero.Next32(), word);
  }
  PythonRandom large(0x123456789ABCDEF0u);  // a key of two words
  for (const uint32_t word : {3646699384u, 2523371432u, 4144361526u}) {
    EXPECT_EQ(large.Next32(), word);
  }
}

TEST(PythonRandom, StaysTheSameAfterItsStateIsRenewed) {
  PythonRandom random(42);
  for (int i = 0; i < 2000; ++i) random.Next32();
  EXPECT_EQ(random.Next32(), 426724858u);
}

TEST(PythonRandom, DrawsCPythonsIntegers) {
  PythonRandom random(0);
  for (const int64_t number : {201979, 220500, 21225}) EXPECT_EQ(random.RandInt(0, 356316), number);
  PythonRandom other(7);  // random.seed(7); [random.randint(-3, 4) for _ in range(8)]
  for (const int64_t number : {2, -1, 3, -3, -2, -2, 2, -3})
    EXPECT_EQ(other.RandInt(-3, 4), number);
  EXPECT_EQ(other.RandInt(5, 5), 5);
}

TEST(SampleWindows, BeginWherePythonsScriptsBegin) {
  const Ids tokens = Counting(358'365);  // T - 2048 - 1 = 356316
  const auto windows = SampleWindows(tokens, {.samples = 3});
  ASSERT_THAT(windows, Succeeds());
  EXPECT_EQ(Starts(*windows), (std::vector<int64_t>{201979, 220500, 21225}));
  EXPECT_EQ(windows->length, 2048);
  EXPECT_EQ(windows->ids.size(), 3u * 2048);
  EXPECT_EQ(windows->window(2).back(), 21225 + 2047);
}

TEST(SampleWindows, OneMoreTokenThanAWindowIsEnough) {
  const auto windows = SampleWindows(Counting(5), {.samples = 4, .length = 4, .seed = 9});
  ASSERT_THAT(windows, Succeeds());
  EXPECT_EQ(Starts(*windows), (std::vector<int64_t>{0, 0, 0, 0}));
}

TEST(SampleWindows, NameBothFiguresOfAShortText) {
  EXPECT_THAT(SampleWindows(Counting(2048), {}),
              Fails(kInvalid, "more tokens than a window of 2048, got 2048"));
  EXPECT_THAT(SampleWindows({}, {.length = 1}), Fails(kInvalid, "window of 1, got 0"));
}

TEST(SampleWindows, RefuseWindowsWithoutTokensAndNoWindows) {
  EXPECT_THAT(SampleWindows(Counting(9), {.length = 0}),
              Fails(kInvalid, "length must be at least 1, got 0"));
  EXPECT_THAT(SampleWindows(Counting(9), {.samples = -1, .length = 2}),
              Fails(kInvalid, "samples must be at least 1, got -1"));
}

TEST(ConsecutiveWindows, DropTheRest) {
  const auto windows = ConsecutiveWindows(Counting(11), 4);
  ASSERT_THAT(windows, Succeeds());
  EXPECT_EQ(windows->ids, Counting(8));
  EXPECT_EQ(Starts(*windows), (std::vector<int64_t>{0, 4}));
}

TEST(ConsecutiveWindows, NameBothFiguresOfAShortText) {
  EXPECT_THAT(ConsecutiveWindows(Counting(3), 4), Fails(kInvalid, "one window of 4, got 3"));
  EXPECT_THAT(ConsecutiveWindows(Counting(3), 0), Fails(kInvalid, "length must be at least 1"));
}

}  // namespace
}  // namespace attnprune
