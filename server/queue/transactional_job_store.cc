// The rules of what clients and upkeep ask for.
#include "server/queue/transactional_job_store.h"

#include <cstring>
#include <limits>
#include <random>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "server/queue/checksum.h"

namespace attnprune {
namespace {

// 12 characters: 60 random bits, short enough to type.
std::string NewId(JobKind kind) {
  constexpr char kLetters[] = "0123456789abcdefghjkmnpqrstvwxyz";
  std::random_device random;
  std::string id = kind == JobKind::kRun ? kRunIdPrefix : "";
  for (int i = 0; i < 12; ++i) id += kLetters[random() % 32];
  return id;
}

absl::StatusOr<JobRow> FindJob(JobReader& rows, absl::string_view id) {
  ATTNPRUNE_ASSIGN_OR_RETURN(absl::optional<JobRow> row, rows.FindById(id));
  if (!row.has_value()) return NoSuchJob(id);
  return *std::move(row);
}

// Page tokens of List: where the page before ended and for which filter it was. Base64url of 24
// bytes, little-endian: the filter's hash, the number, the hash of these two.
struct Token {
  int64_t filter, number, checksum;
};
static_assert(sizeof(Token) == 24);

int64_t HashOf(const JobFilter& filter) {
  Checksum hash;
  hash.AddInteger(static_cast<int64_t>(filter.kind));
  for (const JobState state : filter.states) hash.AddInteger(static_cast<int64_t>(state));
  for (const auto& [key, value] : filter.labels) hash.AddText(key).AddText(value);
  if (filter.tenant.has_value()) hash.AddText("tenant").AddText(*filter.tenant);
  return hash.Value();
}

int64_t HashOf(const Token& token) {
  return Checksum().AddInteger(token.filter).AddInteger(token.number).Value();
}

std::string EncodePageToken(const JobFilter& filter, int64_t last_number) {
  Token token = {HashOf(filter), last_number, 0};
  token.checksum = HashOf(token);
  std::string bytes(sizeof token, '\0');
  std::memcpy(bytes.data(), &token, sizeof token);
  return absl::WebSafeBase64Escape(bytes);
}

// The number. INVALID_ARGUMENT naming page_token: not such a token, or of another filter.
absl::StatusOr<int64_t> DecodePageToken(const JobFilter& filter, absl::string_view text) {
  std::string bytes;
  Token token = {};
  if (absl::WebSafeBase64Unescape(text, &bytes) && bytes.size() == sizeof token) {
    std::memcpy(&token, bytes.data(), sizeof token);
    if (token.checksum == HashOf(token)) {
      if (token.filter == HashOf(filter)) return token.number;
      return FieldError("page_token", "must be used with the filter of the page it came with");
    }
  }
  return FieldError("page_token", "must be one that the server gave");
}

}  // namespace

OutstandingJob Outstanding(const JobRow& row) {
  const JobRecord& job = row.record;
  return {job.id,      job.state,      row.number,      job.priority,         job.fence,
          job.timeout, job.start_time, job.lease_until, job.cancel_requested, job.losses,
          job.tenant};
}

absl::Status TransactionalJobStore::WriteInTurn(absl::FunctionRef<absl::Status()> write) {
  if (database_->WritesInParallel()) return write();
  const MutexLock lock(&write_mutex_);
  return write();
}

void TransactionalJobStore::Conclude(const PostCommit& post_commit, JobNews::Turn& turn) {
  for (const std::string& name : post_commit.unused_checkpoints) checkpoints_->Remove(name);
  news_.Tell(turn, post_commit);
}

// --- Clients ---

absl::StatusOr<CreateOutcome> TransactionalJobStore::Create(const NewJob& job) {
  return Write([&](JobRows& rows, PostCommit& post_commit) -> absl::StatusOr<CreateOutcome> {
    if (job.request_id.empty()) return Insert(job, rows, post_commit);
    ATTNPRUNE_ASSIGN_OR_RETURN(absl::optional<JobRow> known,
                               rows.FindByRequestId(job.tenant, job.request_id));
    if (!known.has_value()) return Insert(job, rows, post_commit);
    if (known->record.request_digest != job.request_digest) {
      return absl::AlreadyExistsError(absl::StrCat("request_id ", job.request_id,
                                                   " was used for another request, which made job ",
                                                   known->record.id));
    }
    ATTNPRUNE_ASSIGN_OR_RETURN(JobRecord record, rows.Complete(*known));
    return CreateOutcome{std::move(record), false};
  });
}

absl::Status TransactionalJobStore::CheckRoom(absl::string_view tenant, JobRows& rows) const {
  ATTNPRUNE_ASSIGN_OR_RETURN(const int64_t queued, rows.CountQueued());
  if (queued >= max_queued_jobs_) {
    return absl::ResourceExhaustedError(
        absl::StrCat("the queue is full: ", queued, " jobs wait, the limit is ", max_queued_jobs_));
  }
  if (max_queued_per_tenant_ == 0 || queued < max_queued_per_tenant_) return absl::OkStatus();
  ATTNPRUNE_ASSIGN_OR_RETURN(const int64_t of_tenant, rows.CountQueuedOf(tenant));
  if (of_tenant < max_queued_per_tenant_) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      "the queue has ", of_tenant, " jobs of the tenant, the limit is ", max_queued_per_tenant_));
}

