#include "server/queue/sqlite_job_store.h"

#include <limits>
#include <random>
#include <type_traits>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"
#include "core/base/mutex.h"
#include "core/base/status_macros.h"
#include "core/io/file.h"
#include "server/queue/job_edit.h"
#include "server/queue/job_schema.h"
#include "server/queue/page_token.h"

namespace attnprune {
namespace {

using sqlite::Transaction;
using sqlite::TransactionKind;

constexpr char kServerLost[] = "worker lost: the server was killed";

absl::Status NoSuchJob(absl::string_view id) {
  return absl::NotFoundError(absl::StrCat("no job ", id));
}

absl::Status Lapsed(const JobClaim& claim, absl::string_view why) {
  return absl::AbortedError(
      absl::StrCat("job ", claim.id, ": claim ", claim.fence, " has lapsed: ", why));
}

// 12 characters: 60 random bits, short enough to type.
std::string NewId() {
  constexpr char kLetters[] = "0123456789abcdefghjkmnpqrstvwxyz";
  std::random_device random;
  std::string id;
  for (int i = 0; i < 12; ++i) id += kLetters[random() % 32];
  return id;
}

std::string WhyRequeued(const JobRow& row) {
  return absl::StrCat(kServerLost, row.record.has_checkpoint ? "; goes on from its checkpoint"
                                                             : "; there is no checkpoint");
}

OutstandingJob Outstanding(const JobRow& row) {
  const JobRecord& job = row.record;
  return {job.id,      job.state,      row.number,      job.priority,         job.fence,
          job.timeout, job.start_time, job.lease_until, job.cancel_requested, job.losses};
}

class SqliteJobStore final : public JobStore {
 public:
  SqliteJobStore(const SqliteJobStoreOptions& options, sqlite::Database writer,
                 sqlite::Database reader, const std::string& checkpoint_folder)
      : options_(options),
        clock_(options.clock != nullptr ? *options.clock : real_clock_),
        checkpoints_(checkpoint_folder),
        writer_(std::move(writer)),
        listener_(options.listener),
        reader_(std::move(reader)) {}

  // Before any other call: takes back what the last server was running.
  absl::Status Recover();

  void SetListener(JobStoreListener* listener) override {
    MutexLock lock(&write_mutex_);
    listener_ = listener;
  }

  absl::StatusOr<CreateOutcome> Create(const NewJob& job) override;
  absl::StatusOr<JobRecord> Get(absl::string_view id) override;
  absl::StatusOr<LogExtent> ReadLogExtent(absl::string_view id) override;
  absl::StatusOr<JobPage> List(const JobFilter& filter, int page_size,
                               absl::string_view page_token) override;
  absl::StatusOr<JobRecord> RequestCancel(absl::string_view id) override;
  absl::Status Delete(absl::string_view id) override;
  absl::StatusOr<std::vector<StoredEvent>> ReadEvents(absl::string_view id, int64_t after,
                                                      int limit) override;

  absl::StatusOr<absl::optional<JobRecord>> Claim(absl::string_view owner,
                                                  absl::Duration lease) override;
  absl::StatusOr<LeaseStatus> RenewLease(const JobClaim& claim, absl::Duration lease) override;
  absl::Status SaveCheckpoint(const JobClaim& claim, absl::string_view bytes) override;
  absl::StatusOr<absl::optional<std::string>> ReadCheckpoint(const JobClaim& claim) override;
  absl::StatusOr<int64_t> AppendEvents(const JobClaim& claim,
                                       absl::Span<const NewEvent> events) override;
  absl::StatusOr<int64_t> FinishMethod(const JobClaim& claim, int method_index,
                                       absl::string_view result,
                                       absl::Span<const std::string> tensor_digests) override;
  absl::Status Finish(const JobClaim& claim, JobState state, const Failure& failure,
                      absl::string_view reason) override;
  absl::Status Requeue(const JobClaim& claim, RequeueCause cause,
                       absl::string_view reason) override;

  absl::StatusOr<Snapshot> ReadOutstanding() override;
  absl::StatusOr<std::map<JobState, int64_t>> CountByState() override;
  absl::Status CompactEvents(absl::string_view id, const CompactionLimits& limits) override;
  absl::StatusOr<std::set<std::string>> ReferencedDigests() override;

