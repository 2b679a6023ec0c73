#include "server/execution/cgroup_memory.h"

#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/api/temporary_folder.h"

namespace attnprune {
namespace {

using ::testing::Eq;
using ::testing::Optional;

using Files = std::vector<std::pair<std::string, std::string>>;  // path below the root, text

// What a process with these files in its /proc and /sys would take for its limit.
absl::optional<int64_t> LimitWith(const Files& files) {
  const TemporaryFolder root;
  for (const auto& [path, text] : files) {
    const std::filesystem::path file = root.path() + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file) << text;
  }
  return CgroupMemoryLimit(root.path());
}

constexpr char kProc[] = "/proc/self/cgroup";

TEST(CgroupMemoryLimit, IsNoneWithoutCgroupsOrWithoutALimit) {
  EXPECT_EQ(LimitWith({}), absl::nullopt);
  EXPECT_EQ(LimitWith({{kProc, "0::/\n"}}), absl::nullopt);
  EXPECT_EQ(LimitWith({{kProc, "0::/a\n"}, {"/sys/fs/cgroup/a/memory.max", "max\n"}}),
            absl::nullopt);
  EXPECT_EQ(LimitWith({{kProc, "nonsense\n\n0:\n"}}), absl::nullopt);
}

TEST(CgroupMemoryLimit, IsAContainersWhichSeesItsCgroupAsTheTopmost) {
  EXPECT_THAT(LimitWith({{kProc, "0::/\n"}, {"/sys/fs/cgroup/memory.max", "1073741824\n"}}),
              Optional(Eq(1073741824)));
}

TEST(CgroupMemoryLimit, IsMemoryMaxOfASystemdUnit) {
  EXPECT_THAT(LimitWith({{kProc, "0::/system.slice/attnprune.service\n"},
                         {"/sys/fs/cgroup/system.slice/memory.max", "max\n"},
                         {"/sys/fs/cgroup/system.slice/attnprune.service/memory.max", "500\n"}}),
              Optional(Eq(500)));
}

TEST(CgroupMemoryLimit, IsTheSmallestOfAllAbove) {
  EXPECT_THAT(LimitWith({{kProc, "0::/a/b/c\n"},
                         {"/sys/fs/cgroup/a/memory.max", "300\n"},
                         {"/sys/fs/cgroup/a/b/memory.max", "200\n"},
                         {"/sys/fs/cgroup/a/b/c/memory.max", "400\n"},
                         {"/sys/fs/cgroup/a/other/memory.max", "1\n"}}),
              Optional(Eq(200)));
}

TEST(CgroupMemoryLimit, IsVersion1s) {
  const char* const lines = "12:cpu,cpuacct:/a\n4:memory:/docker/0123\n0::/docker/0123\n";
  EXPECT_THAT(LimitWith({{kProc, lines},
                         {"/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"},
                         {"/sys/fs/cgroup/memory/docker/0123/memory.limit_in_bytes", "700\n"},
                         {"/sys/fs/cgroup/cpu,cpuacct/a/memory.limit_in_bytes", "1\n"}}),
              Optional(Eq(700)));
}

TEST(CgroupMemoryLimit, IsVersion1sInAContainerThatHasTheHostsPathInItsFile) {
  EXPECT_THAT(LimitWith({{kProc, "4:hugetlb,memory:/docker/0123\n"},
                         {"/sys/fs/cgroup/memory/memory.limit_in_bytes", "700\n"}}),
              Optional(Eq(700)));
}

TEST(CgroupMemoryLimit, IsVersion2sBesideVersion1) {
  EXPECT_THAT(LimitWith({{kProc, "4:memory:/\n0::/a:b\n"},
                         {"/sys/fs/cgroup/memory/memory.limit_in_bytes", "900\n"},
                         {"/sys/fs/cgroup/unified/a:b/memory.max", "800\n"}}),
              Optional(Eq(800)));
}

}  // namespace
}  // namespace attnprune