absl::StatusOr<CreateOutcome> TransactionalJobStore::Insert(const NewJob& job, JobRows& rows,
                                                            PostCommit& post_commit) const {
  ATTNPRUNE_RETURN_IF_ERROR(CheckRoom(job.tenant, rows));
  JobRow row;
  row.record.id = NewId(job.kind);
  row.record.tenant = job.tenant;
  row.record.priority = job.priority;
  row.record.timeout = job.timeout;
  row.record.create_time = rows.Now();
  row.record.request_id = job.request_id;
  row.record.request_digest = job.request_digest;
  row.record.labels = job.labels;
  row.record.spec = job.spec;
  row.record.origin = job.origin;
  ATTNPRUNE_RETURN_IF_ERROR(rows.Insert(&row));
  ATTNPRUNE_RETURN_IF_ERROR(
      rows.AddTensors(row, {job.tensor_digests.begin(), job.tensor_digests.end()}));
  JobEdit edit(&rows, &post_commit, std::move(row));
  edit.AddStateChange("");
  ATTNPRUNE_RETURN_IF_ERROR(edit.Save());
  return CreateOutcome{edit.record(), true};
}

absl::StatusOr<JobRecord> TransactionalJobStore::Get(absl::string_view id) {
  return Read([&](JobReader& rows) -> absl::StatusOr<JobRecord> {
    ATTNPRUNE_ASSIGN_OR_RETURN(const JobRow row, FindJob(rows, id));
    return rows.Complete(row);
  });
}

absl::StatusOr<LogExtent> TransactionalJobStore::ReadLogExtent(absl::string_view id) {
  return Read([&](JobReader& rows) -> absl::StatusOr<LogExtent> {
    ATTNPRUNE_ASSIGN_OR_RETURN(const JobRow row, FindJob(rows, id));
    return LogExtent{.state = row.record.state,
                     .oldest_sequence = row.record.oldest_sequence,
                     .newest_sequence = row.record.next_sequence - 1,
                     .tenant = row.record.tenant};
  });
}

absl::StatusOr<JobPage> TransactionalJobStore::List(const JobFilter& filter, int page_size,
                                                    absl::string_view page_token) {
  if (page_size < 1) {
    return MustError("page_size", "be at least 1", page_size);
  }
  int64_t below = std::numeric_limits<int64_t>::max();
  if (!page_token.empty()) {
    ATTNPRUNE_ASSIGN_OR_RETURN(below, DecodePageToken(filter, page_token));
  }
  return Read([&](JobReader& rows) -> absl::StatusOr<JobPage> {
    const int one_more = page_size < std::numeric_limits<int>::max() ? page_size + 1 : page_size;
    ATTNPRUNE_ASSIGN_OR_RETURN(std::vector<int64_t> numbers,
                               rows.FindNumbers(filter, below, one_more));
    JobPage page;
    if (numbers.size() > static_cast<size_t>(page_size)) {
      numbers.resize(static_cast<size_t>(page_size));
      page.next_page_token = EncodePageToken(filter, numbers.back());
    }
    for (const int64_t number : numbers) {
      ATTNPRUNE_ASSIGN_OR_RETURN(const JobRow row, rows.ReadRow(number));
      ATTNPRUNE_ASSIGN_OR_RETURN(JobRecord record, rows.Complete(row));
      page.jobs.push_back(std::move(record));
    }
    return page;
  });
}