 private:
  // Runs body(tables, aftermath), which returns a Status or StatusOr, as one transaction; if it is
  // OK, commits and then tells the listener and removes files that are no longer needed.
  template <typename Body>
  auto Write(Body body) -> std::invoke_result_t<Body, JobTables&, Aftermath&>;
  // Runs body(tables) on one state of the database.
  template <typename Body>
  auto Read(Body body) -> std::invoke_result_t<Body, JobTables&>;
  void Conclude(const Aftermath& aftermath) ABSL_EXCLUSIVE_LOCKS_REQUIRED(write_mutex_);

  absl::StatusOr<CreateOutcome> Insert(const NewJob& job, JobTables& tables, Aftermath& aftermath);
  absl::Status TakeBack(const JobRow& row);

  const SqliteJobStoreOptions options_;
  const RealClock real_clock_;
  const Clock& clock_;
  const CheckpointFiles checkpoints_;  // thread-safe

  // Writers wait for each other's fsync; readers only for each other.
  Mutex write_mutex_;
  JobTables writer_ ABSL_GUARDED_BY(write_mutex_);
  JobStoreListener* listener_ ABSL_GUARDED_BY(write_mutex_);
  Mutex read_mutex_;
  JobTables reader_ ABSL_GUARDED_BY(read_mutex_);
};

absl::StatusOr<JobRow> FindJob(JobTables& tables, absl::string_view id) {
  ATTNPRUNE_ASSIGN_OR_RETURN(absl::optional<JobRow> row, tables.FindById(id));
  if (!row.has_value()) return NoSuchJob(id);
  return *std::move(row);
}

// ABORTED unless the claim is the job's latest and the job has not ended.
absl::StatusOr<JobRow> FindClaimed(JobTables& tables, const JobClaim& claim) {
  ATTNPRUNE_ASSIGN_OR_RETURN(absl::optional<JobRow> row, tables.FindById(claim.id));
  if (!row.has_value()) return Lapsed(claim, "the job is gone");
  const JobRecord& job = row->record;
  if (job.fence != claim.fence) return Lapsed(claim, absl::StrCat("the fence is at ", job.fence));
  if (IsTerminal(job.state)) return Lapsed(claim, absl::StrCat("the job is ", ToString(job.state)));
  return *std::move(row);
}

absl::StatusOr<JobRow> FindRunning(JobTables& tables, const JobClaim& claim) {
  ATTNPRUNE_ASSIGN_OR_RETURN(JobRow row, FindClaimed(tables, claim));
  if (row.record.state != JobState::kRunning) return Lapsed(claim, "the job is not running");
  return row;
}

template <typename Body>
auto SqliteJobStore::Write(Body body) -> std::invoke_result_t<Body, JobTables&, Aftermath&> {
  MutexLock lock(&write_mutex_);
  ATTNPRUNE_ASSIGN_OR_RETURN(Transaction transaction,
                             Transaction::Begin(&writer_.database(), TransactionKind::kWrite));
  Aftermath aftermath;
  auto result = body(writer_, aftermath);
  if (!result.ok()) return result;
  ATTNPRUNE_RETURN_IF_ERROR(transaction.Commit());
  Conclude(aftermath);
  return result;
}

template <typename Body>
auto SqliteJobStore::Read(Body body) -> std::invoke_result_t<Body, JobTables&> {
  MutexLock lock(&read_mutex_);
  ATTNPRUNE_ASSIGN_OR_RETURN(const Transaction transaction,
                             Transaction::Begin(&reader_.database(), TransactionKind::kRead));
  return body(reader_);
}

void SqliteJobStore::Conclude(const Aftermath& aftermath) {
  checkpoints_.Remove(aftermath.unused_checkpoint);
  if (listener_ == nullptr) return;
  if (!aftermath.events.empty()) listener_->OnEvents(aftermath.job_id, aftermath.events);
  if (aftermath.cancel_requested) listener_->OnCancelRequested(aftermath.job_id);
}

// --- Clients ---

absl::StatusOr<CreateOutcome> SqliteJobStore::Create(const NewJob& job) {
  return Write([&](JobTables& tables, Aftermath& aftermath) -> absl::StatusOr<CreateOutcome> {
    if (job.request_id.empty()) return Insert(job, tables, aftermath);
    ATTNPRUNE_ASSIGN_OR_RETURN(absl::optional<JobRow> known,
                               tables.FindByRequestId(job.request_id));
    if (!known.has_value()) return Insert(job, tables, aftermath);
    if (known->record.request_digest != job.request_digest) {
      return absl::AlreadyExistsError(absl::StrCat("request_id ", job.request_id,
                                                   " was used for another request, which made job ",
                                                   known->record.id));
    }
    ATTNPRUNE_ASSIGN_OR_RETURN(JobRecord record, tables.Complete(*known));
    return CreateOutcome{std::move(record), false};
  });
}

absl::StatusOr<CreateOutcome> SqliteJobStore::Insert(const NewJob& job, JobTables& tables,
                                                     Aftermath& aftermath) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const int64_t queued, tables.CountQueued());
  if (queued >= options_.max_queued_jobs) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "the queue is full: ", queued, " jobs wait, the limit is ", options_.max_queued_jobs));
  }
  JobRow row;
  row.record.id = NewId();
  row.record.priority = job.priority;
  row.record.timeout = job.timeout;
  row.record.create_time = clock_.Now();
  row.record.request_id = job.request_id;
  row.record.request_digest = job.request_digest;
  row.record.labels = job.labels;
  row.record.spec = job.spec;
  row.record.origin = job.origin;
  ATTNPRUNE_RETURN_IF_ERROR(tables.Insert(&row));
  ATTNPRUNE_RETURN_IF_ERROR(
      tables.AddTensors(row, {job.tensor_digests.begin(), job.tensor_digests.end()}));
  JobEdit edit(&tables, &aftermath, std::move(row), clock_.Now());
  edit.AddStateChange("");
  ATTNPRUNE_RETURN_IF_ERROR(edit.Save());
  return CreateOutcome{edit.record(), true};
}

