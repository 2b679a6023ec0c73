#include "core/io/mapping_guard.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <mutex>

#include "absl/strings/str_cat.h"

namespace attnprune {

// Places in a list that only grows, so that a signal handler can walk it. An address is in a
// place's mapping only between its begin and its end: end is set last and cleared first.
class GuardedMapping {
 public:
  std::atomic<uintptr_t> begin{0}, end{0};
  std::atomic<bool> taken{false}, damaged{false};
  GuardedMapping* next = nullptr;
  // Of its holder.
  int fd = -1;
  std::string path;
};

namespace {

std::atomic<GuardedMapping*> all_mappings{nullptr};
struct sigaction former_action;
uintptr_t page_bytes = 4096;

GuardedMapping* FindMapping(uintptr_t address) {
  for (GuardedMapping* place = all_mappings.load(); place != nullptr; place = place->next) {
    if (address < place->end.load() && address >= place->begin.load()) return place;
  }
  return nullptr;
}

// Zeros from the address's page to the mapping's end: what is behind a truncated file's end is gone
// as well. Only system calls.
bool PutZeros(GuardedMapping* place, uintptr_t address) {
  const uintptr_t page = address / page_bytes * page_bytes;
  void* const start = reinterpret_cast<void*>(page);  // NOLINT(performance-no-int-to-ptr): a page
  void* const zeros = mmap(start, place->end.load() - page, PROT_READ,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
  if (zeros == MAP_FAILED) return false;
  place->damaged.store(true);
  return true;
}

// Returning repeats the read: of zeros, or as the process would have it without us.
void OnBusError(int signal, siginfo_t* info, void*) {
  const int error = errno;
  const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
  GuardedMapping* const place = FindMapping(address);
  if (place == nullptr || !PutZeros(place, address)) sigaction(signal, &former_action, nullptr);
  errno = error;
}

void TakeOverBusErrors() {
  page_bytes = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  struct sigaction action {};
  action.sa_sigaction = OnBusError;
  action.sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK;
  sigemptyset(&action.sa_mask);
  sigaction(SIGBUS, &action, &former_action);
}

GuardedMapping* TakePlace() {
  for (GuardedMapping* place = all_mappings.load(); place != nullptr; place = place->next) {
    if (!place->taken.exchange(true)) return place;
  }
  auto* const place = new GuardedMapping;
  place->taken.store(true);
  place->next = all_mappings.load();
  while (!all_mappings.compare_exchange_weak(place->next, place)) {
  }
  return place;
}

}  // namespace

GuardedMapping* GuardMapping(const void* data, size_t size, int fd, const std::string& path) {
  static std::once_flag once;
  std::call_once(once, TakeOverBusErrors);
  GuardedMapping* const place = TakePlace();
  place->damaged.store(false);
  place->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  place->path = path;
  place->begin.store(reinterpret_cast<uintptr_t>(data));
  place->end.store(reinterpret_cast<uintptr_t>(data) + size);
  return place;
}

void ReleaseMapping(GuardedMapping* mapping) {
  if (mapping == nullptr) return;
  mapping->end.store(0);
  if (mapping->fd >= 0) close(mapping->fd);
  mapping->taken.store(false);
}

absl::Status CheckMapped(absl::Span<const char> bytes) {
  const auto address = reinterpret_cast<uintptr_t>(bytes.data());
  const GuardedMapping* const place = bytes.empty() ? nullptr : FindMapping(address);
  if (place == nullptr) return absl::OkStatus();
  const auto size = static_cast<int64_t>(place->end.load() - place->begin.load());
  struct stat facts {};
  const int64_t now = fstat(place->fd, &facts) == 0 ? facts.st_size : size;
  if (now < size) {
    return absl::DataLossError(absl::StrCat(place->path, ": was truncated to ", now, " of its ",
                                            size, " bytes while it was read"));
  }
  if (!place->damaged.load()) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat(place->path, ": could not be read: its disk failed, or it was truncated"));
}

}  // namespace attnprune
