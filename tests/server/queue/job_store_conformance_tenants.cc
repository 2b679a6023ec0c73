// What belongs to whom: jobs, request ids and tensors of tenants.
#include <gmock/gmock.h>

#include <random>
#include <string>
#include <vector>

#include "core/base/field_error.h"
#include "tests/server/queue/job_store_conformance.h"

namespace attnprune::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

NewJob OfTenant(const std::string& tenant) {
  NewJob job;
  job.tenant = tenant;
  return job;
}

std::vector<std::string> IdsOf(const absl::StatusOr<JobPage>& page) {
  std::vector<std::string> ids;
  EXPECT_TRUE(page.ok()) << page.status();
  for (const JobRecord& job : page->jobs) ids.push_back(job.id);
  return ids;
}

TEST_P(JobStoreConformance, RemembersWhoseAJobIs) {
  const std::string of_a = CreateJob(OfTenant("a")), of_none = CreateJob();
  Reopen();
  EXPECT_EQ(Get(of_a).tenant, "a");
  EXPECT_EQ(store().ReadLogExtent(of_a)->tenant, "a");
  EXPECT_EQ(Get(of_none).tenant, "");
  const Snapshot snapshot = *store().ReadOutstanding();
  ASSERT_EQ(snapshot.jobs.size(), 2U);
  EXPECT_EQ(snapshot.jobs[0].tenant, "a");
  EXPECT_EQ(snapshot.jobs[1].tenant, "");
  const auto claimed = store().Claim("worker", absl::Seconds(30));
  EXPECT_EQ((*claimed)->tenant, "a");
  Reopen();  // requeued
  EXPECT_EQ(Get(of_a).tenant, "a");
}

TEST_P(JobStoreConformance, TenantsTakeTurnsAsTheSchedulerSays) {
  std::mt19937 random(2);
  for (int i = 0; i < 60; ++i) {
    NewJob job = WithPriority(static_cast<int>(random() % 2));
    job.tenant = std::string(1, static_cast<char>('a' + random() % 5 % 3));
    CreateJob(job);
  }
  for (int i = 0; i < 60; ++i) {
    const absl::StatusOr<Snapshot> snapshot = store().ReadOutstanding();
    ASSERT_TRUE(snapshot.ok());
    const OutstandingJob* const next = NextJob(*snapshot);
    ASSERT_NE(next, nullptr);
    ASSERT_EQ(Claim().id, next->id) << "claim " << i;
    if (i == 30) Reopen();
  }
}

TEST_P(JobStoreConformance, ListsATenantsJobsOnly) {
  const std::string a1 = CreateJob(OfTenant("a")), b1 = CreateJob(OfTenant("b"));
  const std::string a2 = CreateJob(OfTenant("a")), none = CreateJob();
  const auto list = [&](absl::optional<std::string> tenant) {
    return IdsOf(store().List({.tenant = std::move(tenant)}, 10, ""));
  };
  EXPECT_THAT(list("a"), ElementsAre(a2, a1));
  EXPECT_THAT(list("b"), ElementsAre(b1));
  EXPECT_THAT(list(""), ElementsAre(none));
  EXPECT_THAT(list("ab"), IsEmpty());
  EXPECT_THAT(list(absl::nullopt), ElementsAre(none, a2, b1, a1));
}

TEST_P(JobStoreConformance, APageTokenIsOfItsTenantsListOnly) {
  for (int i = 0; i < 3; ++i) CreateJob(OfTenant("a"));
  const std::string token = store().List({.tenant = "a"}, 1, "")->next_page_token;
  EXPECT_TRUE(store().List({.tenant = "a"}, 1, token).ok());
  for (const absl::optional<std::string>& other :
       {absl::optional<std::string>("b"), absl::optional<std::string>(""),
        absl::optional<std::string>()}) {
    EXPECT_EQ(FieldAtFault(store().List({.tenant = other}, 1, token).status()), "page_token");
  }
}

