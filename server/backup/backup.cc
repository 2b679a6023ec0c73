#include "server/backup/backup.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <memory>
#include <set>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "core/io/file.h"
#include "core/io/messages.h"
#include "core/io/sha256.h"
#include "server/backup/folder_copy.h"
#include "server/blobs/posix_blob_store.h"
#include "server/queue/checkpoint_files.h"
#include "server/queue/sqlite/job_snapshot.h"

namespace attnprune {
namespace {

constexpr int kMostTries = 20;
// Small files beside the database that tell how far it is. Copied before it is: such a file may be
// behind the database, never ahead of it.
constexpr const char* kMarks[] = {"jobs.watermark"};

std::string CheckpointPath(const std::string& name) { return "checkpoints/" + name; }

// One pass over what a snapshot refers to.
struct Pass {
  std::set<std::string> files;  // all of it, as paths
  std::set<std::string> gone;   // what could not be had any more
};

class Backup {
 public:
  Backup(const BackupOptions& options, const std::string& folder)
      : options_(options), folder_(folder), copy_(options.data_dir, folder) {}

  absl::Status Make();
  absl::StatusOr<BackupReport> Check() const;

 private:
  absl::StatusOr<std::unique_ptr<JobSnapshot>> TakeWithMarks();
  absl::StatusOr<Pass> PutFiles(JobSnapshot& snapshot);
  absl::Status CheckLost(const Pass& pass, const std::set<std::string>& gone_before) const;
  absl::Status CheckTensor(const std::string& sha256, BackupReport* report) const;

  const BackupOptions& options_;
  const std::string folder_;
  FolderCopy copy_;
  std::set<std::string> put_;  // by some pass
};

absl::StatusOr<std::unique_ptr<JobSnapshot>> Backup::TakeWithMarks() {
  for (const char* const mark : kMarks) {
    const absl::Status status = copy_.PutBytes(mark);
    if (!absl::IsNotFound(status)) ATTNPRUNE_RETURN_IF_ERROR(status);
  }
  auto snapshot = JobSnapshot::Take(options_.data_dir);
  if (snapshot.ok() && options_.on_snapshot) options_.on_snapshot();
  return snapshot;
}

absl::StatusOr<Pass> Backup::PutFiles(JobSnapshot& snapshot) {
  Pass pass;
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<CheckpointRef> checkpoints, snapshot.Checkpoints());
  for (const CheckpointRef& ref : checkpoints) pass.files.insert(CheckpointPath(ref.name));
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::set<std::string> tensors, snapshot.Tensors());
  for (const std::string& sha256 : tensors) pass.files.insert(TensorFile(sha256));
  for (const std::string& path : pass.files) {
    const absl::Status status = copy_.Put(path);
    if (absl::IsNotFound(status)) {
      pass.gone.insert(path);
    } else {
      ATTNPRUNE_RETURN_IF_ERROR(status);
      put_.insert(path);
    }
  }
  return pass;
}

// A file that two snapshots refer to and neither pass found is not one that was just replaced.
absl::Status Backup::CheckLost(const Pass& pass, const std::set<std::string>& gone_before) const {
  if (options_.allow_missing) return absl::OkStatus();
  for (const std::string& path : pass.gone) {
    if (gone_before.count(path) == 0) continue;
    return absl::DataLossError(
        absl::StrCat(options_.data_dir, "/", path,
                     ": a job refers to it, and it is lost; --allow-missing backs up without it"));
  }
  return absl::OkStatus();
}

// The first pass may copy for long, and holds no snapshot meanwhile, so that the log does not grow.
// The next ones have little left to do: they come so soon after their snapshot that what it refers
// to is hardly ever replaced.
absl::Status Backup::Make() {
  std::set<std::string> gone;
  {
    ATTNPRUNE_ASSIGN_OR_RETURN(const auto first, TakeWithMarks());
    ATTNPRUNE_ASSIGN_OR_RETURN(const Pass pass, PutFiles(*first));
    gone = pass.gone;
  }
  for (int i = 0; i < kMostTries; ++i) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const auto snapshot, TakeWithMarks());
    ATTNPRUNE_ASSIGN_OR_RETURN(Pass pass, PutFiles(*snapshot));
    ATTNPRUNE_RETURN_IF_ERROR(CheckLost(pass, gone));
    const bool whole = std::includes(gone.begin(), gone.end(), pass.gone.begin(), pass.gone.end());
    gone = std::move(pass.gone);
    if (!whole) continue;
    for (const std::string& path : put_) {
      if (pass.files.count(path) == 0) copy_.Remove(path);
    }
    return snapshot->CopyTo(folder_);
  }
  return absl::UnavailableError(
      absl::StrCat(options_.data_dir, ": in each of ", kMostTries,
                   " tries jobs replaced what they refer to before it was copied; try again"));
}

