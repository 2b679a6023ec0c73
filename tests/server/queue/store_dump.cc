#include "tests/server/queue/store_dump.h"

#include <algorithm>
#include <sstream>

#include "absl/strings/escaping.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"

namespace attnprune::testing {
namespace {

int64_t Nanos(absl::Time time) { return absl::ToUnixNanos(time); }

std::string Nanos(const absl::optional<absl::Time>& time) {
  return time.has_value() ? std::to_string(Nanos(*time)) : "none";
}

bool IsForPeople(const StoredEvent& event) {
  return event.kind == EventKind::kStateChange || event.kind == EventKind::kTerminal;
}

void Print(const StoredEvent& event, Wording wording, std::ostream& out) {
  const bool shown = wording == Wording::kExact || !IsForPeople(event);
  out << "  " << event.sequence << " at " << Nanos(event.time) << " kind "
      << static_cast<int>(event.kind) << " state " << ToString(event.state) << " attempt "
      << event.attempt << " method " << event.method_index << " '"
      << (shown ? absl::CEscape(event.payload) : "") << "'\n";
}

// Of the parts that are open.
std::string DumpPartCheckpoints(JobStore& store) {
  std::string dump;
  while (true) {
    const auto part = store.ClaimPart(absl::Hours(1));
    if (!part.ok()) return "ERROR " + part.status().ToString();
    if (!part->has_value()) return dump;
    const auto checkpoint = store.ReadCheckpoint((*part)->claim);
    if (!checkpoint.ok()) return "ERROR " + checkpoint.status().ToString();
    dump += std::to_string((*part)->claim.part) + ": " + checkpoint->value_or("none") + "\n";
  }
}

}  // namespace

std::string DumpJob(const JobRecord& job, const std::vector<StoredEvent>& events, Wording wording) {
  std::ostringstream out;
  out << "tenant '" << job.tenant << "' " << ToString(job.state) << " priority " << job.priority
      << " timeout " << absl::ToInt64Nanoseconds(job.timeout) << " created "
      << Nanos(job.create_time) << " started " << Nanos(job.start_time) << " ended "
      << Nanos(job.end_time) << " request '" << absl::CEscape(job.request_id) << "' '"
      << absl::CEscape(job.request_digest) << "' labels "
      << absl::StrJoin(job.labels, ",", absl::PairFormatter("=")) << " spec '"
      << absl::CEscape(job.spec) << "' results '" << absl::CEscape(absl::StrJoin(job.results, "|"))
      << "' failure " << static_cast<int>(job.failure.code) << " '"
      << (wording == Wording::kExact ? job.failure.message : "") << "' owner '" << job.lease_owner
      << "' fence " << job.fence << " attempt " << job.attempt << " losses " << job.losses
      << " cancel " << job.cancel_requested << " checkpoint " << job.has_checkpoint << " next "
      << job.next_sequence << " oldest " << job.oldest_sequence;
  if (job.state == JobState::kRunning) out << " lease " << Nanos(job.lease_until);
  out << "\n";
  for (const StoredEvent& event : events) Print(event, wording, out);
  return out.str();
}

std::string DumpStore(JobStore& store) {
  std::string dump;
  for (const JobKind kind : {JobKind::kMethods, JobKind::kRun}) {
    const absl::StatusOr<JobPage> page = store.List({.kind = kind}, 1'000'000, "");
    if (!page.ok()) return "ERROR " + page.status().ToString();
    std::vector<JobRecord> jobs = page->jobs;
    std::reverse(jobs.begin(), jobs.end());
    for (const JobRecord& job : jobs) {
      const auto events = store.ReadEvents(job.id, job.oldest_sequence - 1, 1'000'000);
      if (!events.ok()) return "ERROR " + events.status().ToString();
      dump += DumpJob(job, *events, Wording::kExact);
    }
  }
  const auto tensors = store.ReferencedDigests();
  if (!tensors.ok()) return "ERROR " + tensors.status().ToString();
  const std::vector<std::string> noted = {"noted", "aa"};
  const auto own = store.FindOwnTensors("tenant", noted);
  if (!own.ok()) return "ERROR " + own.status().ToString();
  return dump + "tensors " + absl::StrJoin(*tensors, ",") + " of the tenant " +
         absl::StrJoin(*own, ",") + "\n";
}

std::string DumpCheckpoints(JobStore& store) {
  std::string dump;
  while (true) {
    const auto job = store.Claim("dump", absl::Seconds(1));
    if (!job.ok()) return "ERROR " + job.status().ToString();
    if (!job->has_value()) return dump + DumpPartCheckpoints(store);
    const auto checkpoint = store.ReadCheckpoint({(*job)->id, (*job)->fence});
    if (!checkpoint.ok()) return "ERROR " + checkpoint.status().ToString();
    dump += checkpoint->value_or("none") + "\n";
  }
}

}  // namespace attnprune::testing