TEST_P(JobStoreConformance, RequestIdsAreOfATenant) {
  const auto request = [](const std::string& tenant, const std::string& digest) {
    NewJob job = WithRequest("r", digest);
    job.tenant = tenant;
    return job;
  };
  const std::string of_a = CreateJob(request("a", "1"));
  const std::string of_b = CreateJob(request("b", "2"));
  const std::string of_none = CreateJob(request("", "3"));
  Reopen();
  EXPECT_EQ(CreateJob(request("a", "1")), of_a);
  EXPECT_EQ(CreateJob(request("b", "2")), of_b);
  EXPECT_EQ(CreateJob(request("", "3")), of_none);
  EXPECT_EQ(CodeOf(store().Create(request("a", "2"))), absl::StatusCode::kAlreadyExists);
  for (const std::string& id : {of_a, of_b, of_none}) EXPECT_EQ(Get(id).request_id, "r");
}

TEST_P(JobStoreConformance, NotesTensorsAsATenantsOwn) {
  ASSERT_TRUE(store().NoteTensors("a", {"one", "two"}).ok());
  ASSERT_TRUE(store().NoteTensors("a", {"two"}).ok());
  ASSERT_TRUE(store().NoteTensors("b", {"three"}).ok());
  Reopen();
  const std::vector<std::string> all = {"one", "two", "three", "four"};
  EXPECT_THAT(*store().FindOwnTensors("a", all), UnorderedElementsAre("one", "two"));
  EXPECT_THAT(*store().FindOwnTensors("b", all), UnorderedElementsAre("three"));
  EXPECT_THAT(*store().FindOwnTensors("", all), IsEmpty());
}

TEST_P(JobStoreConformance, ForgetsANoteAfterItsGraceWhichANewOneBegins) {
  ASSERT_TRUE(store().NoteTensors("a", {"old", "again"}).ok());
  clock().Advance(absl::Hours(1));
  ASSERT_TRUE(store().NoteTensors("a", {"again"}).ok());
  clock().Advance(absl::Hours(1));
  const std::vector<std::string> both = {"old", "again"};
  ASSERT_TRUE(store().ForgetTensors(absl::Hours(2) + absl::Seconds(1)).ok());
  EXPECT_THAT(*store().FindOwnTensors("a", both), UnorderedElementsAre("old", "again"));
  ASSERT_TRUE(store().ForgetTensors(absl::Hours(2)).ok());
  EXPECT_THAT(*store().FindOwnTensors("a", both), UnorderedElementsAre("again"));
}

TEST_P(JobStoreConformance, WhatATenantsJobReadsAndMakesIsItsOwnUntilTheJobIsDeleted) {
  NewJob job = OfTenant("a");
  job.tensor_digests = {"input"};
  const std::string id = CreateJob(job);
  const JobClaim claim = Claim();
  ASSERT_TRUE(store().FinishMethod(claim, 0, "result", {"mask"}).ok());
  ASSERT_TRUE(store().Finish(claim, JobState::kSucceeded, {}, "").ok());
  ASSERT_TRUE(store().ForgetTensors(absl::ZeroDuration()).ok());
  const std::vector<std::string> both = {"input", "mask"};
  EXPECT_THAT(*store().FindOwnTensors("a", both), UnorderedElementsAre("input", "mask"));
  EXPECT_THAT(*store().FindOwnTensors("b", both), IsEmpty());
  ASSERT_TRUE(store().Delete(id).ok());
  EXPECT_THAT(*store().FindOwnTensors("a", both), IsEmpty());
}

std::vector<std::string> DigestsOf(const absl::StatusOr<std::vector<OwnTensor>>& tensors) {
  EXPECT_TRUE(tensors.ok()) << tensors.status();
  std::vector<std::string> digests;
  for (const OwnTensor& tensor : *tensors) digests.push_back(tensor.digest);
  return digests;
}

