// What is stored, listed: finished tensors and unfinished uploads, page by page.
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/server/blobs/blob_store_conformance.h"

namespace attnprune {
namespace {

std::vector<std::string> DigestsOf(const absl::StatusOr<std::vector<BlobFacts>>& blobs) {
  EXPECT_TRUE(blobs.ok()) << blobs.status();
  std::vector<std::string> digests;
  for (const BlobFacts& facts : *blobs) digests.push_back(facts.sha256);
  return digests;
}

TEST_P(BlobConformance, ListsWhatIsThereInOrderOfDigestPageByPage) {
  std::set<std::string> sorted;
  for (int i = 0; i < 40; ++i) sorted.insert(*store().Put(absl::StrCat("tensor ", i)));
  const std::vector<std::string> all(sorted.begin(), sorted.end());
  EXPECT_EQ(DigestsOf(store().List("", 100)), all);
  Reopen();
  std::vector<std::string> paged;
  for (std::string after;; after = paged.back()) {
    const std::vector<std::string> page = DigestsOf(store().List(after, 7));
    paged.insert(paged.end(), page.begin(), page.end());
    if (page.size() < 7) break;
  }
  EXPECT_EQ(paged, all);
  EXPECT_THAT(DigestsOf(store().List(all.back(), 7)), ::testing::IsEmpty());
  EXPECT_THAT(DigestsOf(store().List(std::string(64, '0'), 1)), ::testing::ElementsAre(all[0]));
}

TEST_P(BlobConformance, APageMissesNothingThatStaysWhileOthersComeAndGo) {
  std::set<std::string> sorted;
  for (int i = 0; i < 9; ++i) sorted.insert(*store().Put(absl::StrCat("tensor ", i)));
  const std::vector<std::string> before(sorted.begin(), sorted.end());
  const std::vector<std::string> first = DigestsOf(store().List("", 4));
  ASSERT_TRUE(store().Remove(first.back()).ok());
  ASSERT_TRUE(store().Put(std::string("another")).ok());
  const std::vector<std::string> rest = DigestsOf(store().List(first.back(), 100));
  for (size_t i = 4; i < before.size(); ++i) {
    EXPECT_THAT(rest, ::testing::Contains(before[i]));
  }
}

TEST_P(BlobConformance, TellsSizesAndTimesAndMovesNeither) {
  const absl::Time stored = clock().Now();
  const std::string digest = *store().Put(RandomBytes(100, 1));
  clock().Advance(absl::Hours(1));
  const std::string other = Sha256Of(std::string("never stored"));
  for (int i = 0; i < 2; ++i) {
    for (const auto& found : {store().List("", 5), store().LookAt({other, digest, "x"})}) {
      ASSERT_EQ(found->size(), 1U);
      EXPECT_EQ(found->front().sha256, digest);
      EXPECT_EQ(found->front().size_bytes, 100);
      EXPECT_EQ(found->front().touched, stored);
    }
  }
  ASSERT_TRUE(IsThere(digest));
  EXPECT_EQ(store().List("", 5)->front().touched, clock().Now());
  EXPECT_THAT(*store().LookAt({}), ::testing::IsEmpty());
}

std::vector<std::string> KeysOf(const absl::StatusOr<std::vector<UploadFacts>>& uploads) {
  EXPECT_TRUE(uploads.ok()) << uploads.status();
  std::vector<std::string> keys;
  for (const UploadFacts& upload : *uploads) keys.push_back(upload.Key());
  return keys;
}

TEST_P(UploadConformance, ListsUnfinishedUploadsByKeyPageByPageAndByTenant) {
  using ::testing::ElementsAre;
  const std::string bytes = RandomBytes(100, 1);
  const auto leave = [&](const std::string& tenant, const std::string& upload_id, size_t count) {
    UploadSpec spec = SpecOf(upload_id, bytes);
    spec.tenant = tenant;
    UploadPart(spec, bytes, count);
  };
  leave("", "b", 10);
  leave("", "A_2", 20);
  leave("t", "b", 30);
  leave("t", "a.1", 40);
  leave("ten-ant", "c", 50);
  ASSERT_TRUE(UploadFrom(SpecOf("done", "other"), "other", 0).ok());
  Reopen();
  const absl::optional<std::string> all = absl::nullopt;
  const std::vector<std::string> keys = {"A_2", "b", "t@a.1", "t@b", "ten-ant@c"};
  EXPECT_EQ(KeysOf(store().ListUploads(all, "", 100)), keys);
  EXPECT_THAT(KeysOf(store().ListUploads(all, "", 2)), ElementsAre("A_2", "b"));
  EXPECT_THAT(KeysOf(store().ListUploads(all, "b", 2)), ElementsAre("t@a.1", "t@b"));
  EXPECT_THAT(KeysOf(store().ListUploads(all, "t@b", 2)), ElementsAre("ten-ant@c"));
  EXPECT_THAT(KeysOf(store().ListUploads("t", "", 100)), ElementsAre("t@a.1", "t@b"));
  EXPECT_THAT(KeysOf(store().ListUploads("", "", 100)), ElementsAre("A_2", "b"));
  EXPECT_THAT(KeysOf(store().ListUploads("none", "", 100)), ElementsAre());

  const UploadFacts upload = store().ListUploads("t", "", 1)->front();
  EXPECT_EQ(upload.tenant, "t");
  EXPECT_EQ(upload.upload_id, "a.1");
  EXPECT_EQ(upload.sha256, Sha256Of(bytes));
  EXPECT_EQ(upload.size_bytes, 100);
  EXPECT_EQ(upload.received, 40);
  EXPECT_EQ(upload.touched, clock().Now());
}

TEST_P(UploadConformance, ListsAnUploadThatIsRunningAsFarAsItIs) {
  const std::string bytes = RandomBytes(100, 1);
  const std::unique_ptr<Upload> upload = Start(SpecOf("u", bytes), 0);
  for (const size_t from : {0, 30, 60}) {
    ASSERT_TRUE(upload->Append(absl::MakeConstSpan(bytes).subspan(from, 30)).ok());
    EXPECT_EQ(store().ListUploads("", "", 5)->front().received, static_cast<int64_t>(from) + 30);
  }
  ASSERT_TRUE(upload->Append(absl::MakeConstSpan(bytes).subspan(90)).ok());
  ASSERT_TRUE(upload->Finish().ok());
  EXPECT_THAT(KeysOf(store().ListUploads("", "", 5)), ::testing::IsEmpty());
}

}  // namespace
}  // namespace attnprune
