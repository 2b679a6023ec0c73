#include "client/cli/views/waiting_view.h"

#include <google/protobuf/util/time_util.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"

namespace attnprune::cli {
namespace {

constexpr int kMostNames = 3;

absl::string_view EndingOf(int number) {
  if (number / 10 % 10 == 1) return "th";
  switch (number % 10) {
    case 1:
      return "st";
    case 2:
      return "nd";
    case 3:
      return "rd";
    default:
      return "th";
  }
}

// "jobs/x", "jobs/x and jobs/y", "jobs/x, jobs/y, jobs/z and 4 more", "2 of other tenants".
std::string NamesText(const v1::Waiting& waiting) {
  const auto& running = waiting.running();
  const int shown = std::min(running.size(), kMostNames);
  std::vector<std::string> names(running.begin(), running.begin() + shown);
  const int unnamed = running.size() - shown + waiting.others_running();
  std::string last =
      unnamed > 0 ? absl::StrCat(unnamed, shown > 0 ? " more" : " of other tenants") : "";
  if (last.empty() && names.size() > 1) {
    last = names.back();
    names.pop_back();
  }
  return absl::StrCat(absl::StrJoin(names, ", "), last.empty() || names.empty() ? "" : " and ",
                      last);
}

// Of an estimate: no finer than it can be.
std::string RoughText(double seconds) {
  const auto whole = static_cast<int64_t>(std::ceil(std::min(seconds, 1e9)));
  if (whole < 60) return absl::StrCat(whole, " s");
  const int64_t minutes = (whole + 59) / 60;
  if (minutes < 60) return absl::StrCat(minutes, " min");
  return absl::StrCat(minutes / 60, " h ", minutes % 60, " min");
}

template <typename Resource>
absl::optional<v1::Waiting> WaitingOf(const Resource& resource) {
  if (!resource.has_waiting()) return absl::nullopt;
  return resource.waiting();
}

}  // namespace

std::string QueuePlaceText(const v1::Waiting& waiting) {
  const int place = waiting.ahead() + 1;
  return absl::StrCat(place, EndingOf(place));
}

std::string StartText(const v1::Waiting& waiting, absl::Time now) {
  const absl::Time start = absl::FromUnixMillis(
      google::protobuf::util::TimeUtil::TimestampToMilliseconds(waiting.may_start_time()));
  return start <= now ? "now" : absl::StrCat("in ", RoughText(absl::ToDoubleSeconds(start - now)));
}

std::string WaitingText(const v1::Waiting& waiting, absl::Time now) {
  if (waiting.running().empty() && waiting.others_running() == 0) return "";
  return absl::StrCat(waiting.ahead() == 0 ? "next" : absl::StrCat(waiting.ahead(), " ahead"), ", ",
                      NamesText(waiting), " at work; may start ", StartText(waiting, now));
}

std::string WaitsRow(const v1::Waiting& waiting, absl::Time now) {
  const std::string text = WaitingText(waiting, now);
  return text.empty() ? "" : absl::StrCat("waits     ", text, "\n");
}

std::string AtWorkRow(const v1::AtWork& work) {
  return absl::StrFormat("at work   %s%.0f %% done, %s left\n",
                         work.method().empty() ? "" : absl::StrCat(work.method(), ", "),
                         100 * work.share(), SecondsText(work.remaining_seconds()));
}

WaitingView::WaitingView(const v1::Job& job) : at_first_(WaitingOf(job)), attempt_(job.attempt()) {}
WaitingView::WaitingView(const v1::Run& run) : at_first_(WaitingOf(run)), attempt_(run.attempt()) {}

// The log begins with waits that are over.
void WaitingView::ApplyState(const v1::StateChange& change) {
  waiting_.reset();
  queued_ = change.state() == v1::QUEUED;
  if (queued_ && change.attempt() == attempt_) waiting_.swap(at_first_);
}

void WaitingView::Apply(const v1::JobEvent& event) {
  if (event.has_state_change()) {
    ApplyState(event.state_change());
  } else if (event.has_heartbeat()) {  // which may be a second behind
    waiting_ = queued_ ? WaitingOf(event.heartbeat()) : absl::nullopt;
  } else if (event.warning().empty()) {
    waiting_.reset();
  }
}

std::string WaitingView::Line(absl::Time now) const {
  const std::string text = waiting_.has_value() ? WaitingText(*waiting_, now) : "";
  return text.empty() ? "" : absl::StrCat("waits for a worker: ", text);
}

std::string WaitingView::News(absl::Time now) {
  v1::Waiting what = waiting_.value_or(v1::Waiting());
  what.clear_may_start_time();
  const std::string bytes = what.SerializeAsString();
  if (bytes == told_) return "";
  told_ = bytes;
  return Line(now);
}

}  // namespace attnprune::cli