TEST_P(JobStoreConformance, ListsATenantsTensorsByDigestPageByPageWithTheirNotes) {
  ASSERT_TRUE(store().NoteTensors("a", {"d", "b", "x"}).ok());
  ASSERT_TRUE(store().NoteTensors("b", {"e"}).ok());
  const absl::Time first = clock().Now();
  clock().Advance(absl::Hours(1));
  ASSERT_TRUE(store().NoteTensors("a", {"d"}).ok());
  NewJob job = OfTenant("a");
  job.tensor_digests = {"a", "c", "d"};
  CreateJob(job);
  CreateJob(job);
  Reopen();
  EXPECT_THAT(DigestsOf(store().ListOwnTensors("a", "", 10)), ElementsAre("a", "b", "c", "d", "x"));
  EXPECT_THAT(DigestsOf(store().ListOwnTensors("a", "", 2)), ElementsAre("a", "b"));
  EXPECT_THAT(DigestsOf(store().ListOwnTensors("a", "b", 2)), ElementsAre("c", "d"));
  EXPECT_THAT(DigestsOf(store().ListOwnTensors("a", "bb", 10)), ElementsAre("c", "d", "x"));
  EXPECT_THAT(DigestsOf(store().ListOwnTensors("a", "x", 10)), IsEmpty());
  EXPECT_THAT(DigestsOf(store().ListOwnTensors("b", "", 10)), ElementsAre("e"));
  EXPECT_THAT(DigestsOf(store().ListOwnTensors("", "", 10)), IsEmpty());
  const std::vector<OwnTensor> own = *store().ListOwnTensors("a", "", 10);
  EXPECT_EQ(own[0].noted, absl::nullopt) << "a job's alone";
  EXPECT_EQ(own[1].noted, first);
  EXPECT_EQ(own[3].noted, clock().Now());
}

TEST_P(JobStoreConformance, NamesTheNewestJobOfATenantThatRefersToATensor) {
  using ::testing::Pair;
  NewJob job = OfTenant("a");
  job.tensor_digests = {"both", "old"};
  const std::string older = CreateJob(job);
  job.tensor_digests = {"both"};
  const std::string newer = CreateJob(job);
  job = OfTenant("b");
  job.tensor_digests = {"both", "other"};
  const std::string of_b = CreateJob(job);
  const std::vector<std::string> all = {"both", "old", "other", "none"};
  EXPECT_THAT(*store().FindUsers("a", all),
              UnorderedElementsAre(Pair("both", newer), Pair("old", older)));
  EXPECT_THAT(*store().FindUsers("b", all),
              UnorderedElementsAre(Pair("both", of_b), Pair("other", of_b)));
  EXPECT_THAT(*store().FindUsers("c", all), IsEmpty());
  EXPECT_THAT(*store().FindUsers(absl::nullopt, all),
              UnorderedElementsAre(Pair("both", of_b), Pair("old", older), Pair("other", of_b)));
  EXPECT_THAT(*store().FindUsers("a", {}), IsEmpty());

  const JobClaim claim = Claim();
  ASSERT_EQ(claim.id, older);
  ASSERT_TRUE(store().FinishMethod(claim, 0, "result", {"mask"}).ok());
  EXPECT_THAT(*store().FindUsers("a", {"mask"}), UnorderedElementsAre(Pair("mask", older)));
}

TEST_P(JobStoreConformance, WhatAJobGoesOnFromIsUsedByItForThoseWhoSeeAll) {
  using ::testing::Pair;
  const std::string id = CreateJob(OfTenant("a"));
  const JobClaim claim = Claim();
  ASSERT_TRUE(store().FinishMethod(claim, 0, "r", {}, std::vector<std::string>{"hidden"}).ok());
  ASSERT_TRUE(store().OpenPart(claim, 3, {"left", "right"}).ok());
  const std::vector<std::string> all = {"hidden", "left", "right", "none"};
  EXPECT_THAT(*store().FindUsers(absl::nullopt, all),
              UnorderedElementsAre(Pair("hidden", id), Pair("left", id), Pair("right", id)));
  EXPECT_THAT(*store().FindUsers("a", all), IsEmpty()) << "it is no tensor of the tenant's";
}

}  // namespace
}  // namespace attnprune::testing