absl::StatusOr<JobRecord> SqliteJobStore::Get(absl::string_view id) {
  return Read([&](JobTables& tables) -> absl::StatusOr<JobRecord> {
    ATTNPRUNE_ASSIGN_OR_RETURN(const JobRow row, FindJob(tables, id));
    return tables.Complete(row);
  });
}

absl::StatusOr<LogExtent> SqliteJobStore::ReadLogExtent(absl::string_view id) {
  return Read([&](JobTables& tables) -> absl::StatusOr<LogExtent> {
    ATTNPRUNE_ASSIGN_OR_RETURN(const JobRow row, FindJob(tables, id));
    return LogExtent{.state = row.record.state,
                     .oldest_sequence = row.record.oldest_sequence,
                     .newest_sequence = row.record.next_sequence - 1};
  });
}

absl::StatusOr<JobPage> SqliteJobStore::List(const JobFilter& filter, int page_size,
                                             absl::string_view page_token) {
  if (page_size < 1) {
    return FieldError("page_size", absl::StrCat("must be at least 1, got ", page_size));
  }
  int64_t below = std::numeric_limits<int64_t>::max();
  if (!page_token.empty()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(below, DecodePageToken(filter, page_token));
  }
  return Read([&](JobTables& tables) -> absl::StatusOr<JobPage> {
    const int one_more = page_size < std::numeric_limits<int>::max() ? page_size + 1 : page_size;
    ATTNPRUNE_ASSIGN_OR_RETURN(std::vector<int64_t> numbers,
                               tables.FindNumbers(filter, below, one_more));
    JobPage page;
    if (numbers.size() > static_cast<size_t>(page_size)) {
      numbers.resize(static_cast<size_t>(page_size));
      page.next_page_token = EncodePageToken(filter, numbers.back());
    }
    for (const int64_t number : numbers) {
      ATTNPRUNE_ASSIGN_OR_RETURN(const JobRow row, tables.ReadRow(number));
      ATTNPRUNE_ASSIGN_OR_RETURN(JobRecord record, tables.Complete(row));
      page.jobs.push_back(std::move(record));
    }
    return page;
  });
}

absl::StatusOr<JobRecord> SqliteJobStore::RequestCancel(absl::string_view id) {
  return Write([&](JobTables& tables, Aftermath& aftermath) -> absl::StatusOr<JobRecord> {
    ATTNPRUNE_ASSIGN_OR_RETURN(JobRow row, FindJob(tables, id));
    if (IsTerminal(row.record.state)) return tables.Complete(row);
    const bool asked_before = row.record.cancel_requested;
    JobEdit edit(&tables, &aftermath, std::move(row), clock_.Now());
    edit.record().cancel_requested = true;
    if (edit.record().state == JobState::kQueued) {
      ATTNPRUNE_RETURN_IF_ERROR(edit.End(JobState::kCancelled, {}, "cancelled while queued"));
    } else {
      aftermath.cancel_requested = !asked_before;
    }
    ATTNPRUNE_RETURN_IF_ERROR(edit.Save());
    return tables.Complete(edit.row());
  });
}

