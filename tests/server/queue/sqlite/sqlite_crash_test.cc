// The power goes at every change that SQLite makes to a file: what was acknowledged is there, and
// of the call in progress all or nothing.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <iostream>

#include "tests/server/queue/sqlite/power_loss_vfs.h"
#include "tests/server/queue/sqlite/scenario.h"

namespace attnprune::testing {
namespace {

struct Crash {
  bool happened = false;  // false: the scenario ran to its end first
  int acknowledged = 0;   // steps that were OK before
};

// In a child: the scenario on a disk that loses power at its `at`-th change.
[[noreturn]] void RunUntilPowerLoss(const std::string& folder, int at, Syncs syncs, int pipe_end) {
  InstallPowerLoss(at, syncs);
  {
    SteppedClock clock;
    const auto opened = OpenStore(folder, {.clock = &clock});
    if (!opened.ok()) _exit(1);
    Scenario scenario(opened->store.get(), &clock);
    for (int i = 0; i < Scenario::Steps(); ++i) {
      if (!scenario.Step().ok() || write(pipe_end, "+", 1) != 1) _exit(2);
    }
  }
  _exit(0);
}

Crash CrashAt(const std::string& folder, int at, Syncs syncs) {
  int ends[2];
  EXPECT_EQ(pipe(ends), 0);
  const pid_t child = fork();
  if (child == 0) RunUntilPowerLoss(folder, at, syncs, ends[1]);
  close(ends[1]);
  Crash crash;
  char acknowledgement;
  while (read(ends[0], &acknowledgement, 1) == 1) ++crash.acknowledged;
  close(ends[0]);
  int status = 0;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status)) << status;
  crash.happened = WEXITSTATUS(status) == kPowerLost;
  EXPECT_TRUE(crash.happened || WEXITSTATUS(status) == 0) << "exit " << WEXITSTATUS(status);
  return crash;
}

// Whether the store holds all acknowledged steps and at most the one more.
bool KeptItsPromise(const std::string& dump, const Crash& crash,
                    const std::vector<std::string>& expected) {
  const auto steps = static_cast<size_t>(crash.acknowledged);
  return dump == expected[steps] || (steps + 1 < expected.size() && dump == expected[steps + 1]);
}

TEST(SqliteJobStoreCrash, LosesNothingAcknowledgedWhereverThePowerGoes) {
  const std::vector<std::string> expected = ExpectedDumps();
  int at = 0;
  for (bool crashed = true; crashed && !HasFailure();) {
    ScratchFolder folder;
    const Crash crash = CrashAt(folder.path(), ++at, Syncs::kHonest);
    const std::string dump = DumpAfterRestart(folder.path());
    EXPECT_TRUE(KeptItsPromise(dump, crash, expected))
        << "at change " << at << " after " << crash.acknowledged << " acknowledged steps:\n"
        << dump << "instead of:\n"
        << expected[static_cast<size_t>(crash.acknowledged)];
    crashed = crash.happened;
  }
  EXPECT_GT(at, 2 * Scenario::Steps()) << "each step is at least a write and a sync";
  std::cout << "power lost at each of " << at - 1 << " changes\n";
}

// The tester's test.
TEST(SqliteJobStoreCrash, IsSeenToLoseStepsOnADiskThatIgnoresSyncs) {
  const std::vector<std::string> expected = ExpectedDumps();
  int broken = 0;
  for (int at = 20; at <= 100; at += 8) {
    ScratchFolder folder;
    const Crash crash = CrashAt(folder.path(), at, Syncs::kIgnored);
    broken += KeptItsPromise(DumpAfterRestart(folder.path()), crash, expected) ? 0 : 1;
  }
  EXPECT_GT(broken, 0);
}

}  // namespace
}  // namespace attnprune::testing
