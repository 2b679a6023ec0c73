#include "core/base/thread_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <barrier>
#include <chrono>
#include <cmath>
#include <new>
#include <set>
#include <thread>
#include <vector>

namespace attnprune {
namespace {

using ::testing::Each;
using ::testing::Eq;

class AnyThreadCount : public ::testing::TestWithParam<int> {};

INSTANTIATE_TEST_SUITE_P(ThreadPool, AnyThreadCount, ::testing::Values(1, 2, 3, 4, 16),
                         testing::PrintToStringParamName());

TEST_P(AnyThreadCount, IsTheNumberAskedFor) {
  EXPECT_EQ(ThreadPool(GetParam()).threads(), GetParam());
}

TEST_P(AnyThreadCount, RunsEachShardExactlyOnce) {
  ThreadPool pool(GetParam());
  for (const std::ptrdiff_t shards : {0, 1, 2, 3, 7, 64, 1000}) {
    // Plain ints: a shard that ran twice at once would also be a race that TSan reports.
    std::vector<int> runs(static_cast<size_t>(shards), 0);
    pool.ParallelFor(shards, [&](std::ptrdiff_t i) { ++runs[static_cast<size_t>(i)]; });
    EXPECT_THAT(runs, Each(Eq(1))) << shards << " shards";
  }
}

TEST_P(AnyThreadCount, HasFinishedEveryShardOnReturnOfEveryCall) {
  ThreadPool pool(GetParam());
  constexpr std::ptrdiff_t kShards = 5;
  std::vector<long> totals(kShards, 0);
  for (long call = 1; call <= 2000; ++call) {
    pool.ParallelFor(kShards, [&](std::ptrdiff_t i) { totals[static_cast<size_t>(i)] += call; });
    // Read by this thread without a lock: any shard still running would be seen here or by TSan.
    ASSERT_THAT(totals, Each(Eq(call * (call + 1) / 2))) << "call " << call;
  }
}

TEST_P(AnyThreadCount, LetsAShardUseAPoolOfItsOwn) {
  ThreadPool outer(GetParam());
  std::vector<std::vector<int>> runs(4, std::vector<int>(8, 0));
  outer.ParallelFor(4, [&](std::ptrdiff_t i) {
    ThreadPool inner(2);
    std::vector<int>& row = runs[static_cast<size_t>(i)];
    inner.ParallelFor(8, [&](std::ptrdiff_t j) { ++row[static_cast<size_t>(j)]; });
  });
  for (const std::vector<int>& row : runs) EXPECT_THAT(row, Each(Eq(1)));
}

// The rule that the whole core relies on: shards write apart, the caller sums in shard order.
TEST_P(AnyThreadCount, GivesTheSumOfShardsTheSameBits) {
  constexpr std::ptrdiff_t kShards = 257;
  const auto sum = [](ThreadPool& pool) {
    std::vector<float> parts(kShards);
    pool.ParallelFor(kShards, [&](std::ptrdiff_t i) {
      parts[static_cast<size_t>(i)] = std::sin(static_cast<float>(i)) * 1e3f;
    });
    float total = 0;
    for (const float part : parts) total += part;
    return total;
  };
  ThreadPool one(1), many(GetParam());
  EXPECT_EQ(sum(one), sum(many));
}

TEST_P(AnyThreadCount, ThrowsWhatAShardThrewOnceAllOthersHaveRun) {
  ThreadPool pool(GetParam());
  std::atomic<int> ran{0};
  const auto throw_twice = [&ran](std::ptrdiff_t i) {
    ++ran;
    if (i == 3 || i == 40) throw std::bad_alloc();
  };
  EXPECT_THROW(pool.ParallelFor(50, throw_twice), std::bad_alloc);
  EXPECT_EQ(ran, 50);
  pool.ParallelFor(2, [&ran](std::ptrdiff_t) { ++ran; });  // and is as good as new
  EXPECT_EQ(ran, 52);
}

// With as many shards as threads that all wait for each other, nobody can help: each runs its own.
TEST(ThreadPool, GivesEveryThreadTheSameShareAtEveryCall) {
  constexpr int kThreads = 3;
  ThreadPool pool(kThreads);
  for (int call = 0; call < 20; ++call) {
    std::barrier everybody(kThreads);
    std::vector<int> worker_of(kThreads, -1);
    pool.ParallelFor(kThreads, [&](std::ptrdiff_t shard, int worker) {
      worker_of[static_cast<size_t>(shard)] = worker;
      everybody.arrive_and_wait();
    });
    EXPECT_THAT(worker_of, ::testing::ElementsAre(0, 1, 2));
  }
}

TEST(ThreadPool, StartsShardsInOrderOfIndexOnOneThread) {
  ThreadPool pool(1);
  std::vector<std::ptrdiff_t> order;
  pool.ParallelFor(5, [&](std::ptrdiff_t i) { order.push_back(i); });
  EXPECT_THAT(order, ::testing::ElementsAre(0, 1, 2, 3, 4));
}

TEST(ThreadPool, RunsShardsOnAsManyThreadsAsItHas) {
  constexpr int kThreads = 3;
  ThreadPool pool(kThreads);
  std::atomic<int> arrived{0};
  std::vector<std::thread::id> ids(kThreads);
  // No shard ends before all have begun, which takes that many threads.
  pool.ParallelFor(kThreads, [&](std::ptrdiff_t i) {
    ids[static_cast<size_t>(i)] = std::this_thread::get_id();
    arrived.fetch_add(1);
    while (arrived.load() < kThreads) std::this_thread::yield();
  });
  EXPECT_EQ(std::set<std::thread::id>(ids.begin(), ids.end()).size(),
            static_cast<size_t>(kThreads));
  EXPECT_THAT(ids, ::testing::Contains(std::this_thread::get_id()));
}

// Two shards of one worker at a time would race for its number: TSan reports it, and so does this.
TEST_P(AnyThreadCount, GivesNoTwoShardsThatRunAtOnceTheSameWorker) {
  ThreadPool pool(GetParam());
  std::vector<int> inside(static_cast<size_t>(pool.threads()), 0);
  std::atomic<int> clashes{0};
  pool.ParallelFor(2000, [&](std::ptrdiff_t, int worker) {
    int& mine = inside.at(static_cast<size_t>(worker));
    if (++mine != 1) ++clashes;
    std::this_thread::yield();
    --mine;
  });
  EXPECT_EQ(clashes, 0);
}

// Longer than who waits looks again before it goes to sleep.
TEST(ThreadPool, WakesThreadsThatHaveGoneToSleep) {
  ThreadPool pool(2);
  for (int call = 0; call < 5; ++call) {
    std::atomic<int> runs{0};
    const auto later = std::chrono::steady_clock::now() + std::chrono::milliseconds(1);
    while (std::chrono::steady_clock::now() < later) std::this_thread::yield();
    pool.ParallelFor(2, [&](std::ptrdiff_t) {
      runs.fetch_add(1);
      while (runs.load() < 2) std::this_thread::yield();  // takes both threads
    });
    EXPECT_EQ(runs, 2);
  }
}

TEST(ThreadPool, EndsWithoutHavingRunAnything) {
  for (int i = 0; i < 200; ++i) ThreadPool pool(4);
}

}  // namespace
}  // namespace attnprune
