// How much one tenant may store.
#include "server/api/tenant_bytes.h"

#include <gmock/gmock.h>

#include <limits>
#include <string>

#include "core/io/sha256.h"
#include "server/api/tensor_api.h"
#include "tests/server/api/backend.h"
#include "tests/server/queue/test_places.h"

namespace attnprune::api {
namespace {

using attnprune::testing::SteppedClock;
using ::testing::HasSubstr;

class TenantBytesTest : public ::testing::Test {
 protected:
  static access::Caller Of(const std::string& tenant) {
    return {.tenant = tenant, .role = access::Role::kSubmitter, .name = ""};
  }
  static UploadSpec SpecOf(const std::string& upload_id, const std::string& bytes) {
    Sha256 hash;
    hash.Update(absl::MakeConstSpan(bytes));
    return {.upload_id = upload_id,
            .sha256 = hash.Finish(),
            .size_bytes = static_cast<int64_t>(bytes.size()),
            .dtype = "BITMASK"};
  }
  absl::Status Append(const std::string& tenant, attnprune::Upload& upload,
                      absl::Span<const char> data) {
    return api_.Append(Of(tenant), upload, data, [] {});
  }
  absl::Status Upload(const std::string& tenant, const std::string& bytes) {
    auto upload = api_.StartUpload(Of(tenant), SpecOf("u", bytes), 0);
    if (!upload.ok()) return upload.status();
    if ((*upload)->already_there()) return api_.FinishUpload(Of(tenant), **upload);
    absl::Status appended = Append(tenant, **upload, bytes);
    return appended.ok() ? api_.FinishUpload(Of(tenant), **upload) : appended;
  }

  SteppedClock clock_;
  Backend backend_;
  TenantBytes bytes_{1000, &backend_.tensors(), &backend_.jobs(), &clock_};
  const TensorApi api_{&backend_.tensors(), &backend_.jobs(), &bytes_};
};

TEST_F(TenantBytesTest, AreLimitedForEachTenantAlone) {
  EXPECT_TRUE(Upload("a", std::string(600, '1')).ok());
  const absl::Status refused = Upload("a", std::string(401, '2'));
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.message()),
              HasSubstr("at most 1000 bytes together, 600 are taken and this one has 401"));
  EXPECT_TRUE(Upload("a", std::string(400, '2')).ok());
  EXPECT_TRUE(Upload("b", std::string(1000, '3')).ok());
}

TEST_F(TenantBytesTest, AreNoneForWhatIsTheTenantsAlready) {
  EXPECT_TRUE(Upload("a", std::string(1000, '1')).ok());
  EXPECT_TRUE(Upload("a", std::string(1000, '1')).ok());
  EXPECT_FALSE(Upload("a", "2").ok());
}

TEST_F(TenantBytesTest, HaveWhatCameOfUploadsThatAreUnderWayAndOfLeftOnesInThem) {
  const std::string large(700, '1');
  auto running = api_.StartUpload(Of("a"), SpecOf("large", large), 0);
  ASSERT_TRUE(running.ok());
  EXPECT_TRUE(api_.StartUpload(Of("a"), SpecOf("u", std::string(1000, '3')), 0).ok())
      << "nothing came yet";
  ASSERT_TRUE(Append("a", **running, absl::MakeConstSpan(large).subspan(0, 500)).ok());
  EXPECT_FALSE(Upload("a", std::string(501, '3')).ok()) << "what came counts";
  running->reset();
  EXPECT_FALSE(Upload("a", std::string(501, '3')).ok()) << "what is left counts";
  EXPECT_TRUE(api_.StartUpload(Of("a"), SpecOf("large", large), 500).ok()) << "it can be resumed";
  EXPECT_TRUE(Upload("b", std::string(1000, '3')).ok());
}

TEST_F(TenantBytesTest, EndAnUploadThatPassesThemAndLeaveNothingOfIt) {
  const std::string first(700, '1'), second(700, '2');
  auto a = api_.StartUpload(Of("a"), SpecOf("first", first), 0);
  auto b = api_.StartUpload(Of("a"), SpecOf("second", second), 0);
  ASSERT_TRUE(a.ok() && b.ok());
  ASSERT_TRUE(Append("a", **a, absl::MakeConstSpan(first).subspan(0, 600)).ok());
  ASSERT_TRUE(Append("a", **b, absl::MakeConstSpan(second).subspan(0, 400)).ok());
  const absl::Status refused = Append("a", **b, absl::MakeConstSpan(second).subspan(400));
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.message()),
              HasSubstr("at most 1000 bytes together, 1000 are taken and for the next 300"));
  b->reset();
  EXPECT_EQ(backend_.tensors().UploadBytesOf("a"), 600);
  EXPECT_TRUE(Append("a", **a, absl::MakeConstSpan(first).subspan(600)).ok());
  EXPECT_TRUE(api_.FinishUpload(Of("a"), **a).ok());
}

TEST_F(TenantBytesTest, AreNotWhatAClientSaysOfItsUpload) {
  EXPECT_TRUE(Upload("a", std::string(600, '1')).ok());
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  for (const int64_t offset : {int64_t{500}, kMost, -kMost - 1}) {
    EXPECT_EQ(api_.StartUpload(Of("a"), SpecOf("u", std::string(500, '2')), offset).status().code(),
              absl::StatusCode::kResourceExhausted)
        << offset;
  }
}

TEST_F(TenantBytesTest, HaveResultsInThemThatCameMeanwhile) {
  EXPECT_TRUE(Upload("a", "1").ok());
  NewJob job;
  job.tenant = "a";
  job.tensor_digests = {*backend_.tensors().Put(std::string(900, '9'))};
  ASSERT_TRUE(backend_.jobs().Create(job).ok());
  clock_.Advance(TenantBytes::kRecent);
  EXPECT_FALSE(Upload("a", std::string(100, '2')).ok());
  EXPECT_TRUE(Upload("a", std::string(99, '2')).ok());
}

}  // namespace
}  // namespace attnprune::api
