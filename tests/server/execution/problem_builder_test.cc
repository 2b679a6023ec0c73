#include "server/execution/problem_builder.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <utility>
#include <vector>

#include "tests/server/execution/execution_fixture.h"
#include "tests/support/matrices.h"

namespace attnprune {
namespace {

using ::attnprune::testing::GaussianMatrix;
using ::attnprune::testing::LayerJob;
using ::attnprune::testing::Values;
using ::testing::ElementsAre;

class ProblemBuilder : public testing::ExecutionTest {
 protected:
  v1::ProjectionProblem& Layer() { return *job_.mutable_problem()->mutable_projections(); }
  ProjectionWeights Build() {
    const JobSpec spec = DecodeJob(job_).value();
    Problem problem = BuildProblem(spec, &place_.tensors(), [] { return false; }).value();
    EXPECT_TRUE(Validate(problem).ok()) << Validate(problem);
    return std::get<ProjectionWeights>(std::move(problem.weights));
  }
  QkNorm BuildNorm() { return Build().qk_norm.value(); }
  // A stored tensor of Gaussian numbers.
  v1::TensorRef Stored(std::vector<int64_t> shape, unsigned seed) {
    int64_t size = 1;
    for (const int64_t extent : shape) size *= extent;
    return place_.Put(GaussianMatrix(1, size, seed), DType::kF32, shape);
  }

