// Memory that this process has freed, given back to the system.
#ifndef ATTNPRUNE_SERVER_UPKEEP_UNUSED_MEMORY_H_
#define ATTNPRUNE_SERVER_UPKEEP_UNUSED_MEMORY_H_

#include <cstdint>

namespace attnprune {

// Of this process; 0: the system does not tell.
int64_t ResidentBytes();
// Of them, those of no file: what counts against a limit of memory and cannot be read again.
int64_t ResidentBytesOfNoFile();

// glibc keeps much of what many threads have freed: after a burst of calls, for ever. Returning 250
// MiB of it took 143 ms, looking in vain 7 to 16 ms (2 busy cores), so that it is done only after a
// change. Not thread-safe.
class UnusedMemory {
 public:
  static constexpr int64_t kWorthwhileBytes = int64_t{8} << 20;

  // Whether resident memory has come to differ by kWorthwhileBytes since it was last given back.
  static bool IsWorthwhile(int64_t resident_bytes, int64_t bytes_after_last);

  // Gives back what is unused, where it is worthwhile, and once more the next time: a burst may
  // have been under way.
  void GiveBack();

 private:
  int64_t bytes_after_last_ = 0;
  bool once_more_ = false;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_UPKEEP_UNUSED_MEMORY_H_
