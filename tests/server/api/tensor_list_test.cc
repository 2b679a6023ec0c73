// What ListTensors tells: to a tenant of its own alone, with the names that its jobs give.
#include "server/api/tensor_list.h"

#include <gmock/gmock.h>

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "core/base/field_error.h"
#include "core/io/sha256.h"
#include "tests/server/api/backend.h"
#include "tests/support/value_or_die.h"

namespace attnprune::api {
namespace {

using attnprune::testing::ValueOrDie;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

access::Caller Reader(const std::string& tenant) {
  return {.tenant = tenant, .role = access::Role::kReader, .name = ""};
}

access::Caller Submitter(const std::string& tenant) {
  return {.tenant = tenant, .role = access::Role::kSubmitter, .name = ""};
}

class TensorListTest : public ::testing::Test {
 protected:
  // Sends the first `bytes` of a tensor's, and all of it where that is its size.
  std::string Upload(const std::string& tenant, const std::string& data, size_t bytes,
                     const std::string& upload_id = "u") {
    const TensorApi& api = backend_.tensor_api();
    const UploadSpec spec = {.upload_id = upload_id,
                             .sha256 = Sha256Of(data),
                             .size_bytes = static_cast<int64_t>(data.size()),
                             .dtype = "BITMASK"};
    const auto upload = ValueOrDie(api.StartUpload(Submitter(tenant), spec, 0));
    if (!upload->already_there()) {
      EXPECT_TRUE(
          api.Append(Submitter(tenant), *upload, absl::MakeConstSpan(data).subspan(0, bytes), [] {})
              .ok());
    }
    if (bytes < data.size()) return spec.sha256;
    EXPECT_TRUE(api.FinishUpload(Submitter(tenant), *upload).ok());
    return spec.sha256;
  }

  // All pages, of `page_size` each.
  std::vector<v1::StoredTensor> List(const access::Caller& caller, bool unused = false,
                                     int page_size = 0) {
    v1::ListTensorsRequest request;
    request.set_unused(unused);
    request.set_page_size(page_size);
    std::vector<v1::StoredTensor> all;
    while (true) {
      const v1::ListTensorsResponse page =
          ValueOrDie(backend_.tensor_api().ListTensors(caller, request));
      EXPECT_LE(page.tensors_size(), page_size == 0 ? 50 : page_size);
      all.insert(all.end(), page.tensors().begin(), page.tensors().end());
      if (page.next_page_token().empty()) return all;
      request.set_page_token(page.next_page_token());
    }
  }

  std::vector<std::string> Digests(const access::Caller& caller, bool unused = false,
                                   int page_size = 0) {
    std::vector<std::string> digests;
    for (const v1::StoredTensor& one : List(caller, unused, page_size)) {
      digests.push_back(one.tensor().sha256());
    }
    return digests;
  }

  std::string FieldOf(const v1::ListTensorsRequest& request) {
    return FieldAtFault(backend_.tensor_api().ListTensors(access::Everyone(), request).status());
  }

