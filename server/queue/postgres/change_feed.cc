#include "server/queue/postgres/change_feed.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "core/base/clock.h"
#include "core/base/status_macros.h"

namespace attnprune::postgres {
namespace {

// Between two looks, however many notifications come.
constexpr absl::Duration kPause = absl::Milliseconds(20);
// Of a database that takes what is sent and answers nothing: its machine, or its processes, hang.
constexpr absl::Duration kSilence = absl::Seconds(5);

// Every transaction below xmin has ended, and is seen or was rolled back; what others do will have
// changed = xmin or more. One snapshot is behind all of the statement.
constexpr char kChanges[] =
    "WITH now AS (SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS xmin)"
    " SELECT xmin, id, state, fence, next_sequence - 1, cancel_requested,"
    " EXISTS (SELECT 1 FROM attnprune.job_parts WHERE job = number AND done = 0)"
    " FROM now LEFT JOIN attnprune.jobs ON changed >= $1::xid8";

std::vector<JobChange> ChangesIn(const Result& found) {
  std::vector<JobChange> changes;
  for (int i = 0; i < found.rows(); ++i) {
    JobChange change;
    change.job_id = found.Text(i, 1);
    if (change.job_id.empty()) continue;  // none
    change.state = static_cast<JobState>(found.Integer(i, 2));
    change.fence = found.Integer(i, 3);
    change.newest_sequence = found.Integer(i, 4);
    change.cancel_requested = found.Integer(i, 5) != 0;
    change.open_part = found.Integer(i, 6) != 0;
    changes.push_back(std::move(change));
  }
  return changes;
}

}  // namespace

ChangeFeed::ChangeFeed(StoreUrl url, ChangeFeedOptions options)
    : url_(std::move(url)),
      options_(std::move(options)),
      wake_fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

ChangeFeed::~ChangeFeed() {
  {
    const MutexLock lock(&mutex_);
    stopping_ = true;
  }
  Wake();
  if (thread_.joinable()) thread_.join();
  close(wake_fd_);
}

absl::Status ChangeFeed::SetBegin(Connection& connection) {
  ATTNPRUNE_ASSIGN_OR_RETURN(
      const Result now, connection.Query("SELECT pg_snapshot_xmin(pg_current_snapshot())::text"));
  cursor_ = now.Text(0, 0);
  return absl::OkStatus();
}

void ChangeFeed::Start(const ChangeFollower& follower) {
  follower_ = follower;
  thread_ = std::thread([this] { Loop(); });
}

void ChangeFeed::Announce() {
  {
    const MutexLock lock(&mutex_);
    if (announce_) return;
    announce_ = true;
  }
  Wake();
}

absl::Status ChangeFeed::status() const {
  const MutexLock lock(&mutex_);
  if (SteadyNow() - asked_ < kSilence) return status_;
  return absl::UnavailableError(
      absl::StrCat("database: has not answered for ", absl::FormatDuration(kSilence)));
}

bool ChangeFeed::stopping() const {
  const MutexLock lock(&mutex_);
  return stopping_;
}

void ChangeFeed::Wake() const {
  const uint64_t one = 1;
  if (write(wake_fd_, &one, sizeof one) < 0) return;  // full: it is awake
}

// --- The thread ---

void ChangeFeed::Loop() {
  while (!stopping()) {
    const absl::Time next = SteadyNow() + kPause;
    {
      const MutexLock lock(&mutex_);
      asked_ = SteadyNow();
    }
    const absl::Status status = Look();
    {
      const MutexLock lock(&mutex_);
      status_ = status;
      asked_ = absl::InfiniteFuture();
    }
    if (!status.ok()) connection_.reset();
    Await(options_.poll_interval);
    absl::SleepFor(next - SteadyNow());
  }
}

void ChangeFeed::Await(absl::Duration at_most) {
  pollfd waits[] = {{wake_fd_, POLLIN, 0}, {-1, POLLIN, 0}};
  if (connection_.has_value() && listens_) waits[1].fd = connection_->socket();
  poll(waits, 2, static_cast<int>(absl::ToInt64Milliseconds(at_most)));
  uint64_t count = 0;
  if (read(wake_fd_, &count, sizeof count) < 0) return;
}

absl::Status ChangeFeed::Look() {
  if (!connection_.has_value()) ATTNPRUNE_RETURN_IF_ERROR(Connect());
  ATTNPRUNE_RETURN_IF_ERROR(SendAnnouncement());
  if (listens_) ATTNPRUNE_RETURN_IF_ERROR(connection_->TakeNotifications().status());
  return ReadChanges();
}

absl::Status ChangeFeed::Connect() {
  ATTNPRUNE_ASSIGN_OR_RETURN(connection_, Connection::Open(url_));
  ATTNPRUNE_ASSIGN_OR_RETURN(const bool pooled, connection_->IsPooled());
  if (pooled && options_.on_warning && !std::exchange(has_warned_, true)) {
    options_.on_warning(
        absl::StrCat("a pooler stands before the database: what other servers change is noticed ",
                     "only every ", absl::FormatDuration(options_.poll_interval)));
  }
  listens_ = !pooled;
  return listens_ ? connection_->Script("LISTEN attnprune").status() : absl::OkStatus();
}

absl::Status ChangeFeed::SendAnnouncement() {
  {
    const MutexLock lock(&mutex_);
    if (!std::exchange(announce_, false)) return absl::OkStatus();
  }
  return connection_->Script("NOTIFY attnprune").status();
}

absl::Status ChangeFeed::ReadChanges() {
  ATTNPRUNE_ASSIGN_OR_RETURN(const Result found, connection_->Query(kChanges, {cursor_}));
  cursor_ = found.Text(0, 0);
  const std::vector<JobChange> changes = ChangesIn(found);
  if (!changes.empty()) follower_(changes);
  return absl::OkStatus();
}

}  // namespace attnprune::postgres