absl::Status SqliteJobStore::Delete(absl::string_view id) {
  return Write([&](JobTables& tables, Aftermath&) -> absl::Status {
    ATTNPRUNE_ASSIGN_OR_RETURN(const JobRow row, FindJob(tables, id));
    if (!IsTerminal(row.record.state)) {
      return absl::FailedPreconditionError(
          absl::StrCat("job ", id, " is ", ToString(row.record.state), "; cancel it first"));
    }
    return tables.Remove(row.number);
  });
}

absl::StatusOr<std::vector<StoredEvent>> SqliteJobStore::ReadEvents(absl::string_view id,
                                                                    int64_t after, int limit) {
  if (limit < 1) return FieldError("limit", absl::StrCat("must be at least 1, got ", limit));
  return Read([&](JobTables& tables) -> absl::StatusOr<std::vector<StoredEvent>> {
    ATTNPRUNE_ASSIGN_OR_RETURN(const JobRow row, FindJob(tables, id));
    const int64_t oldest = row.record.oldest_sequence;
    if (after < oldest - 1) return HistoryDroppedError(id, after, oldest);
    return tables.ReadEvents(row.number, after, limit);
  });
}

// --- Workers ---

absl::StatusOr<absl::optional<JobRecord>> SqliteJobStore::Claim(absl::string_view owner,
                                                                absl::Duration lease) {
  using Claimed = absl::optional<JobRecord>;
  return Write([&](JobTables& tables, Aftermath& aftermath) -> absl::StatusOr<Claimed> {
    ATTNPRUNE_ASSIGN_OR_RETURN(absl::optional<JobRow> row, tables.FindNextToClaim());
    if (!row.has_value()) return Claimed();
    JobEdit edit(&tables, &aftermath, *std::move(row), clock_.Now());
    edit.Start(owner, lease);
    ATTNPRUNE_RETURN_IF_ERROR(edit.Save());
    ATTNPRUNE_ASSIGN_OR_RETURN(JobRecord record, tables.Complete(edit.row()));
    return Claimed(std::move(record));
  });
}

absl::StatusOr<LeaseStatus> SqliteJobStore::RenewLease(const JobClaim& claim,
                                                       absl::Duration lease) {
  return Write([&](JobTables& tables, Aftermath&) -> absl::StatusOr<LeaseStatus> {
    ATTNPRUNE_ASSIGN_OR_RETURN(JobRow row, FindRunning(tables, claim));
    row.record.lease_until = clock_.Now() + lease;
    ATTNPRUNE_RETURN_IF_ERROR(tables.Save(row));
    return LeaseStatus{row.record.lease_until, row.record.cancel_requested};
  });
}

absl::Status SqliteJobStore::SaveCheckpoint(const JobClaim& claim, absl::string_view bytes) {
  // The file is written outside the transaction: it can be large, and others must not wait for it.
  // Its name is new (fence and count), so the checkpoint that is there stays whole.
  ATTNPRUNE_ASSIGN_OR_RETURN(const JobRow row,
                             Read([&](JobTables& tables) { return FindRunning(tables, claim); }));
  const int64_t count = row.checkpoint_count + 1;
  const std::string name = absl::StrCat(claim.id, ".", claim.fence, ".", count);
  ATTNPRUNE_ASSIGN_OR_RETURN(const CheckpointRef ref, checkpoints_.Write(name, bytes));
  absl::Status status = Write([&](JobTables& tables, Aftermath& aftermath) -> absl::Status {
    ATTNPRUNE_ASSIGN_OR_RETURN(JobRow current, FindRunning(tables, claim));
    JobEdit edit(&tables, &aftermath, std::move(current), clock_.Now());
    edit.ReplaceCheckpoint(ref);
    edit.row().checkpoint_count = count;
    edit.record().losses = 0;
    return edit.Save();
  });
  // After an I/O error the row may yet turn out to be on disk; then it needs the file.
  if (!status.ok() && !absl::IsInternal(status)) checkpoints_.Remove(name);
  return status;
}

