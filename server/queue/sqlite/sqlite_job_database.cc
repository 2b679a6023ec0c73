#include "server/queue/sqlite/sqlite_job_database.h"

#include <unistd.h>

#include <cerrno>
#include <functional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "core/base/mutex.h"
#include "core/base/status_macros.h"
#include "core/io/disk_reserve.h"
#include "core/io/file.h"
#include "core/io/kept_in_place.h"
#include "core/io/messages.h"
#include "server/queue/checkpoint_files.h"
#include "server/queue/sqlite/job_schema.h"
#include "server/queue/sqlite/sqlite_job_rows.h"
#include "server/queue/watermark.h"

namespace attnprune {
namespace {

using sqlite::Transaction;
using sqlite::TransactionKind;

constexpr int64_t kReserveBytes = int64_t{1} << 20;     // some hundred changes
constexpr int64_t kSmallDiskBytes = int64_t{64} << 20;  // has no room to spare

constexpr char kReserve[] = "/jobs.reserve";
constexpr char kDatabase[] = "/jobs.sqlite3", kWatermark[] = "/jobs.watermark", kLog[] = "-wal";

// --- Running ---

// A connection for the writer and one that readers take turns with, so that no reader waits for a
// writer's fsync.
class SqliteJobDatabase final : public JobDatabase {
 public:
  SqliteJobDatabase(const SqliteJobStoreOptions& options, sqlite::Database writer,
                    sqlite::Database reader, DiskReserve reserve, WatermarkFile watermark,
                    const Watermark& mark)
      : clock_(options.clock != nullptr ? *options.clock : real_clock_),
        on_warning_(options.on_warning),
        writer_(&clock_, std::move(writer)),
        reserve_(std::move(reserve)),
        watermark_(std::move(watermark)),
        mark_(mark),
        reader_(&clock_, std::move(reader)) {}
  ~SqliteJobDatabase() override;

  // Before any other call: from here on the folder's files must stay where they are, and room is
  // kept for what must go on.
  absl::Status Prepare(const std::string& folder);

  absl::Status Read(absl::FunctionRef<absl::Status(JobReader&)> body) override {
    MutexLock lock(&read_mutex_);
    ATTNPRUNE_ASSIGN_OR_RETURN(const Transaction transaction,
                               Transaction::Begin(&reader_.database(), TransactionKind::kRead));
    return body(reader_);
  }
  absl::Status Write(absl::FunctionRef<absl::Status(JobRows&)> body) override;
  absl::Status CheckInPlace() override { return in_place_.Check(); }

 private:
  absl::Status WriteCounted(absl::FunctionRef<absl::Status(JobRows&)> body);
  void WriteMark(Durability durability);

  const RealClock real_clock_;
  const Clock& clock_;
  const std::function<void(absl::string_view)> on_warning_;
  KeptInPlace in_place_;
  // Write's only.
  SqliteJobRows writer_;
  DiskReserve reserve_;
  WatermarkFile watermark_;
  Watermark mark_;  // what the database has
  bool mark_failed_ = false;

