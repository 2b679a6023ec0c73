#include "server/execution/cgroup_memory.h"

#include <algorithm>
#include <fstream>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace attnprune {
namespace {

using Limit = absl::optional<int64_t>;

// Version 2 says "max" for none, version 1 a number near the largest.
Limit ReadLimit(const std::string& file) {
  std::ifstream stream(file);
  std::string text;
  int64_t bytes = 0;
  if (!(stream >> text) || !absl::SimpleAtoi(text, &bytes) || bytes <= 0) return absl::nullopt;
  return bytes;
}

Limit Smaller(Limit a, Limit b) {
  if (!a.has_value() || !b.has_value()) return a.has_value() ? a : b;
  return std::min(*a, *b);
}

// Of `cgroup`, "/a/b", below `mount`, and of all above it.
Limit SmallestUpwards(const std::string& mount, std::string cgroup, const char* file) {
  Limit smallest = ReadLimit(absl::StrCat(mount, "/", file));
  while (cgroup.size() > 1 && cgroup[0] == '/') {
    smallest = Smaller(smallest, ReadLimit(absl::StrCat(mount, cgroup, "/", file)));
    cgroup.resize(cgroup.rfind('/'));
  }
  return smallest;
}

// Of one line of /proc/self/cgroup: NUMBER:CONTROLLERS:PATH; mount: /sys/fs/cgroup.
Limit LimitOfLine(const std::string& mount, const std::string& line) {
  const std::vector<std::string> parts = absl::StrSplit(line, absl::MaxSplits(':', 2));
  if (parts.size() != 3) return absl::nullopt;
  if (parts[0] == "0" && parts[1].empty()) {
    return Smaller(SmallestUpwards(mount, parts[2], "memory.max"),
                   SmallestUpwards(mount + "/unified", parts[2], "memory.max"));
  }
  if (!absl::c_linear_search(absl::StrSplit(parts[1], ','), "memory")) return absl::nullopt;
  return SmallestUpwards(mount + "/memory", parts[2], "memory.limit_in_bytes");
}

}  // namespace

absl::optional<int64_t> CgroupMemoryLimit(const std::string& root) {
  std::ifstream lines(root + "/proc/self/cgroup");
  Limit smallest;
  for (std::string line; std::getline(lines, line);) {
    smallest = Smaller(smallest, LimitOfLine(root + "/sys/fs/cgroup", line));
  }
  return smallest;
}

}  // namespace attnprune
