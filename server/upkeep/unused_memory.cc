#include "server/upkeep/unused_memory.h"

#include <malloc.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>

namespace attnprune {

int64_t ResidentBytes() {
  int64_t all = 0, resident = 0;
  if (!(std::ifstream("/proc/self/statm") >> all >> resident)) return 0;
  return resident * sysconf(_SC_PAGESIZE);
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