absl::StatusOr<JobRecord> TransactionalJobStore::RequestCancel(absl::string_view id) {
  return Write([&](JobRows& rows, PostCommit& post_commit) -> absl::StatusOr<JobRecord> {
    ATTNPRUNE_ASSIGN_OR_RETURN(JobRow row, FindJob(rows, id));
    if (IsTerminal(row.record.state)) return rows.Complete(row);
    const bool asked_before = row.record.cancel_requested;
    JobEdit edit(&rows, &post_commit, std::move(row));
    edit.record().cancel_requested = true;
    if (edit.record().state == JobState::kQueued) {
      ATTNPRUNE_RETURN_IF_ERROR(edit.End(JobState::kCancelled, {}, "cancelled while queued"));
    } else {
      post_commit.cancel_requested = !asked_before;
    }
    ATTNPRUNE_RETURN_IF_ERROR(edit.Save());
    return rows.Complete(edit.row());
  });
}

absl::StatusOr<JobRecord> TransactionalJobStore::Resume(absl::string_view id) {
  return Write([&](JobRows& rows, PostCommit& post_commit) -> absl::StatusOr<JobRecord> {
    ATTNPRUNE_ASSIGN_OR_RETURN(JobRow row, FindJob(rows, id));
    const JobState state = row.record.state;
    const bool stopped = state == JobState::kFailed || state == JobState::kCancelled;
    if (KindOf(id) != JobKind::kRun || !stopped) {
      return absl::FailedPreconditionError(absl::StrCat(
          "only a run that FAILED or was CANCELLED can be resumed; ", id, " is ", ToString(state)));
    }
    JobEdit edit(&rows, &post_commit, std::move(row));
    edit.Resume();
    ATTNPRUNE_RETURN_IF_ERROR(edit.Save());
    return rows.Complete(edit.row());
  });
}

absl::Status TransactionalJobStore::Delete(absl::string_view id) {
  return Write([&](JobRows& rows, PostCommit&) -> absl::Status {
    ATTNPRUNE_ASSIGN_OR_RETURN(const JobRow row, FindJob(rows, id));
    if (!IsTerminal(row.record.state)) {
      return absl::FailedPreconditionError(
          absl::StrCat("job ", id, " is ", ToString(row.record.state), "; cancel it first"));
    }
    return rows.Remove(row.number);
  });
}

absl::StatusOr<std::vector<StoredEvent>> TransactionalJobStore::ReadEvents(absl::string_view id,
                                                                           int64_t after,
                                                                           int limit) {
  if (limit < 1) return MustError("limit", "be at least 1", limit);
  return Read([&](JobReader& rows) -> absl::StatusOr<std::vector<StoredEvent>> {
    ATTNPRUNE_ASSIGN_OR_RETURN(const JobRow row, FindJob(rows, id));
    const int64_t oldest = row.record.oldest_sequence;
    if (after < oldest - 1) return HistoryDroppedError(id, after, oldest);
    return rows.ReadEvents(row.number, after, limit);
  });
}

// --- Tensors of tenants ---

absl::Status TransactionalJobStore::NoteTensors(absl::string_view tenant,
                                                absl::Span<const std::string> digests) {
  return Write([&](JobRows& rows, PostCommit&) -> absl::Status {
    for (const std::string& digest : digests) {
      ATTNPRUNE_RETURN_IF_ERROR(rows.NoteTensor(tenant, digest, rows.Now()));
    }
    return absl::OkStatus();
  });
}

absl::StatusOr<std::set<std::string>> TransactionalJobStore::FindOwnTensors(
    absl::string_view tenant, absl::Span<const std::string> digests) {
  return Read([&](JobReader& rows) -> absl::StatusOr<std::set<std::string>> {
    std::set<std::string> own;
    for (const std::string& digest : digests) {
      ATTNPRUNE_ASSIGN_OR_RETURN(const bool has, rows.HasTensor(tenant, digest));
      if (has) own.insert(digest);
    }
    return own;
  });
}

absl::StatusOr<std::set<std::string>> TransactionalJobStore::TensorsOf(absl::string_view tenant) {
  return Read([&](JobReader& rows) { return rows.ReadTensorsOf(tenant); });
}

absl::StatusOr<std::vector<OwnTensor>> TransactionalJobStore::ListOwnTensors(
    absl::string_view tenant, absl::string_view after, int limit) {
  return Read([&](JobReader& rows) { return rows.ListOwnTensors(tenant, after, limit); });
}

