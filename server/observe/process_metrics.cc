#include "server/observe/process_metrics.h"

#include <sys/resource.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <system_error>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"

namespace attnprune {
namespace {

std::string ReadFile(const char* path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

// Fields of /proc/self/stat from the third on; the second, the name, may hold spaces. proc(5).
std::vector<double> StatFields() {
  const std::string stat = ReadFile("/proc/self/stat");
  const size_t name_end = stat.rfind(')');
  std::vector<double> fields;
  if (name_end == std::string::npos) return fields;
  for (const absl::string_view part :
       absl::StrSplit(absl::string_view(stat).substr(name_end + 1), ' ', absl::SkipEmpty())) {
    double value = 0;
    if (!absl::SimpleAtod(part, &value)) value = 0;  // the state, a letter
    fields.push_back(value);
  }
  return fields;
}

double BootTime() {
  double seconds = 0;
  for (const absl::string_view line : absl::StrSplit(ReadFile("/proc/stat"), '\n')) {
    const std::vector<absl::string_view> words = absl::StrSplit(line, ' ');
    if (words.size() == 2 && words[0] == "btime" && absl::SimpleAtod(words[1], &seconds)) break;
  }
  return seconds;
}

void AddStat(Exposition& out) {
  constexpr size_t kUser = 11, kSystem = 12, kThreads = 17, kStart = 19, kVirtual = 20, kPages = 21;
  const std::vector<double> fields = StatFields();
  if (fields.size() <= kPages) return;
  const auto ticks = static_cast<double>(sysconf(_SC_CLK_TCK));
  const auto page = static_cast<double>(sysconf(_SC_PAGESIZE));
  out.Count("process_cpu_seconds_total", "User and system time of this process.",
            (fields[kUser] + fields[kSystem]) / ticks);
  out.Gauge("process_threads", "Threads of this process.", fields[kThreads]);
  out.Gauge("process_start_time_seconds", "When this process began, since 1970.",
            BootTime() + fields[kStart] / ticks);
  out.Gauge("process_virtual_memory_bytes", "Address space in use.", fields[kVirtual]);
  out.Gauge("process_resident_memory_bytes", "Memory in use.", fields[kPages] * page);
}

void AddFiles(Exposition& out) {
  std::error_code error;
  const std::filesystem::directory_iterator files("/proc/self/fd", error);
  if (!error) {
    out.Gauge("process_open_fds", "Open file descriptors.",
              static_cast<double>(std::distance(begin(files), end(files))));
  }
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    out.Gauge("process_max_fds", "File descriptors that may be open.",
              static_cast<double>(limit.rlim_cur));
  }
}

}  // namespace

void AddProcessMetrics(Exposition& out) {
  AddStat(out);
  AddFiles(out);
}

void AddDiskMetrics(const std::string& folder, Exposition& out) {
  struct statvfs disk {};
  if (statvfs(folder.c_str(), &disk) != 0) return;
  const auto block = static_cast<double>(disk.f_frsize);
  out.Gauge("attnprune_disk_free_bytes", "Free on the file system of the data folder.",
            static_cast<double>(disk.f_bavail) * block);
  out.Gauge("attnprune_disk_size_bytes", "Size of the file system of the data folder.",
            static_cast<double>(disk.f_blocks) * block);
}

}  // namespace attnprune
