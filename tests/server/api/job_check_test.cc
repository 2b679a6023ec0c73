#include "server/api/job_check.h"

#include "core/base/field_error.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/api/request_check.h"
#include "tests/server/api/bad_jobs.h"
#include "tests/server/api/jobs_for_tests.h"

namespace attnprune::api {
namespace {

using ::testing::HasSubstr;

constexpr int64_t kLimit = int64_t{1} << 30;

TEST(CheckJob, NamesTheFieldTheRuleAndTheValueOfEveryBrokenRule) {
  for (const BadJob& row : BadJobs()) {
    SCOPED_TRACE(row.title);
    const absl::Status status = CheckJob(row.job, kLimit).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(FieldAtFault(status), row.field);
    EXPECT_THAT(std::string(status.message()), HasSubstr(row.message));
    EXPECT_LT(status.message().size(), 600u) << "a client's bytes belong shortened";
  }
}

TEST(CheckJob, TakesEveryKindOfProblem) {
  for (const v1::Job& job : {LayerJob(), FactorsJob(), FusedJob()}) {
    EXPECT_TRUE(CheckJob(job, kLimit).ok()) << CheckJob(job, kLimit).status();
  }
}

TEST(CheckJob, TakesTheLastValueThatARuleAllows) {
  v1::Job job = LayerJob();
  job.set_priority(-1000);
  job.mutable_timeout()->set_seconds(1);
  job.set_evaluate_every(-1);
  SetLabel(job, std::string(63, 'k'), std::string(255, 'v'));
  job.mutable_sparsity()->mutable_n_of_m()->set_n(7);
  job.mutable_sparsity()->mutable_n_of_m()->set_m(8);
  job.clear_held_out();
  job.set_held_out_fraction(0.999);
  EXPECT_TRUE(CheckJob(job, kLimit).ok()) << CheckJob(job, kLimit).status();
}

TEST(CheckJob, CountsTheBytesOfEveryTensorWithItsField) {
  const auto checked = CheckJob(LayerJob(), kLimit);
  ASSERT_TRUE(checked.ok()) << checked.status();
  const std::vector<const JobTensor*> tensors = checked->Tensors();
  ASSERT_EQ(tensors.size(), 7u);
  EXPECT_EQ(tensors[0]->field, "job.problem.projections.w_q");
  EXPECT_EQ(tensors[0]->bytes(), 8 * 8 * 4);
  EXPECT_EQ(tensors[4]->field, "job.calibration[0]");
  EXPECT_EQ(tensors[4]->bytes(), 3 * 6 * 8 * 4);
}

TEST(CheckJob, RefusesATensorAboveTheLimitAndTakesOneOfExactlyIt) {
  EXPECT_TRUE(CheckJob(LayerJob(), int64_t{3} * 6 * 8 * 4).ok());
  EXPECT_EQ(FieldAtFault(CheckJob(LayerJob(), 3 * 6 * 8 * 4 - 1).status()),
            "job.calibration[0].shape");
}

TEST(CheckJob, LabelsMethodsOfOneNameByNumber) {
  v1::Job job = LayerJob();
  for (const char* name : {"gd", "magnitude", "gd", "gd"}) job.add_methods()->set_name(name);
  const auto checked = CheckJob(job, kLimit);
  ASSERT_TRUE(checked.ok());
  std::vector<std::string> labels;
  for (const v1::Method& method : checked->job.methods()) labels.push_back(method.label());
  EXPECT_THAT(labels, ::testing::ElementsAre("magnitude", "gd", "magnitude#2", "gd#2", "gd#3"));
}

TEST(CheckJob, ForgetsWhatOnlyTheServerMaySay) {
  v1::Job job = LayerJob();
  job.set_name("jobs/mine");
  job.set_state(v1::SUCCEEDED);
  job.set_attempt(7);
  job.add_results()->set_method("magnitude");
  job.mutable_methods(0)->set_label("mine");
  v1::Job expected = LayerJob();
  expected.mutable_methods(0)->set_label("magnitude");
  EXPECT_EQ(CheckJob(job, kLimit)->job.SerializeAsString(), expected.SerializeAsString());
}

TEST(ParseJobName, TakesWhatJobNameMakesAndNothingElse) {
  EXPECT_EQ(*ParseJobName(JobName("a-1")), "a-1");
  for (const std::string& name :
       {std::string(), std::string("jobs/"), std::string("a-1"), std::string("jobs/A"),
        std::string("jobs/a/b"), std::string("jobs/a\0b", 8), "jobs/" + std::string(64, 'a')}) {
    EXPECT_EQ(FieldAtFault(ParseJobName(name).status()), "name") << name;
  }
}

TEST(CheckRequestId, TakesUpTo128PrintableCharacters) {
  EXPECT_TRUE(CheckRequestId("").ok());
  EXPECT_TRUE(CheckRequestId(std::string(128, '~')).ok());
  EXPECT_EQ(FieldAtFault(CheckRequestId(std::string(129, 'r'))), "request_id");
  EXPECT_EQ(FieldAtFault(CheckRequestId("a\nb")), "request_id");
}

}  // namespace
}  // namespace attnprune::api