  Mutex read_mutex_;
  SqliteJobRows reader_ ABSL_GUARDED_BY(read_mutex_);
};

// Where files have been moved, SQLite would fold its log into and remove what is there now.
SqliteJobDatabase::~SqliteJobDatabase() {
  const bool folds = in_place_.Check().ok();
  MutexLock lock(&read_mutex_);
  writer_.database().SetFoldsLogOnClose(folds);
  reader_.database().SetFoldsLogOnClose(folds);
}

absl::Status SqliteJobDatabase::Prepare(const std::string& folder) {
  // Each connection opens the log when it first reads.
  ATTNPRUNE_RETURN_IF_ERROR(Read([](JobReader& rows) { return rows.CountByState().status(); }));
  for (const char* const name : {"", kDatabase, kWatermark, "/checkpoints"}) {
    in_place_.Add(folder + name);
  }
  in_place_.Add(absl::StrCat(folder, kDatabase, kLog));
  reserve_.Take();
  return absl::OkStatus();
}

absl::Status SqliteJobDatabase::Write(absl::FunctionRef<absl::Status(JobRows&)> body) {
  ATTNPRUNE_RETURN_IF_ERROR(in_place_.Check());
  absl::Status status = WriteCounted(body);
  // What was accepted goes on where the disk is full: it is cancelled, deleted, ends or waits
  // again.
  SqliteJobRows::Told told = writer_.TakeTold();
  while (absl::IsResourceExhausted(status) && told.settles && told.newest_job == 0 &&
         reserve_.GiveUpSome()) {
    status = WriteCounted(body);
    told = writer_.TakeTold();
  }
  return status;
}

absl::Status SqliteJobDatabase::WriteCounted(absl::FunctionRef<absl::Status(JobRows&)> body) {
  sqlite::Database& database = writer_.database();
  ATTNPRUNE_ASSIGN_OR_RETURN(Transaction transaction,
                             Transaction::Begin(&database, TransactionKind::kWrite));
  const int64_t before = database.RowsChanged();
  ATTNPRUNE_RETURN_IF_ERROR(body(writer_));
  if (database.RowsChanged() == before) return transaction.Commit();
  const SqliteJobRows::Told told = writer_.told();
  if (told.newest_job != 0 && !reserve_.Take()) {
    return absl::ResourceExhaustedError(
        "the server's disk is full: what is left is for the jobs that were accepted");
  }
  Watermark next = mark_;
  ++next.changes;
  if (told.newest_job != 0) next.accepted = told.newest_job;
  ATTNPRUNE_RETURN_IF_ERROR(WriteWatermark(&database, next));
  ATTNPRUNE_RETURN_IF_ERROR(transaction.Commit());
  writer_.TakeTold();
  mark_ = next;
  WriteMark(told.settles ? Durability::kSynced : Durability::kWrittenBack);
  return absl::OkStatus();
}

// What failed is made up for by the next: the database has the change all the same.
void SqliteJobDatabase::WriteMark(Durability durability) {
  const absl::Status status = watermark_.Write(mark_, durability);
  if (!status.ok() && !mark_failed_ && on_warning_) on_warning_(status.message());
  mark_failed_ = !status.ok();
}

// --- Opening ---

constexpr char kWhatToDo[] =
    ". Nothing was changed. Put a whole backup of the folder in its place, or start with "
    "--accept-loss to go on with what is there";

absl::Status LossError(absl::string_view loss) {
  return absl::DataLossError(absl::StrCat(loss, kWhatToDo));
}

void Warn(const SqliteJobStoreOptions& options, absl::string_view text) {
  if (options.on_warning) options.on_warning(text);
}

absl::Status RefuseUnlessAccepted(const SqliteJobStoreOptions& options, absl::string_view loss) {
  if (options.loss == Loss::kRefused) return LossError(loss);
  Warn(options, absl::StrCat("accepted: ", loss));
  return absl::OkStatus();
}

bool IsThere(const std::string& path) { return LookUp(path).has_value(); }

bool HasEntries(const std::string& folder) {
  const absl::StatusOr<std::vector<std::string>> names = ListFolder(folder);
  return names.ok() && !names->empty();
}

// The watermark; one that is damaged counts as none where a loss is accepted.
absl::StatusOr<absl::optional<Watermark>> ReadMark(const std::string& path,
                                                   const SqliteJobStoreOptions& options) {
  absl::StatusOr<absl::optional<Watermark>> mark = WatermarkFile::Read(path);
  if (!absl::IsDataLoss(mark.status())) return mark;
  ATTNPRUNE_RETURN_IF_ERROR(RefuseUnlessAccepted(
      options, absl::StrCat(mark.status().message(),
                            ", so that nobody knows whether accepted jobs are missing")));
  return absl::optional<Watermark>();
}

// In a folder without a database: OK if nothing tells of one that was there.
absl::Status CheckNeverThere(const std::string& folder, const absl::optional<Watermark>& mark,
                             const SqliteJobStoreOptions& options) {
  const std::string path = folder + kDatabase;
  std::string loss;
  if (mark.has_value()) {
    loss = *DescribeLoss(*mark, absl::nullopt, path);
  } else if (IsThere(path + kLog)) {
    loss = absl::StrCat(path, " is missing, but its log is there");
  } else if (HasEntries(folder + "/checkpoints") || HasEntries(folder + "/tensors/sha256")) {
    loss = absl::StrCat(path, " is missing, but its jobs' checkpoints or tensors are there");
  } else {
    return absl::OkStatus();
  }
  ATTNPRUNE_RETURN_IF_ERROR(RefuseUnlessAccepted(options, loss));
  if (!IsThere(path + kLog)) return absl::OkStatus();
  std::string kept;
  for (int i = 1; kept.empty() || IsThere(kept); ++i) kept = absl::StrCat(path, kLog, ".lost-", i);
  return RenameFile(path + kLog, kept);
}

// The file with this mark in it: as it is where it can be, since a full disk may have no room.
absl::StatusOr<WatermarkFile> OpenMark(const std::string& path,
                                       const absl::optional<Watermark>& former,
                                       const Watermark& mark) {
  if (!former.has_value() || former->history != mark.history) {
    return WatermarkFile::Make(path, mark);
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(WatermarkFile file, WatermarkFile::Open(path));
  if (*former != mark) ATTNPRUNE_RETURN_IF_ERROR(file.Write(mark, Durability::kSynced));
  return file;
}

// Compares with the mark before anything is written, then brings the database up to date. Returns
// what it has from here on.
absl::StatusOr<Watermark> TakeUp(sqlite::Database* database, const std::string& path,
                                 const absl::optional<Watermark>& mark,
                                 const SqliteJobStoreOptions& options) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const Watermark found, ReadWatermark(database));
  const absl::optional<std::string> loss =
      mark.has_value() ? DescribeLoss(*mark, found, path) : absl::nullopt;
  if (loss.has_value()) ATTNPRUNE_RETURN_IF_ERROR(RefuseUnlessAccepted(options, *loss));
  if (!mark.has_value() && found.changes > 0) {
    Warn(options, absl::StrCat(path,
                               ": its watermark is missing and made anew: nobody knows "
                               "whether accepted jobs are missing"));
  }
  ATTNPRUNE_RETURN_IF_ERROR(BringUpToDate(database));
  if (loss.has_value()) ATTNPRUNE_RETURN_IF_ERROR(BeginHistory(database, found.changes));
  return ReadWatermark(database);
}

}  // namespace