  v1::Job job_ = LayerJob(&place_);  // 2 heads of 4 on 1 key head
};

TEST_F(ProblemBuilder, MakesNoneOfTheOptionsThatAJobDoesNotHave) {
  const ProjectionWeights layer = Build();
  EXPECT_FALSE(layer.qk_norm.has_value());
  EXPECT_EQ(layer.softcap, 0);
  EXPECT_EQ(layer.clip_qkv, 0);
  EXPECT_EQ(layer.alibi, Alibi::kNone);
  EXPECT_EQ(layer.rope->theta, 10000);
  EXPECT_EQ(layer.rope->dim, 0);
  EXPECT_EQ(layer.rope->scaling, RopeScaling::kDefault);
  EXPECT_EQ(layer.rope->attention_factor, 1);
}

TEST_F(ProblemBuilder, MakesTheOptionsOfTheJob) {
  Layer().set_softcap(30);
  Layer().set_clip_qkv(8);
  Layer().set_alibi(v1::FALCON);
  v1::Rope& rope = *Layer().mutable_rope();
  rope.set_layout(v1::INTERLEAVED);
  rope.set_dim(2);
  rope.set_attention_factor(1.5);
  v1::RopeScaling& scaling = *rope.mutable_scaling();
  scaling.set_type(v1::LONGROPE);
  scaling.set_original_max_positions(4096);
  scaling.add_short_factor(2);
  scaling.add_long_factor(3);
  const ProjectionWeights layer = Build();
  EXPECT_EQ(layer.softcap, 30);
  EXPECT_EQ(layer.clip_qkv, 8);
  EXPECT_EQ(layer.alibi, Alibi::kFalcon);
  EXPECT_EQ(layer.rope->layout, RopeLayout::kInterleaved);
  EXPECT_EQ(layer.rope->dim, 2);
  EXPECT_EQ(layer.rope->attention_factor, 1.5);
  EXPECT_EQ(layer.rope->scaling, RopeScaling::kLongrope);
  EXPECT_EQ(layer.rope->original_max_positions, 4096);
  EXPECT_THAT(layer.rope->short_factor, ElementsAre(2));
  EXPECT_THAT(layer.rope->long_factor, ElementsAre(3));
}

TEST_F(ProblemBuilder, FillsInTheDefaultsOfAScaling) {
  v1::RopeScaling& scaling = *Layer().mutable_rope()->mutable_scaling();
  scaling.set_type(v1::YARN);
  scaling.set_factor(4);
  scaling.set_original_max_positions(32);
  const ProjectionWeights yarn = Build();
  EXPECT_EQ(yarn.rope->scaling, RopeScaling::kYarn);
  EXPECT_EQ(yarn.rope->factor, 4);
  EXPECT_EQ(yarn.rope->beta_fast, 32);
  EXPECT_EQ(yarn.rope->beta_slow, 1);
  EXPECT_TRUE(yarn.rope->truncate);
  scaling.set_truncate(false);
  scaling.set_type(v1::LLAMA3);
  const ProjectionWeights llama3 = Build();
  EXPECT_EQ(llama3.rope->scaling, RopeScaling::kLlama3);
  EXPECT_EQ(llama3.rope->low_freq_factor, 1);
  EXPECT_EQ(llama3.rope->high_freq_factor, 4);
  EXPECT_FALSE(llama3.rope->truncate);
}

TEST_F(ProblemBuilder, GivesEveryHeadTheWeightThatAllShare) {
  v1::QkNorm& norm = *Layer().mutable_qk_norm();
  *norm.mutable_q_weight() = Stored({4}, 21);
  *norm.mutable_k_weight() = Stored({4}, 22);
  *norm.mutable_q_bias() = Stored({4}, 23);
  norm.set_kind(v1::LAYER);
  const QkNorm built = BuildNorm();
  EXPECT_EQ(built.kind, NormKind::kLayer);
  EXPECT_EQ(built.group, QkNormGroup::kHead);
  EXPECT_EQ(built.eps, 1e-6);
  std::vector<float> twice = Values(GaussianMatrix(1, 4, 21));
  const std::vector<float> once = twice;
  twice.insert(twice.end(), once.begin(), once.end());
  EXPECT_EQ(built.q_weight, twice);
  EXPECT_EQ(built.k_weight, Values(GaussianMatrix(1, 4, 22)));
  EXPECT_EQ(built.q_bias.size(), 8u);
  EXPECT_TRUE(built.k_bias.empty());
}

TEST_F(ProblemBuilder, TakesAWeightAHeadInEitherShape) {
  v1::QkNorm& norm = *Layer().mutable_qk_norm();
  norm.set_group(v1::WHOLE);
  norm.set_eps(1e-5);
  *norm.mutable_k_weight() = Stored({1, 4}, 22);
  for (const std::vector<int64_t>& shape : {std::vector<int64_t>{8}, std::vector<int64_t>{2, 4}}) {
    *norm.mutable_q_weight() = Stored(shape, 21);
    const QkNorm built = BuildNorm();
    EXPECT_EQ(built.group, QkNormGroup::kWhole);
    EXPECT_EQ(built.eps, 1e-5);
    EXPECT_EQ(built.q_weight, Values(GaussianMatrix(1, 8, 21)));
    EXPECT_EQ(built.k_weight, Values(GaussianMatrix(1, 4, 22)));
  }
}

TEST_F(ProblemBuilder, AddsTheOffsetToWeightsAndNotToBiases) {
  v1::QkNorm& norm = *Layer().mutable_qk_norm();
  *norm.mutable_q_weight() = *norm.mutable_k_weight() = *norm.mutable_k_bias() = Stored({4}, 21);
  norm.set_weight_offset(1);
  const QkNorm built = BuildNorm();
  std::vector<float> one_more = Values(GaussianMatrix(1, 4, 21));
  EXPECT_EQ(built.k_bias, one_more);
  for (float& value : one_more) value = static_cast<float>(static_cast<double>(value) + 1.0);
  EXPECT_EQ(built.k_weight, one_more);
  EXPECT_EQ(std::vector<float>(built.q_weight.begin(), built.q_weight.begin() + 4), one_more);
}

TEST_F(ProblemBuilder, NamesTheNormThatIsNotFinite) {
  v1::QkNorm& norm = *Layer().mutable_qk_norm();
  Matrix weight = GaussianMatrix(2, 4, 21);
  weight(1, 2) = std::numeric_limits<float>::infinity();
  *norm.mutable_q_weight() = place_.Put(weight, DType::kF32);
  *norm.mutable_k_weight() = Stored({4}, 22);
  const JobSpec spec = DecodeJob(job_).value();
  const absl::Status status = BuildProblem(spec, &place_.tensors(), [] { return false; }).status();
  EXPECT_EQ(status.message(),
            "job.problem.projections.qk_norm.q_weight must be finite in float32, got inf at row 1, "
            "column 2");
}

}  // namespace
}  // namespace attnprune
