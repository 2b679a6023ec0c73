// A disk for SQLite that loses power.
#ifndef ATTNPRUNE_TESTS_SERVER_QUEUE_SQLITE_POWER_LOSS_VFS_H_
#define ATTNPRUNE_TESTS_SERVER_QUEUE_SQLITE_POWER_LOSS_VFS_H_

namespace attnprune::testing {

inline constexpr int kPowerLost = 77;  // exit status

enum class Syncs {
  kHonest,
  kIgnored,  // a disk that lies: nothing is safe before the power is gone
};

// From now on all of SQLite's files in this process are on such a disk. Just before the `at`-th
// change to one (write, truncation, sync, removal; from 1) the power goes: of the writes that no
// sync has made safe each is kept, torn or lost, drawn from `at`, and the process ends with
// kPowerLost. For a forked child with one thread.
void InstallPowerLoss(int at, Syncs syncs);

}  // namespace attnprune::testing

#endif  // ATTNPRUNE_TESTS_SERVER_QUEUE_SQLITE_POWER_LOSS_VFS_H_
