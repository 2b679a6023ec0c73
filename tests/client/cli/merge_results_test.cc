#include "client/cli/files/merge_results.h"

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/flags/job_flags.h"
#include "core/io/safetensors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/api/temporary_folder.h"

namespace attnprune::cli {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

std::string QueriesOf(const std::string& layer) {
  return absl::StrCat("model.layers.", layer, ".self_attn.q_proj.weight");
}

void AddResult(v1::Job& job, const std::string& method, double held_out,
               const std::string& tensor) {
  v1::MethodResult& result = *job.add_results();
  result.set_method(method);
  result.mutable_relative_error()->set_held_out(held_out);
  result.add_matrices()->mutable_weights()->set_name(tensor);
}

// Of one layer, with two methods, gd the better one.
v1::Job JobOf(const std::string& layer) {
  v1::Job job;
  job.set_name("jobs/of-" + layer);
  job.set_state(v1::SUCCEEDED);
  (*job.mutable_labels())[kLayerLabel] = layer;
  AddResult(job, "wanda", 0.2, QueriesOf(layer));
  AddResult(job, "gd", 0.1, QueriesOf(layer));
  return job;
}

std::string MessageOf(const absl::Status& status) { return std::string(status.message()); }

TEST(ChooseParts, PutsLayersInTheirOrderAndTakesTheBestOfEach) {
  std::vector<v1::Job> jobs = {JobOf("10"), JobOf("2"), JobOf("0")};
  jobs[1].mutable_results(0)->mutable_relative_error()->set_held_out(0.01);
  const auto parts = ChooseParts(jobs, "");
  ASSERT_TRUE(parts.ok()) << parts.status();
  std::vector<std::string> taken;
  for (const auto& [job, result] : *parts) taken.push_back(job->name() + " " + result->method());
  EXPECT_THAT(taken, ElementsAre("jobs/of-0 gd", "jobs/of-2 wanda", "jobs/of-10 gd"));
}

TEST(ChooseParts, TakesTheMethodThatWasNamed) {
  const std::vector<v1::Job> jobs = {JobOf("0"), JobOf("1")};
  const auto parts = ChooseParts(jobs, "wanda");
  ASSERT_TRUE(parts.ok()) << parts.status();
  for (const MergePart& part : *parts) EXPECT_EQ(part.result->method(), "wanda");
  EXPECT_THAT(MessageOf(ChooseParts(jobs, "ste").status()),
              AllOf(HasSubstr("jobs/of-0"), HasSubstr("ste"), HasSubstr("gd, wanda")));
}

TEST(ChooseParts, NamesEveryJobThatHasNotSucceeded) {
  std::vector<v1::Job> jobs = {JobOf("0"), JobOf("1"), JobOf("2")};
  jobs[0].set_state(v1::RUNNING);
  jobs[2].set_state(v1::FAILED);
  const absl::Status status = ChooseParts(jobs, "").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(MessageOf(status), AllOf(HasSubstr("jobs/of-0 (layer 0) is running"),
                                       HasSubstr("jobs/of-2 (layer 2) is failed")));
}

TEST(CheckNoTensorTwice, NamesTheTensorAndBothJobs) {
  std::vector<v1::Job> jobs = {JobOf("0"), JobOf("1"), JobOf("1")};
  jobs[2].set_name("jobs/again");
  EXPECT_THAT(MessageOf(CheckNoTensorTwice(*ChooseParts(jobs, ""))),
              AllOf(HasSubstr("jobs/of-1"), HasSubstr("jobs/again"), HasSubstr(QueriesOf("1"))));
  jobs.pop_back();
  EXPECT_TRUE(CheckNoTensorTwice(*ChooseParts(jobs, "")).ok());
}

TEST(MergeTable, SaysWhatComesFromWhere) {
  std::vector<v1::Job> jobs = {JobOf("0"), JobOf("1")};
  jobs[1].clear_labels();
  EXPECT_EQ(MergeTable(*ChooseParts(jobs, "")),
            "layer        job  method  held out  calibration  pruned %\n"
            "0      jobs/of-0      gd   0.10000      0.00000      0.00\n"
            "-      jobs/of-1      gd   0.10000      0.00000      0.00\n");
}

class Source : public ::testing::Test {
 protected:
  // A model of three layers, of their queries only.
  Source() : path_(folder_.path() + "/model.safetensors") {
    const std::string bytes(8, 'q');
    std::vector<TensorInfo> tensors;
    for (const char* layer : {"0", "1", "2"}) {
      tensors.push_back({.name = QueriesOf(layer),
                         .dtype = DType::kF16,
                         .shape = {2, 2},
                         .bytes = bytes,
                         .file = {}});
    }
    EXPECT_TRUE(WriteSafetensors(path_, tensors).ok());
  }

  const TemporaryFolder folder_;
  const std::string path_;
};

TEST_F(Source, LayersThatNoJobPrunedAreKnown) {
  const std::vector<v1::Job> one = {JobOf("1")}, all = {JobOf("0"), JobOf("1"), JobOf("2")};
  const auto source = Checkpoint::Open(folder_.path());
  ASSERT_TRUE(source.ok()) << source.status();
  EXPECT_THAT(LayersLeft(*ChooseParts(one, ""), *source), ElementsAre(0, 2));
  EXPECT_THAT(LayersLeft(*ChooseParts(all, ""), *source), IsEmpty());
}

TEST_F(Source, IsAFolderAndSoIsWhatIsWritten) {
  EXPECT_THAT(MessageOf(CheckMergeOutput(folder_.path(), "x.safetensors")), HasSubstr("a folder"));
  EXPECT_TRUE(CheckMergeOutput(folder_.path(), "x").ok());
  EXPECT_TRUE(CheckMergeOutput(path_, "x.safetensors").ok()) << "a file makes a file";
}

}  // namespace
}  // namespace attnprune::cli
