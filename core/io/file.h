// POSIX files and folders: errors as Status, full writes, syncs. What else the project writes goes
// through atomic_file.h and spilled_matrix.h, which write by WriteAll; what it maps, mapped_file.h.
#ifndef ATTNPRUNE_CORE_IO_FILE_H_
#define ATTNPRUNE_CORE_IO_FILE_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"

namespace attnprune {

// "path: cannot DOING: reason". RESOURCE_EXHAUSTED if the disk (or quota, or file size limit) is
// full, INTERNAL otherwise: none of it is the client's doing.
absl::Status FileError(int error, const std::string& path, const std::string& doing);

// Writes all of it at `offset` or, without one, where fd stands. 0, or the errno of the write that
// failed; then part of it may be there.
int WriteAll(int fd, absl::Span<const char> bytes, absl::optional<int64_t> offset = absl::nullopt);

// Who may read a file that is made: its owner alone, whatever the umask, or whom the umask lets.
enum class Readers { kOwner, kByUmask };

// An open file. Move-only; closes itself. Positions are explicit, so that reads may be concurrent.
class File {
 public:
  // Regular files only. NOT_FOUND: there is no such file.
  static absl::StatusOr<File> OpenForReading(const std::string& path);
  // For reading too. Made if absent; links are not followed.
  static absl::StatusOr<File> OpenForWriting(const std::string& path,
                                             Readers readers = Readers::kByUmask);
  // For reading, and for Append alone. Made with mode 0600 if absent; links are not followed.
  static absl::StatusOr<File> OpenForAppending(const std::string& path);

  File() = default;
  File(File&& other) noexcept { *this = std::move(other); }
  File& operator=(File&& other) noexcept;
  ~File();

  int fd() const { return fd_; }  // -1: none is open
  const std::string& path() const { return path_; }

  absl::StatusOr<int64_t> Size() const;
  uint64_t Inode() const;  // 0 if the system does not tell
  // All of data at `offset`, or an error after which part of it may be there.
  absl::Status WriteAt(int64_t offset, absl::Span<const char> data);
  // All of data behind the file's end, wherever that is by then; as WriteAt. Usually in one write.
  absl::Status Append(absl::Span<const char> data);
  // Fills out. DATA_LOSS if the file ends before.
  absl::Status ReadAt(int64_t offset, absl::Span<char> out) const;
  absl::Status Truncate(int64_t size);  // gives reserved space beyond it back
  // Reserves disk space for the first `bytes` bytes, which also makes writing them several times
  // cheaper (ext4). RESOURCE_EXHAUSTED: there is not so much. File systems that cannot do it do
  // nothing.
  absl::Status Reserve(int64_t bytes);
  absl::Status Sync();
  absl::Status SyncData();                // but for what reading does not need, such as the time
  absl::Status SetTime(absl::Time time);  // of the last change
  // Takes an exclusive flock, which ends with the file or the process. False: another has it.
  absl::StatusOr<bool> TryLock();
  // Asks the kernel to write the bytes out soon, so that Sync has less to wait for. Only a hint.
  void StartWriteBack(int64_t offset, int64_t bytes) const;

 private:
  File(int fd, const std::string& path) : fd_(fd), path_(path) {}

  int fd_ = -1;
  std::string path_;
};

struct FileFacts {
  int64_t size = 0;
  absl::Time changed;
  uint64_t inode = 0;
};

// Of a regular file; nullopt: none there.
absl::optional<FileFacts> LookUp(const std::string& path);

absl::Status SetFileTime(const std::string& path, absl::Time time);
absl::Status RenameFile(const std::string& from, const std::string& to);
void RemoveFile(const std::string& path);  // an absent one is fine
// For its owner alone (0700); one that is there is fine, whatever its mode. Its name is on disk
// only after SyncFolder of the folder above.
absl::Status MakeFolder(const std::string& path);
bool IsFolder(const std::string& path);
absl::Status MakeWritableFolder(const std::string& path);  // one that is there must be writable
// Of a folder whose files a program removes by itself: FAILED_PRECONDITION where it is a link,
// which may lead to somebody else's.
absl::Status CheckNoLink(const std::string& path);
absl::Status SyncFolder(const std::string& path);
absl::StatusOr<std::vector<std::string>> ListFolder(const std::string& path);  // names, sorted
std::string FolderOf(const std::string& path);   // that of a file's path; "." if it has none
int64_t DiskBytesOf(const std::string& folder);  // size of the disk it is on; 0: not told
// RESOURCE_EXHAUSTED unless `bytes` more fit on the folder's disk and leave `kept` free. name: of
// the disk in the message, for readers who should not learn the path; empty: the path tells it.
absl::Status CheckDiskRoom(const std::string& folder, int64_t bytes, int64_t kept,
                           absl::string_view name = "");

// Calls visit with the file's first `bytes` bytes, in pieces of at most 1 MiB.
absl::Status ForEachPiece(const File& file, int64_t bytes,
                          absl::FunctionRef<void(absl::Span<const char>)> visit);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_IO_FILE_H_