absl::StatusOr<absl::optional<std::string>> SqliteJobStore::ReadCheckpoint(const JobClaim& claim) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const JobRow row,
                             Read([&](JobTables& tables) { return FindRunning(tables, claim); }));
  if (row.checkpoint.name.empty()) return absl::optional<std::string>();
  ATTNPRUNE_ASSIGN_OR_RETURN(std::string bytes, checkpoints_.Read(row.checkpoint));
  return absl::optional<std::string>(std::move(bytes));
}

absl::StatusOr<int64_t> SqliteJobStore::AppendEvents(const JobClaim& claim,
                                                     absl::Span<const NewEvent> events) {
  for (const NewEvent& event : events) {
    if (!IsProgress(event.kind) && event.kind != EventKind::kWarning) {
      return absl::InvalidArgumentError("only progress and warnings can be appended");
    }
  }
  return Write([&](JobTables& tables, Aftermath& aftermath) -> absl::StatusOr<int64_t> {
    ATTNPRUNE_ASSIGN_OR_RETURN(JobRow row, FindRunning(tables, claim));
    const int64_t first = row.record.next_sequence;
    JobEdit edit(&tables, &aftermath, std::move(row), clock_.Now());
    for (const NewEvent& event : events) {
      StoredEvent stored;
      stored.kind = event.kind;
      stored.payload = event.payload;
      edit.AddEvent(std::move(stored));
    }
    ATTNPRUNE_RETURN_IF_ERROR(edit.Save());
    return first;
  });
}

absl::StatusOr<int64_t> SqliteJobStore::FinishMethod(const JobClaim& claim, int method_index,
                                                     absl::string_view result,
                                                     absl::Span<const std::string> tensor_digests) {
  return Write([&](JobTables& tables, Aftermath& aftermath) -> absl::StatusOr<int64_t> {
    ATTNPRUNE_ASSIGN_OR_RETURN(JobRow row, FindRunning(tables, claim));
    if (row.results != method_index) {
      return absl::FailedPreconditionError(absl::StrCat("job ", claim.id, ": result ", method_index,
                                                        " is not next, ", row.results,
                                                        " are there"));
    }
    JobEdit edit(&tables, &aftermath, std::move(row), clock_.Now());
    ++edit.row().results;
    edit.record().losses = 0;
    edit.ReplaceCheckpoint({});
    StoredEvent event;
    event.kind = EventKind::kMethodResult;
    event.method_index = method_index;
    event.payload = std::string(result);
    const int64_t sequence = edit.AddEvent(std::move(event));
    ATTNPRUNE_RETURN_IF_ERROR(tables.AddResult(edit.row(), method_index, result));
    ATTNPRUNE_RETURN_IF_ERROR(
        tables.AddTensors(edit.row(), {tensor_digests.begin(), tensor_digests.end()}));
    ATTNPRUNE_RETURN_IF_ERROR(edit.Save());
    return sequence;
  });
}

absl::Status SqliteJobStore::Finish(const JobClaim& claim, JobState state, const Failure& failure,
                                    absl::string_view reason) {
  return Write([&](JobTables& tables, Aftermath& aftermath) -> absl::Status {
    ATTNPRUNE_ASSIGN_OR_RETURN(JobRow row, FindClaimed(tables, claim));
    JobEdit edit(&tables, &aftermath, std::move(row), clock_.Now());
    ATTNPRUNE_RETURN_IF_ERROR(edit.End(state, failure, reason));
    return edit.Save();
  });
}

absl::Status SqliteJobStore::Requeue(const JobClaim& claim, RequeueCause cause,
                                     absl::string_view reason) {
  return Write([&](JobTables& tables, Aftermath& aftermath) -> absl::Status {
    ATTNPRUNE_ASSIGN_OR_RETURN(JobRow row, FindRunning(tables, claim));
    JobEdit edit(&tables, &aftermath, std::move(row), clock_.Now());
    edit.Requeue(cause, reason);
    return edit.Save();
  });
}

// --- Upkeep ---

absl::StatusOr<Snapshot> SqliteJobStore::ReadOutstanding() {
  return Read([&](JobTables& tables) -> absl::StatusOr<Snapshot> {
    ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<JobRow> rows, tables.ReadOutstanding());
    Snapshot snapshot;
    snapshot.now = clock_.Now();
    for (const JobRow& row : rows) snapshot.jobs.push_back(Outstanding(row));
    return snapshot;
  });
}

