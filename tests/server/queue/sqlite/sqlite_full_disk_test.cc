// A disk that fills up refuses new work and loses none.
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <sys/resource.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <iostream>

#include "tests/server/queue/job_store_conformance.h"
#include "tests/server/queue/sqlite/sqlite_place.h"
#include "tests/server/queue/store_dump.h"

namespace attnprune::testing {
namespace {

using enum absl::StatusCode;

// 1 MiB: a tmpfs where this process may mount one, else the same limit on the size of any one file.
class SmallDisk {
 public:
  SmallDisk() : is_mounted_(mount("tmpfs", Path(), "tmpfs", 0, "size=1m") == 0) {
    std::cout << (is_mounted_ ? "on a tmpfs of 1 MiB\n" : "under RLIMIT_FSIZE of 1 MiB\n");
    if (is_mounted_) std::ofstream(mount_point_ / "ballast") << std::string(256 << 10, 'x');
    if (!is_mounted_) LimitFiles(1 << 20);
  }
  ~SmallDisk() {
    if (is_mounted_) umount2(Path(), MNT_DETACH);
    if (!is_mounted_) LimitFiles(RLIM_INFINITY);
  }
  std::string folder() const { return mount_point_ / "data"; }

  void MakeRoom() {
    if (is_mounted_) std::filesystem::remove(mount_point_ / "ballast");
    if (!is_mounted_) LimitFiles(8 << 20);
  }

 private:
  const char* Path() const { return mount_point_.path().c_str(); }
  static void LimitFiles(rlim_t bytes) {
    std::signal(SIGXFSZ, SIG_IGN);  // so that write() fails instead
    const rlimit limit = {bytes, RLIM_INFINITY};
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  }

  ScratchFolder mount_point_;
  const bool is_mounted_;
};

NewJob LargeJob(int number) {
  NewJob job = WithRequest(std::to_string(number), "digest");
  job.spec = std::string(8'000, 'x');
  return job;
}

TEST(SqliteJobStoreFullDisk, RefusesNewJobsAndLosesNone) {
  SmallDisk disk;
  std::vector<std::string> accepted;
  {
    const auto opened = OpenStore(disk.folder(), {});
    ASSERT_TRUE(opened.ok()) << opened.status();
    JobStore& store = *opened->store;
    absl::StatusOr<CreateOutcome> outcome = store.Create(LargeJob(0));
    while (outcome.ok() && accepted.size() < 1000) {
      accepted.push_back(outcome->job.id);
      outcome = store.Create(LargeJob(static_cast<int>(accepted.size())));
    }
    EXPECT_EQ(CodeOf(outcome), kResourceExhausted) << outcome.status();
    EXPECT_GT(accepted.size(), 5u);
    EXPECT_EQ(store.List({}, 1000, "")->jobs.size(), accepted.size());
    EXPECT_EQ(CodeOf(store.Create(LargeJob(1'000'000))), kResourceExhausted) << "still full";
    disk.MakeRoom();
    outcome = store.Create(LargeJob(static_cast<int>(accepted.size())));
    ASSERT_TRUE(outcome.ok()) << outcome.status();
    accepted.push_back(outcome->job.id);
  }
  const auto reopened = OpenStore(disk.folder(), {});
  ASSERT_TRUE(reopened.ok()) << reopened.status();
  for (const std::string& id : accepted) {
    const auto job = reopened->store->Get(id);
    ASSERT_TRUE(job.ok()) << job.status();
    EXPECT_EQ(job->spec.size(), 8'000u);
  }
  EXPECT_EQ(reopened->store->List({}, 1000, "")->jobs.size(), accepted.size());
}

TEST(SqliteJobStoreFullDisk, KeepsTheOldCheckpointAndTheJobGoesOn) {
  SmallDisk disk;
  const auto opened = OpenStore(disk.folder(), {});
  ASSERT_TRUE(opened.ok()) << opened.status();
  JobStore& store = *opened->store;
  ASSERT_TRUE(store.Create({}).ok());
  const JobRecord job = **store.Claim("worker", absl::Seconds(1));
  const JobClaim claim = {job.id, job.fence};
  ASSERT_TRUE(store.SaveCheckpoint(claim, "old").ok());
  const absl::Status status = store.SaveCheckpoint(claim, std::string(2 << 20, 'x'));
  EXPECT_EQ(status.code(), kResourceExhausted) << status;
  EXPECT_EQ(*store.ReadCheckpoint(claim), "old");
  const auto files = std::filesystem::directory_iterator(disk.folder() + "/checkpoints");
  EXPECT_EQ(std::distance(files, {}), 1) << "nothing half-written is left";
  ASSERT_TRUE(store.FinishMethod(claim, 0, "result", {}).ok());
  EXPECT_TRUE(store.Finish(claim, JobState::kSucceeded, {}, "").ok());
}

}  // namespace
}  // namespace attnprune::testing