absl::StatusOr<std::unique_ptr<JobDatabase>> OpenSqliteJobDatabase(
    const std::string& folder, const SqliteJobStoreOptions& options) {
  const std::string path = folder + kDatabase;
  if (IsThere(path) && access(path.c_str(), R_OK | W_OK) != 0) {
    return ErrnoError(errno, path, "open for writing");
  }
  const int64_t reserved = DiskBytesOf(folder) < kSmallDiskBytes ? 0 : kReserveBytes;
  ATTNPRUNE_ASSIGN_OR_RETURN(DiskReserve reserve, DiskReserve::Open(folder + kReserve, reserved));
  ATTNPRUNE_ASSIGN_OR_RETURN(absl::optional<Watermark> mark,
                             ReadMark(folder + kWatermark, options));
  if (!IsThere(path)) {
    ATTNPRUNE_RETURN_IF_ERROR(CheckNeverThere(folder, mark, options));
    ATTNPRUNE_RETURN_IF_ERROR(MakeJobDatabase(path));
    mark.reset();
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(sqlite::Database writer, OpenJobDatabase(path));
  ATTNPRUNE_RETURN_IF_ERROR(CheckJobDatabase(&writer));
  ATTNPRUNE_ASSIGN_OR_RETURN(const Watermark found, TakeUp(&writer, path, mark, options));
  ATTNPRUNE_ASSIGN_OR_RETURN(WatermarkFile file, OpenMark(folder + kWatermark, mark, found));
  ATTNPRUNE_ASSIGN_OR_RETURN(sqlite::Database reader, OpenJobDatabase(path));
  auto database = std::make_unique<SqliteJobDatabase>(options, std::move(writer), std::move(reader),
                                                      std::move(reserve), std::move(file), found);
  ATTNPRUNE_RETURN_IF_ERROR(database->Prepare(folder));
  return database;
}

}  // namespace attnprune
