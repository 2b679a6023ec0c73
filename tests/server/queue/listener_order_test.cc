// News of jobs that several writers commit at once.
#include <gmock/gmock.h>

#include <semaphore>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "server/queue/job_news.h"

namespace attnprune::testing {
namespace {

using ::testing::ElementsAre;

class Told final : public JobStoreListener {
 public:
  void OnEvents(const std::string& job_id, absl::Span<const StoredEvent> events) override {
    for (const StoredEvent& event : events) told.push_back(absl::StrCat(job_id, event.sequence));
  }
  void OnCancelRequested(const std::string& job_id) override { told.push_back(job_id + " cancel"); }
  void OnRemoteChange(const JobChange& job) override { told.push_back(job.job_id + " changed"); }
  std::vector<std::string> told;
};

PostCommit EventOf(const std::string& job, int64_t sequence) {
  PostCommit commit;
  commit.job_id = job;
  commit.events.emplace_back().sequence = sequence;
  return commit;
}

TEST(JobNews, ComeInTheOrderOfTheirTurnsForOneJobAndHoldNoOtherUp) {
  Told told;
  JobNews news(&told);
  JobNews::Turn first(&news), other(&news);
  first.Take("a");
  std::binary_semaphore taken{0};
  std::thread second([&] {
    JobNews::Turn turn(&news);
    turn.Take("a");
    taken.release();
    news.Tell(turn, EventOf("a", 2));
  });
  taken.acquire();
  other.Take("b");
  news.Tell(other, EventOf("b", 1));
  news.Tell(first, EventOf("a", 1));
  second.join();
  EXPECT_THAT(told.told, ElementsAre("b1", "a1", "a2"));
}

TEST(JobNews, AWriterThatFailedHoldsNobodyUp) {
  Told told;
  JobNews news(&told);
  JobNews::Turn failed(&news), second(&news);
  failed.Take("a");
  second.Take("a");
  failed.Drop();
  news.Tell(second, EventOf("a", 1));
  failed.Take("a");  // another try of it
  news.Tell(failed, EventOf("a", 2));
  EXPECT_THAT(told.told, ElementsAre("a1", "a2"));
}

TEST(JobNews, AreForTheListenerOfTheMoment) {
  Told one, two;
  JobNews news(&one);
  JobNews::Turn turn(&news);
  news.TellChanges({{.job_id = "a"}});
  news.SetListener(&two);
  PostCommit cancel;
  cancel.job_id = "b";
  cancel.cancel_requested = true;
  news.Tell(turn, cancel);  // no turn was taken
  news.SetListener(nullptr);
  news.TellChanges({{.job_id = "c"}});
  EXPECT_THAT(one.told, ElementsAre("a changed"));
  EXPECT_THAT(two.told, ElementsAre("b cancel"));
}

}  // namespace
}  // namespace attnprune::testing
