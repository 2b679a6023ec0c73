#include "server/upkeep/unused_memory.h"

#include <malloc.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

namespace attnprune {

namespace {

struct Pages {
  int64_t resident = 0, of_files = 0;
};

Pages OwnPages() {
  int64_t all = 0;
  Pages pages;
  if (!(std::ifstream("/proc/self/statm") >> all >> pages.resident >> pages.of_files)) return {};
  return pages;
}

}  // namespace

int64_t ResidentBytes() { return OwnPages().resident * sysconf(_SC_PAGESIZE); }

int64_t ResidentBytesOfNoFile() {
  const Pages pages = OwnPages();
  return (pages.resident - pages.of_files) * sysconf(_SC_PAGESIZE);
}

bool UnusedMemory::IsWorthwhile(int64_t resident_bytes, int64_t bytes_after_last) {
  return std::abs(resident_bytes - bytes_after_last) >= kWorthwhileBytes;
}

void UnusedMemory::GiveBack() {
  const bool worthwhile = IsWorthwhile(ResidentBytes(), bytes_after_last_);
  if (!worthwhile && !once_more_) return;
  once_more_ = worthwhile;
  malloc_trim(0);
  bytes_after_last_ = ResidentBytes();
}

}  // namespace attnprune
