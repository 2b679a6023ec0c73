#include "server/queue/job_store.h"

#include "absl/strings/cord.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace attnprune {
namespace {

constexpr char kOldestSequenceUrl[] = "type.attnprune/oldest_sequence";

}  // namespace

absl::Status NoSuchJob(absl::string_view id) {
  return absl::NotFoundError(absl::StrCat("no job ", id));
}

absl::Status HistoryDroppedError(absl::string_view id, int64_t after, int64_t oldest_sequence) {
  absl::Status status = absl::OutOfRangeError(
      absl::StrCat("job ", id, ": events after sequence ", after,
                   " were dropped, the oldest there is has sequence ", oldest_sequence));
  status.SetPayload(kOldestSequenceUrl, absl::Cord(absl::StrCat(oldest_sequence)));
  return status;
}

absl::optional<int64_t> OldestSequence(const absl::Status& status) {
  const absl::optional<absl::Cord> payload = status.GetPayload(kOldestSequenceUrl);
  int64_t sequence = 0;
  if (!payload.has_value() || !absl::SimpleAtoi(std::string(*payload), &sequence)) {
    return absl::nullopt;
  }
  return sequence;
}

}  // namespace attnprune