absl::Status Backup::CheckTensor(const std::string& sha256, BackupReport* report) const {
  const absl::StatusOr<File> file =
      File::OpenForReading(absl::StrCat(folder_, "/", TensorFile(sha256)));
  if (absl::IsNotFound(file.status()) && options_.allow_missing) {
    ++report->missing;
    return absl::OkStatus();
  }
  ATTNPRUNE_RETURN_IF_ERROR(file.status());
  ATTNPRUNE_ASSIGN_OR_RETURN(const int64_t size, file->Size());
  ++report->tensors;
  report->tensor_bytes += size;
  if (!options_.verify) return absl::OkStatus();
  Sha256 hash;
  ATTNPRUNE_RETURN_IF_ERROR(
      ForEachPiece(*file, size, [&](absl::Span<const char> piece) { hash.Update(piece); }));
  if (hash.Finish() == sha256) return absl::OkStatus();
  return absl::DataLossError(
      absl::StrCat(options_.data_dir, "/", TensorFile(sha256), ": its bytes have another digest"));
}

// Reads the copy as a server would, by nothing that the making has kept.
absl::StatusOr<BackupReport> Backup::Check() const {
  BackupReport report;
  report.copied_bytes = copy_.copied_bytes();
  const CheckpointFiles checkpoints(folder_ + "/checkpoints");
  {
    ATTNPRUNE_ASSIGN_OR_RETURN(const auto copied, JobSnapshot::Take(folder_));
    ATTNPRUNE_ASSIGN_OR_RETURN(report.jobs, copied->CountJobs());
    ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<CheckpointRef> refs, copied->Checkpoints());
    for (const CheckpointRef& ref : refs) {
      const absl::Status status = checkpoints.Read(ref).status();
      if (!status.ok() && !options_.allow_missing) return status;
      ++(status.ok() ? report.checkpoints : report.missing);
    }
    ATTNPRUNE_ASSIGN_OR_RETURN(const std::set<std::string> tensors, copied->Tensors());
    for (const std::string& sha256 : tensors) {
      ATTNPRUNE_RETURN_IF_ERROR(CheckTensor(sha256, &report));
    }
  }
  ATTNPRUNE_RETURN_IF_ERROR(CheckJobDatabaseIn(folder_));
  ATTNPRUNE_RETURN_IF_ERROR(copy_.Sync());
  return report;
}

absl::Status CheckOutput(const std::string& output) {
  if (output.empty()) return FieldError("output", "must be a folder, got \"\"");
  struct stat facts;
  if (lstat(output.c_str(), &facts) != 0) {
    return errno == ENOENT ? absl::OkStatus() : FileError(errno, output, "look at the folder");
  }
  if (!S_ISDIR(facts.st_mode)) {
    return FieldError("output", absl::StrCat("must be a folder, or not there, got ", output));
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListFolder(output));
  if (names.empty()) return absl::OkStatus();
  return FieldError("output", absl::StrCat("must be empty, or not there, got ", output, " with ",
                                           names.size(), " entries"));
}

absl::Status MakeIncomplete(const std::string& folder) {
  if (mkdir(folder.c_str(), 0700) == 0) return absl::OkStatus();
  if (errno != EEXIST) return FileError(errno, folder, "make the folder");
  return FieldError("output",
                    absl::StrCat("must have no ", folder,
                                 " beside it, which another backup writes or left when it was "
                                 "killed: remove it"));
}

std::string WithoutSlashAtEnd(std::string path) {
  while (path.size() > 1 && path.back() == '/') path.pop_back();
  return path;
}

}  // namespace

absl::StatusOr<BackupReport> BackUp(const BackupOptions& options) {
  const std::string output = WithoutSlashAtEnd(options.output);
  ATTNPRUNE_RETURN_IF_ERROR(CheckOutput(output));
  ATTNPRUNE_RETURN_IF_ERROR(JobSnapshot::Take(options.data_dir).status());
  const std::string incomplete = output + ".incomplete";
  ATTNPRUNE_RETURN_IF_ERROR(MakeIncomplete(incomplete));
  absl::Cleanup remove = [&incomplete] {
    std::error_code ignored;
    std::filesystem::remove_all(incomplete, ignored);
  };
  Backup backup(options, incomplete);
  ATTNPRUNE_RETURN_IF_ERROR(backup.Make());
  ATTNPRUNE_ASSIGN_OR_RETURN(BackupReport report, backup.Check());
  ATTNPRUNE_RETURN_IF_ERROR(RenameFile(incomplete, output));
  std::move(remove).Cancel();
  ATTNPRUNE_RETURN_IF_ERROR(SyncFolder(FolderOf(output)));
  return report;
}

}  // namespace attnprune
