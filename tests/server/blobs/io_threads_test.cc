#include "server/blobs/io_threads.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <numeric>
#include <thread>
#include <vector>

namespace attnprune {
namespace {

TEST(IoThreads, RunEverythingBeforeTheyEnd) {
  std::atomic<int> done{0};
  {
    IoThreads threads(3);
    for (int i = 0; i < 500; ++i) {
      threads.Post([&] {
        ++done;
        threads.Post([&] { ++done; });
      });
    }
  }
  EXPECT_EQ(done, 1000);
}

TEST(Strand, RunsItsTasksOneAtATimeInOrder) {
  std::vector<int> order[4];  // not locked: a strand is all that keeps its vector's tasks apart
  {
    IoThreads threads(4);
    std::vector<std::unique_ptr<Strand>> strands;
    for (int s = 0; s < 4; ++s) strands.push_back(std::make_unique<Strand>(&threads));
    for (int i = 0; i < 300; ++i) {
      for (int s = 0; s < 4; ++s) strands[s]->Post([&order, s, i] { order[s].push_back(i); });
    }
  }
  std::vector<int> expected(300);
  std::iota(expected.begin(), expected.end(), 0);
  for (const std::vector<int>& seen : order) EXPECT_EQ(seen, expected);
}

TEST(Strand, MayBeDestroyedByItsOwnTask) {
  std::atomic<bool> ran{false};
  std::unique_ptr<Strand> strand;  // outlives the threads, so that only the task destroys it
  {
    IoThreads threads(2);
    strand = std::make_unique<Strand>(&threads);
    Strand* const posting = strand.get();
    posting->Post([&] {
      strand.reset();
      ran = true;
    });
  }
  EXPECT_TRUE(ran);
}

TEST(Strand, LetsOthersInBetweenItsTasks) {
  IoThreads threads(1);
  Strand busy(&threads), other(&threads);
  std::vector<char> order;  // one thread
  Mutex gate;
  gate.Lock();
  threads.Post([&] { MutexLock wait(&gate); });
  for (int i = 0; i < 3; ++i) busy.Post([&] { order.push_back('b'); });
  std::atomic<bool> done{false};
  other.Post([&] { order.push_back('o'); });
  busy.Post([&] { done = true; });
  gate.Unlock();
  while (!done) std::this_thread::yield();
  EXPECT_THAT(order, testing::ElementsAre('b', 'o', 'b', 'b'));
}

}  // namespace
}  // namespace attnprune