absl::StatusOr<TensorUsers> TransactionalJobStore::FindUsers(
    const absl::optional<std::string>& tenant, absl::Span<const std::string> digests) {
  return Read([&](JobReader& rows) -> absl::StatusOr<TensorUsers> {
    ATTNPRUNE_ASSIGN_OR_RETURN(TensorUsers users, rows.FindUsers(tenant, digests));
    if (tenant.has_value() || users.size() == digests.size()) return users;
    ATTNPRUNE_ASSIGN_OR_RETURN(const TensorUsers states, rows.ReadStates());
    for (const std::string& digest : digests) {
      const auto state = states.find(digest);
      if (state != states.end()) users.emplace(digest, state->second);
    }
    return users;
  });
}

absl::Status TransactionalJobStore::ForgetTensors(absl::Duration grace) {
  return Write([&](JobRows& rows, PostCommit&) { return rows.ForgetTensors(rows.Now() - grace); });
}

// --- Upkeep ---

absl::StatusOr<Snapshot> TransactionalJobStore::ReadOutstanding() {
  return Read([&](JobReader& rows) -> absl::StatusOr<Snapshot> {
    ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<JobRow> jobs, rows.ReadOutstanding());
    Snapshot snapshot;
    snapshot.now = rows.Now();
    for (const JobRow& job : jobs) snapshot.jobs.push_back(Outstanding(job));
    ATTNPRUNE_ASSIGN_OR_RETURN(snapshot.turns, rows.ReadTurns());
    return snapshot;
  });
}

absl::StatusOr<Snapshot> TransactionalJobStore::ReadTimed() {
  return Read([&](JobReader& rows) -> absl::StatusOr<Snapshot> {
    ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<JobRow> jobs, rows.ReadTimed());
    Snapshot snapshot;
    snapshot.now = rows.Now();
    for (const JobRow& job : jobs) snapshot.jobs.push_back(Outstanding(job));
    return snapshot;
  });
}

absl::StatusOr<std::map<JobState, int64_t>> TransactionalJobStore::CountByState() {
  return Read([](JobReader& rows) { return rows.CountByState(); });
}

absl::Status TransactionalJobStore::CompactEvents(absl::string_view id,
                                                  const CompactionLimits& limits) {
  if (limits.progress < 1 || limits.others < 1) {
    return FieldError("limits", absl::StrCat("must be at least 1, got ", limits.progress, " and ",
                                             limits.others));
  }
  return Write([&](JobRows& rows, PostCommit&) -> absl::Status {
    ATTNPRUNE_ASSIGN_OR_RETURN(JobRow row, FindJob(rows, id));
    ATTNPRUNE_ASSIGN_OR_RETURN(const absl::optional<int64_t> cut,
                               rows.FindCut(row.number, limits.others));
    if (cut.has_value()) {
      ATTNPRUNE_RETURN_IF_ERROR(rows.DropEventsUpTo(row.number, *cut));
      row.record.oldest_sequence = *cut + 1;
      ATTNPRUNE_RETURN_IF_ERROR(rows.Save(row));
    }
    while (true) {
      ATTNPRUNE_ASSIGN_OR_RETURN(const int64_t progress, rows.CountProgress(row.number));
      if (progress <= limits.progress) return absl::OkStatus();
      ATTNPRUNE_RETURN_IF_ERROR(rows.DropEverySecondProgress(row.number));
    }
  });
}

// They are looked for beside the writers; the write looks at each again, since a run may have been
// resumed meanwhile.
absl::StatusOr<std::vector<std::string>> TransactionalJobStore::DeleteEnded(absl::Duration keep,
                                                                            int limit) {
  if (limit < 1) return MustError("limit", "be at least 1", limit);
  absl::StatusOr<std::vector<std::string>> found =
      Read([&](JobReader& rows) { return rows.FindEnded(rows.Now() - keep, limit); });
  if (!found.ok() || found->empty()) return found;
  return Write([&](JobRows& rows, PostCommit&) -> absl::StatusOr<std::vector<std::string>> {
    const absl::Time before = rows.Now() - keep;
    std::vector<std::string> deleted;
    for (const std::string& id : *found) {
      ATTNPRUNE_ASSIGN_OR_RETURN(const absl::optional<JobRow> row, rows.FindById(id));
      if (!row.has_value() || !IsTerminal(row->record.state)) continue;
      if (row->record.end_time.value_or(absl::InfiniteFuture()) >= before) continue;
      ATTNPRUNE_RETURN_IF_ERROR(rows.Remove(row->number));
      deleted.push_back(id);
    }
    return deleted;
  });
}

absl::StatusOr<std::set<std::string>> TransactionalJobStore::ReferencedDigests() {
  return Read([](JobReader& rows) { return rows.ReadTensors(); });
}

}  // namespace attnprune
