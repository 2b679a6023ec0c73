// What many calls of one tenant leave to another.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <future>
#include <thread>
#include <vector>

#include "tests/server/grpc/access_world.h"

namespace attnprune::rpc {
namespace {

grpc::Status Ask(AccessWorld& world, const std::string& who) {
  const std::unique_ptr<grpc::ClientContext> context = world.Context(who);
  context->set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(60));
  v1::ServerInfo info;
  return world.prune().GetServerInfo(context.get(), {}, &info);
}

// Eight calls whose ends are not noted before `noted`, of whichever callers the test picks.
class StuckCalls {
 public:
  StuckCalls(AccessWorld& world, const std::string& who, const std::string& tenant) {
    world.OnCallEnd([this, tenant](const FinishedRpc& call) {
      if (call.caller.tenant != tenant) return;
      ++stuck_;
      noted_.wait();
    });
    calls_.reserve(8);
    for (int i = 0; i < 8; ++i) {
      calls_.emplace_back([&world, who] { Ask(world, who); });
    }
    while (stuck_ < 3) std::this_thread::yield();
  }
  ~StuckCalls() { note_.set_value(); }

 private:
  std::promise<void> note_;
  const std::shared_future<void> noted_ = note_.get_future().share();
  std::atomic<int> stuck_{0};
  std::vector<std::jthread> calls_;
};

TEST(AccessFairness, CallsOfOneTenantThatAreNotThroughLeaveAThreadToAnother) {
  AccessWorld world;
  const StuckCalls calls(world, "mine-reader", "mine");
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(Ask(world, "other-reader").ok());
}

TEST(AccessFairness, RefusedCallsThatAreNotThroughLeaveAThreadToWhoHasAToken) {
  AccessWorld world;
  const StuckCalls calls(world, "wrong", "");
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(Ask(world, "other-reader").ok());
}

}  // namespace
}  // namespace attnprune::rpc
