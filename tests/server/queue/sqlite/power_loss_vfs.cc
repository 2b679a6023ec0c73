#include "tests/server/queue/sqlite/power_loss_vfs.h"

#include <sqlite3.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "tests/server/queue/test_places.h"

namespace attnprune::testing {
namespace {

struct Change {  // a write or, without bytes, a truncation to `offset`
  int64_t offset = 0;
  std::string bytes;
};

void Apply(const Change& change, std::string* content) {
  const auto offset = static_cast<size_t>(change.offset);
  if (change.bytes.empty()) return content->resize(offset);
  if (content->size() < offset + change.bytes.size()) {
    content->resize(offset + change.bytes.size());
  }
  content->replace(offset, change.bytes.size(), change.bytes);
}

struct Disk {
  struct File {
    std::string safe;              // what a power loss leaves for certain
    std::vector<Change> unsynced;  // since then
  };
  std::map<std::string, File> files;  // by path
  Syncs syncs = Syncs::kHonest;
  int changes = 0;
  int power_loss_at = 0;

  // To be called before each change.
  void CountChange() {
    if (++changes == power_loss_at) LosePower();
  }

  void LosePower() {
    std::mt19937 random(static_cast<unsigned>(power_loss_at));
    for (auto& [path, file] : files) {
      if (file.unsynced.empty()) continue;
      std::string content = file.safe;
      for (Change& change : file.unsynced) {
        const unsigned draw = random() % 4;
        if (draw == 0) continue;
        if (draw == 1 && change.bytes.size() > 1) change.bytes.resize(change.bytes.size() / 2);
        Apply(change, &content);
      }
      WriteAll(path, content);
    }
    _exit(kPowerLost);
  }
};

Disk& TheDisk() {
  static Disk& disk = *new Disk;
  return disk;
}

sqlite3_vfs* RealVfs() {
  static sqlite3_vfs* const vfs = sqlite3_vfs_find("unix");
  return vfs;
}

// The real file lies behind it in the same allocation.
struct LossyFile {
  sqlite3_file base;
  Disk::File* file;
  sqlite3_file* real() { return reinterpret_cast<sqlite3_file*>(this + 1); }
};
LossyFile* Lossy(sqlite3_file* file) { return reinterpret_cast<LossyFile*>(file); }
const sqlite3_io_methods& Real(sqlite3_file* file) { return *Lossy(file)->real()->pMethods; }

int Write(sqlite3_file* file, const void* bytes, int size, sqlite3_int64 offset) {
  TheDisk().CountChange();
  Lossy(file)->file->unsynced.push_back(
      {offset, std::string(static_cast<const char*>(bytes), static_cast<size_t>(size))});
  return Real(file).xWrite(Lossy(file)->real(), bytes, size, offset);
}

int Truncate(sqlite3_file* file, sqlite3_int64 size) {
  TheDisk().CountChange();
  Lossy(file)->file->unsynced.push_back({size, ""});
  return Real(file).xTruncate(Lossy(file)->real(), size);
}

int Sync(sqlite3_file* file, int) {
  TheDisk().CountChange();
  if (TheDisk().syncs == Syncs::kIgnored) return SQLITE_OK;
  Disk::File& state = *Lossy(file)->file;
  for (const Change& change : state.unsynced) Apply(change, &state.safe);
  state.unsynced.clear();
  return SQLITE_OK;  // the process ends, the machine does not: no real sync is needed
}

const sqlite3_io_methods* LossyMethods() {
  static sqlite3_io_methods methods = {
      2,  // no xFetch: what is read through a mapping is not read here
      [](sqlite3_file* f) { return Real(f).xClose(Lossy(f)->real()); },
      [](sqlite3_file* f, void* to, int size, sqlite3_int64 offset) {
        return Real(f).xRead(Lossy(f)->real(), to, size, offset);
      },
      Write, Truncate, Sync,
      [](sqlite3_file* f, sqlite3_int64* size) {
        return Real(f).xFileSize(Lossy(f)->real(), size);
      },
      [](sqlite3_file* f, int level) { return Real(f).xLock(Lossy(f)->real(), level); },
      [](sqlite3_file* f, int level) { return Real(f).xUnlock(Lossy(f)->real(), level); },
      [](sqlite3_file* f, int* out) { return Real(f).xCheckReservedLock(Lossy(f)->real(), out); },
      [](sqlite3_file* f, int what, void* argument) {
        return Real(f).xFileControl(Lossy(f)->real(), what, argument);
      },
      [](sqlite3_file* f) { return Real(f).xSectorSize(Lossy(f)->real()); },
      // Not the real ones: "powersafe overwrite" must not be relied on by torn writes.
      [](sqlite3_file*) { return 0; },
      [](sqlite3_file* f, int page, int size, int extend, void volatile** out) {
        return Real(f).xShmMap(Lossy(f)->real(), page, size, extend, out);
      },
      [](sqlite3_file* f, int offset, int count, int flags) {
        return Real(f).xShmLock(Lossy(f)->real(), offset, count, flags);
      },
      [](sqlite3_file* f) { Real(f).xShmBarrier(Lossy(f)->real()); },
      [](sqlite3_file* f, int remove) { return Real(f).xShmUnmap(Lossy(f)->real(), remove); },
      nullptr, nullptr};
  return &methods;
}

int Open(sqlite3_vfs*, const char* path, sqlite3_file* file, int flags, int* out_flags) {
  file->pMethods = nullptr;
  const int result = RealVfs()->xOpen(RealVfs(), path, Lossy(file)->real(), flags, out_flags);
  if (result != SQLITE_OK) return result;
  const auto [entry, is_new] = TheDisk().files.try_emplace(path == nullptr ? "" : path);
  if (is_new) entry->second.safe = ReadAll(entry->first);
  Lossy(file)->file = &entry->second;
  file->pMethods = LossyMethods();
  return SQLITE_OK;
}

int Delete(sqlite3_vfs*, const char* path, int sync_folder) {
  TheDisk().CountChange();
  TheDisk().files[path] = {};
  return RealVfs()->xDelete(RealVfs(), path, sync_folder);
}

}  // namespace

void InstallPowerLoss(int at, Syncs syncs) {
  sqlite3_initialize();
  TheDisk().power_loss_at = at;
  TheDisk().syncs = syncs;
  static sqlite3_vfs vfs = *RealVfs();
  vfs.zName = "power-loss";
  vfs.szOsFile = static_cast<int>(sizeof(LossyFile)) + RealVfs()->szOsFile;
  vfs.xOpen = Open;
  vfs.xDelete = Delete;
  if (sqlite3_vfs_register(&vfs, 1) != SQLITE_OK) std::abort();
}

}  // namespace attnprune::testing