  Backend backend_;
};

TEST_F(TensorListTest, NamesATensorAsTheJobThatUsesItDoes) {
  v1::Job job = backend_.GoodJob();
  job.mutable_calibration(0)->set_name("layer 3, input");
  const v1::Job made = backend_.Create(job);
  const std::string loose = ValueOrDie(backend_.tensors().Put(std::string("nobody's")));
  const std::vector<v1::StoredTensor> all = List(access::Everyone());
  EXPECT_EQ(all.size(), 8U);
  int seen = 0;
  for (const v1::StoredTensor& one : all) {
    EXPECT_EQ(one.committed_bytes(), one.size_bytes());
    EXPECT_EQ(one.upload_id(), "");
    EXPECT_TRUE(one.has_time());
    if (one.tensor().sha256() == loose) {
      EXPECT_EQ(one.used_by() + one.used_as() + one.tensor().name(), "");
      EXPECT_EQ(one.tensor().dtype(), v1::DTYPE_UNSPECIFIED);
      EXPECT_EQ(one.size_bytes(), 8);
      ++seen;
      continue;
    }
    EXPECT_EQ(one.used_by(), made.name());
    if (one.used_as() == "calibration[0]") {
      EXPECT_EQ(one.tensor().DebugString(), made.calibration(0).DebugString());
      EXPECT_EQ(one.size_bytes(), 3 * 6 * 8 * 4);
      ++seen;
    }
    if (one.used_as() == "problem.projections.w_q") {
      EXPECT_THAT(one.tensor().shape(), ElementsAre(8, 8));
      EXPECT_EQ(one.tensor().dtype(), v1::F32);
      ++seen;
    }
  }
  EXPECT_EQ(seen, 3);
  EXPECT_THAT(Digests(access::Everyone(), true), ElementsAre(loose));
}

TEST_F(TensorListTest, TellsATenantOfItsOwnAlone) {
  const std::string mine = Upload("a", "a tensor of a's", 15);
  const std::string others = Upload("b", "a tensor of b's", 15);
  const std::string both = Upload("a", "that both have", 14);
  Upload("b", "that both have", 14);
  Upload("a", "half of it", 5, "half-of-a");
  Upload("b", "less than half of it", 5, "half-of-b");
  const std::vector<v1::StoredTensor> of_a = List(Reader("a"));
  ASSERT_EQ(of_a.size(), 3U);
  EXPECT_EQ(of_a[0].upload_id(), "half-of-a") << "unfinished ones come first";
  EXPECT_EQ(of_a[0].tensor().sha256(), Sha256Of(std::string("half of it")));
  EXPECT_EQ(of_a[0].size_bytes(), 10);
  EXPECT_EQ(of_a[0].committed_bytes(), 5);
  EXPECT_THAT((std::vector<std::string>{of_a[1].tensor().sha256(), of_a[2].tensor().sha256()}),
              UnorderedElementsAre(mine, both));
  EXPECT_EQ(List(Reader("b")).size(), 3U);
  EXPECT_THAT(List(Reader("c")), IsEmpty());
  EXPECT_EQ(List(access::Everyone()).size(), 5U) << "an admin is told of all";
  EXPECT_THAT(Digests(access::Everyone()), ::testing::Contains(others));
}

TEST_F(TensorListTest, TellsNothingOfWhatOthersDoWithTheSameTensor) {
  v1::CreateJobRequest request;
  *request.mutable_job() = backend_.GoodJob();
  std::vector<std::string> digests;
  ForEachTensorRef(request.job(), [&](const std::string&, const v1::TensorRef& ref) {
    digests.push_back(ref.sha256());
  });
  ASSERT_TRUE(backend_.jobs().NoteTensors("a", digests).ok());
  ASSERT_TRUE(backend_.jobs().NoteTensors("b", digests).ok());
  const std::vector<v1::StoredTensor> before = List(Reader("b"));
  ASSERT_EQ(before.size(), digests.size());
  ValueOrDie(backend_.api().CreateJob(Submitter("a"), request, JobOrigin()));
  ValueOrDie(backend_.tensor_api().FindMissing(Submitter("a"), digests));
  const std::vector<v1::StoredTensor> after = List(Reader("b"));
  for (size_t i = 0; i < before.size(); ++i) {
    EXPECT_EQ(after[i].DebugString(), before[i].DebugString()) << "as if a had done nothing";
    EXPECT_EQ(after[i].used_by(), "");
  }
  EXPECT_NE(List(Reader("a")).front().used_by(), "");
  EXPECT_EQ(Digests(Reader("b"), true).size(), digests.size());
  EXPECT_THAT(Digests(Reader("a"), true), IsEmpty());
}

TEST_F(TensorListTest, EachPageGoesOnWhereTheOneBeforeHasEnded) {
  std::set<std::string> stored;
  for (int i = 0; i < 12; ++i) {
    const std::string data = absl::StrCat("tensor ", i);
    stored.insert(Upload("a", data, data.size()));
  }
  for (int i = 0; i < 5; ++i) Upload("a", "not all of it", 3, absl::StrCat("u", i));
  const std::vector<std::string> sorted(stored.begin(), stored.end());
  for (const access::Caller& caller : {Reader("a"), access::Everyone()}) {
    for (const bool unused : {false, true}) {
      const std::vector<std::string> whole = Digests(caller, unused);
      ASSERT_EQ(whole.size(), 17U);
      EXPECT_EQ(std::vector<std::string>(whole.begin() + 5, whole.end()), sorted);
      for (const int page_size : {1, 2, 5, 6, 17, 18}) {
        EXPECT_EQ(Digests(caller, unused, page_size), whole) << page_size;
      }
    }
  }
}

TEST_F(TensorListTest, LeavesOutWhatIsNotedAndNoLongerStored) {
  const std::string gone = Upload("a", "soon gone", 9), kept = Upload("a", "stays", 5);
  ASSERT_TRUE(backend_.tensors().Remove(gone).ok());
  EXPECT_THAT(Digests(Reader("a")), ElementsAre(kept));
  EXPECT_THAT(Digests(Reader("a"), false, 1), ElementsAre(kept));
}

TEST_F(TensorListTest, ATensorWhoseNoteIsForgottenHasTheTimeOfItsJob) {
  v1::CreateJobRequest request;
  *request.mutable_job() = backend_.GoodJob();
  ForEachTensorRef(request.job(), [&](const std::string&, const v1::TensorRef& ref) {
    EXPECT_TRUE(backend_.jobs().NoteTensors("a", {ref.sha256()}).ok());
  });
  const v1::Job job = ValueOrDie(backend_.api().CreateJob(Submitter("a"), request, JobOrigin()));
  ASSERT_TRUE(backend_.jobs().ForgetTensors(absl::ZeroDuration()).ok());
  for (const v1::StoredTensor& one : List(Reader("a"))) {
    EXPECT_EQ(one.time().DebugString(), job.create_time().DebugString());
  }
}

TEST_F(TensorListTest, RefusesPagesThatItDidNotGive) {
  for (int i = 0; i < 3; ++i) Upload("a", absl::StrCat("tensor ", i), 8);
  v1::ListTensorsRequest request;
  request.set_page_size(1001);
  EXPECT_EQ(FieldOf(request), "page_size");
  request.set_page_size(-1);
  EXPECT_EQ(FieldOf(request), "page_size");
  request.set_page_size(1);
  const std::string token =
      ValueOrDie(backend_.tensor_api().ListTensors(access::Everyone(), request)).next_page_token();
  request.set_page_token(token);
  EXPECT_EQ(FieldOf(request), "");
  request.set_unused(true);
  EXPECT_EQ(FieldOf(request), "page_token") << "of the other filter";
  for (const std::string& other :
       {std::string("t"), std::string("t1"), std::string("t1zz"), std::string("x1a"),
        std::string("u1"), std::string("u1a b"), std::string("u1\n"), std::string("u1@"),
        std::string("t1\0", 3), "t1" + std::string(65, 'a'), "u1" + std::string(300, 'a'),
        std::string("t1../../etc")}) {
    request.set_page_token(other);
    EXPECT_EQ(FieldOf(request), "page_token") << other;
  }
}

TEST(ForEachTensorRefTest, SaysWhereEachIs) {
  v1::Job job;
  job.mutable_problem()->mutable_projections()->mutable_qk_norm()->mutable_q_weight()->set_sha256(
      "a");
  job.add_calibration()->set_sha256("b");
  job.add_calibration()->set_sha256("c");
  v1::MatrixResult& matrix = *job.add_results()->add_matrices();
  matrix.mutable_mask()->set_sha256("d");
  (*job.mutable_labels())["x"] = "y";
  std::vector<std::string> found;
  ForEachTensorRef(job, [&](const std::string& path, const v1::TensorRef& ref) {
    found.push_back(absl::StrCat(ref.sha256(), " ", path));
  });
  EXPECT_THAT(found, ElementsAre("a problem.projections.qk_norm.q_weight", "b calibration[0]",
                                 "c calibration[1]", "d results[0].matrices[0].mask"));
}

}  // namespace
}  // namespace attnprune::api