absl::StatusOr<std::map<JobState, int64_t>> SqliteJobStore::CountByState() {
  return Read([](JobTables& tables) { return tables.CountByState(); });
}

absl::Status SqliteJobStore::CompactEvents(absl::string_view id, const CompactionLimits& limits) {
  if (limits.progress < 1 || limits.others < 1) {
    return FieldError("limits", absl::StrCat("must be at least 1, got ", limits.progress, " and ",
                                             limits.others));
  }
  return Write([&](JobTables& tables, Aftermath&) -> absl::Status {
    ATTNPRUNE_ASSIGN_OR_RETURN(JobRow row, FindJob(tables, id));
    ATTNPRUNE_ASSIGN_OR_RETURN(const absl::optional<int64_t> cut,
                               tables.FindCut(row.number, limits.others));
    if (cut.has_value()) {
      ATTNPRUNE_RETURN_IF_ERROR(tables.DropEventsUpTo(row.number, *cut));
      row.record.oldest_sequence = *cut + 1;
      ATTNPRUNE_RETURN_IF_ERROR(tables.Save(row));
    }
    while (true) {
      ATTNPRUNE_ASSIGN_OR_RETURN(const int64_t progress, tables.CountProgress(row.number));
      if (progress <= limits.progress) return absl::OkStatus();
      ATTNPRUNE_RETURN_IF_ERROR(tables.DropEverySecondProgress(row.number));
    }
  });
}

absl::StatusOr<std::set<std::string>> SqliteJobStore::ReferencedDigests() {
  return Read([](JobTables& tables) { return tables.ReadTensors(); });
}

// --- Opening ---

absl::Status SqliteJobStore::TakeBack(const JobRow& row) {
  const OutstandingJob job = Outstanding(row);
  const Action action = OfLostWorker(job, clock_.Now(), options_.policy);
  switch (action.kind) {
    case Action::Kind::kFail:
      return Finish(action.claim, JobState::kFailed, {action.code, action.message}, kServerLost);
    case Action::Kind::kCancel:
      return Finish(action.claim, JobState::kCancelled, {}, action.message);
    default:
      return Requeue(action.claim, RequeueCause::kWorkerLost, WhyRequeued(row));
  }
}

absl::Status SqliteJobStore::Recover() {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<JobRow> rows,
                             Read([](JobTables& tables) { return tables.ReadOutstanding(); }));
  std::set<std::string> checkpoints;
  for (const JobRow& row : rows) {
    checkpoints.insert(row.checkpoint.name);
    if (row.record.state == JobState::kRunning) ATTNPRUNE_RETURN_IF_ERROR(TakeBack(row));
  }
  checkpoints_.RemoveAllBut(checkpoints);
  return absl::OkStatus();
}

}  // namespace

namespace {

absl::StatusOr<std::unique_ptr<JobStore>> Open(const FolderLock& lock, const std::string& path,
                                               const SqliteJobStoreOptions& options) {
  ATTNPRUNE_RETURN_IF_ERROR(MakeFolder(lock.folder() + "/checkpoints"));
  ATTNPRUNE_RETURN_IF_ERROR(SyncFolder(lock.folder()));
  ATTNPRUNE_RETURN_IF_ERROR(MakeJobDatabase(path));
  ATTNPRUNE_ASSIGN_OR_RETURN(sqlite::Database writer, OpenJobDatabase(path));
  ATTNPRUNE_RETURN_IF_ERROR(CheckJobDatabase(&writer));
  ATTNPRUNE_ASSIGN_OR_RETURN(sqlite::Database reader, OpenJobDatabase(path));
  auto store = std::make_unique<SqliteJobStore>(options, std::move(writer), std::move(reader),
                                                lock.folder() + "/checkpoints");
  ATTNPRUNE_RETURN_IF_ERROR(store->Recover());
  return std::unique_ptr<JobStore>(std::move(store));
}

}  // namespace

absl::StatusOr<std::unique_ptr<JobStore>> OpenSqliteJobStore(const FolderLock& lock,
                                                             const SqliteJobStoreOptions& options) {
  const std::string path = lock.folder() + "/jobs.sqlite3";
  absl::StatusOr<std::unique_ptr<JobStore>> store = Open(lock, path, options);
  if (store.ok() || absl::StrContains(store.status().message(), path)) return store;
  return absl::Status(store.status().code(), absl::StrCat(path, ": ", store.status().message()));
}

}  // namespace attnprune
