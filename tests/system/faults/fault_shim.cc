// Preloaded into a server (LD_PRELOAD): its file system fails when it is told to, and its clock of
// the day jumps. What is told stands in a file that the test maps too (faults.py):
//
//   int64 kinds, first, last, error, count, failed, clock_offset_ns;  char what[200]
//
// Calls of one of `kinds` on what lies in $FAULTS_FOLDER are counted; those from the first-th to
// the last-th fail with `error`; but opening a file that is there never fails with ENOSPC. A write
// that fails has written its first half.
#include <dlfcn.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>

namespace {

enum Kind : int64_t { kWrite = 1, kSync = 2, kRename = 4, kOpen = 8, kTruncate = 16, kMkdir = 32 };

struct Control {
  std::atomic<int64_t> kinds, first, last, error, count, failed, clock_offset_ns;
  char what[200];
};

constexpr int kMostFiles = 1 << 16;
std::atomic<bool> in_folder[kMostFiles];  // by descriptor

Control* MapControl() {
  static Control none{};
  const char* const path = getenv("FAULTS_CONTROL");
  if (path == nullptr) return &none;
  const auto real_open = reinterpret_cast<int (*)(const char*, int, ...)>(dlsym(RTLD_NEXT, "open"));
  const int fd = real_open(path, O_RDWR | O_CLOEXEC);
  void* const memory =
      fd < 0 ? MAP_FAILED
             : mmap(nullptr, sizeof(Control), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  return memory == MAP_FAILED ? &none : static_cast<Control*>(memory);
}

Control& TheControl() {
  static Control& control = *MapControl();
  return control;
}

bool LiesInFolder(const char* path) {
  static const char* const folder = getenv("FAULTS_FOLDER");
  return folder != nullptr && path != nullptr && strncmp(path, folder, strlen(folder)) == 0;
}

bool IsInFolder(int fd) { return fd >= 0 && fd < kMostFiles && in_folder[fd]; }

// Whether this call is to fail; then errno is set.
bool Fails(Kind kind, const char* name, const char* path, int fd) {
  Control& control = TheControl();
  if ((control.kinds & kind) == 0) return false;
  const int64_t number = ++control.count;
  if (number < control.first || number > control.last) return false;
  char link[64], target[150] = "";
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  if (path == nullptr && readlink(link, target, sizeof target - 1) > 0) path = target;
  snprintf(control.what, sizeof control.what, "%s %s", name, path == nullptr ? "?" : path);
  ++control.failed;
  errno = static_cast<int>(control.error);
  return true;
}

template <typename Function>
Function Real(const char* name) {
  return reinterpret_cast<Function>(dlsym(RTLD_NEXT, name));
}

int Remember(int fd) {
  if (fd >= 0 && fd < kMostFiles) in_folder[fd] = true;
  return fd;
}

bool MakesFile(int flags) { return (flags & (O_CREAT | __O_TMPFILE)) != 0; }

using OpenFunction = int (*)(const char*, int, ...);

int Open(OpenFunction real, const char* name, const char* path, int flags, mode_t mode) {
  if (!LiesInFolder(path)) return real(path, flags, mode);
  const bool may_fail = MakesFile(flags) || TheControl().error != ENOSPC;
  if (may_fail && Fails(kOpen, name, path, -1)) return -1;
  return Remember(real(path, flags, mode));
}

mode_t ModeOf(int flags, va_list arguments) {
  return MakesFile(flags) ? static_cast<mode_t>(va_arg(arguments, int)) : 0;
}

using PwriteFunction = ssize_t (*)(int, const void*, size_t, off_t);

ssize_t Pwrite(PwriteFunction real, int fd, const void* bytes, size_t size, off_t offset) {
  if (IsInFolder(fd) && Fails(kWrite, "pwrite", nullptr, fd)) {
    const int error = errno;
    if (size > 1) (void)!real(fd, bytes, size / 2, offset);
    errno = error;
    return -1;
  }
  return real(fd, bytes, size, offset);
}

int Truncate(int (*real)(int, off_t), int fd, off_t size) {
  if (IsInFolder(fd) && Fails(kTruncate, "ftruncate", nullptr, fd)) return -1;
  return real(fd, size);
}

int Allocate(int (*real)(int, int, off_t, off_t), int fd, int mode, off_t offset, off_t size) {
  if (IsInFolder(fd) && Fails(kTruncate, "fallocate", nullptr, fd)) return -1;
  return real(fd, mode, offset, size);
}

}  // namespace

extern "C" {

int open(const char* path, int flags, ...) {
  static const auto real = Real<OpenFunction>("open");
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = ModeOf(flags, arguments);
  va_end(arguments);
  return Open(real, "open", path, flags, mode);
}

int open64(const char* path, int flags, ...) {
  static const auto real = Real<OpenFunction>("open64");
  va_list arguments;
  va_start(arguments, flags);
  const mode_t mode = ModeOf(flags, arguments);
  va_end(arguments);
  return Open(real, "open", path, flags, mode);
}

int close(int fd) {
  static const auto real = Real<int (*)(int)>("close");
  if (fd >= 0 && fd < kMostFiles) in_folder[fd] = false;
  return real(fd);
}

ssize_t write(int fd, const void* bytes, size_t size) {
  static const auto real = Real<ssize_t (*)(int, const void*, size_t)>("write");
  if (IsInFolder(fd) && Fails(kWrite, "write", nullptr, fd)) {
    const int error = errno;
    if (size > 1) (void)!real(fd, bytes, size / 2);
    errno = error;
    return -1;
  }
  return real(fd, bytes, size);
}

ssize_t pwrite(int fd, const void* bytes, size_t size, off_t offset) {
  static const auto real = Real<PwriteFunction>("pwrite");
  return Pwrite(real, fd, bytes, size, offset);
}

ssize_t pwrite64(int fd, const void* bytes, size_t size, off64_t offset) {
  static const auto real = Real<PwriteFunction>("pwrite64");
  return Pwrite(real, fd, bytes, size, offset);
}

int ftruncate(int fd, off_t size) noexcept {
  static const auto real = Real<int (*)(int, off_t)>("ftruncate");
  return Truncate(real, fd, size);
}

int ftruncate64(int fd, off64_t size) noexcept {
  static const auto real = Real<int (*)(int, off_t)>("ftruncate64");
  return Truncate(real, fd, size);
}

int fallocate(int fd, int mode, off_t offset, off_t size) {
  static const auto real = Real<int (*)(int, int, off_t, off_t)>("fallocate");
  return Allocate(real, fd, mode, offset, size);
}

int fallocate64(int fd, int mode, off64_t offset, off64_t size) {
  static const auto real = Real<int (*)(int, int, off_t, off_t)>("fallocate64");
  return Allocate(real, fd, mode, offset, size);
}

int fsync(int fd) {
  static const auto real = Real<int (*)(int)>("fsync");
  if (IsInFolder(fd) && Fails(kSync, "fsync", nullptr, fd)) return -1;
  return real(fd);
}

int fdatasync(int fd) {
  static const auto real = Real<int (*)(int)>("fdatasync");
  if (IsInFolder(fd) && Fails(kSync, "fdatasync", nullptr, fd)) return -1;
  return real(fd);
}

int rename(const char* from, const char* to) noexcept {
  static const auto real = Real<int (*)(const char*, const char*)>("rename");
  if (LiesInFolder(to) && Fails(kRename, "rename", to, -1)) return -1;
  return real(from, to);
}

int mkdir(const char* path, mode_t mode) noexcept {
  static const auto real = Real<int (*)(const char*, mode_t)>("mkdir");
  if (LiesInFolder(path) && Fails(kMkdir, "mkdir", path, -1)) return -1;
  return real(path, mode);
}

int clock_gettime(clockid_t clock, timespec* time) noexcept {
  static const auto real = Real<int (*)(clockid_t, timespec*)>("clock_gettime");
  const int result = real(clock, time);
  if (result != 0 || clock != CLOCK_REALTIME) return result;
  constexpr int64_t kSecond = 1'000'000'000;
  const int64_t now = time->tv_sec * kSecond + time->tv_nsec + TheControl().clock_offset_ns;
  time->tv_sec = now / kSecond;
  time->tv_nsec = now % kSecond;
  return result;
}

}  // extern "C"
