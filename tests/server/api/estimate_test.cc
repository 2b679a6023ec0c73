#include "server/api/estimate.h"

#include <initializer_list>
#include <limits>

#include "gtest/gtest.h"
#include "server/execution/job_spec.h"
#include "tests/server/api/jobs_for_tests.h"

namespace attnprune::api {
namespace {

constexpr MachineRate kRate = {.flops_per_second = 1e9};

v1::Estimate EstimateOf(const v1::Job& job, const MachineRate& rate, int64_t budget = 0) {
  const auto checked = CheckJob(job, std::numeric_limits<int64_t>::max());
  EXPECT_TRUE(checked.ok()) << checked.status();
  return EstimateJob(*checked, rate, budget);
}

v1::Job GdJob(double steps) {
  v1::Job job = LayerJob();
  job.mutable_methods(0)->set_name("gd");
  (*job.mutable_methods(0)->mutable_parameters())["steps"] = steps;
  return job;
}

v1::Estimate With(v1::AttentionKind kind, int64_t size) {
  v1::Job job = GdJob(100);
  *job.mutable_calibration(0) = Tensor('5', {3, 600, 8});
  job.mutable_problem()->mutable_attention()->set_kind(kind);
  job.mutable_problem()->mutable_attention()->set_size(size);
  return EstimateOf(job, kRate);
}

// d = 512, 8 heads of 64; 16 batches of 1024 tokens, causal: 8 heads keep 16 * 1024 * 1025 / 2
// floats each, 269 MB; the tokens take 34 MB, projections and their gradients 134 MB.
v1::Job LayerOf512() {
  v1::Job job = GdJob(100);
  v1::ProjectionProblem& layer = *job.mutable_problem()->mutable_projections();
  *layer.mutable_w_q() = Tensor('1', {512, 512});
  *layer.mutable_w_k() = Tensor('2', {512, 512});
  layer.set_heads(8);
  layer.set_kv_heads(8);
  layer.clear_b_q();
  layer.clear_b_k();
  job.clear_calibration();
  job.clear_held_out();
  *job.add_calibration() = Tensor('5', {16, 1024, 512});
  return job;
}

TEST(EstimateJob, CountsTheDenseAttentionThatTheSolverKeeps) {
  const double mb = 1e-6 * static_cast<double>(EstimateOf(LayerOf512(), kRate).memory_bytes());
  EXPECT_GT(mb, 269 + 34 + 134);
  EXPECT_LT(mb, 1.15 * (269 + 34 + 134));
}

// As above: 437 MB and 18 MB of solver's state with dense attention, and 269 MB less without it but
// the dense projections, 67 MB. Any budget in between has room for the second only.
TEST(EstimateJob, RebuildsDenseAttentionThatTheBudgetHasNoRoomFor) {
  const v1::Job job = LayerOf512();
  const v1::Estimate free = EstimateOf(job, kRate), roomy = EstimateOf(job, kRate, 600'000'000);
  const v1::Estimate tight = EstimateOf(job, kRate, 400'000'000);
  EXPECT_EQ(free.memory_bytes(), free.memory_keeping_attention_bytes());
  EXPECT_EQ(roomy.memory_bytes(), free.memory_bytes());
  EXPECT_EQ(roomy.seconds(), free.seconds());
  EXPECT_EQ(tight.memory_keeping_attention_bytes(), free.memory_bytes());
  EXPECT_LT(tight.memory_bytes(), free.memory_bytes() - 190'000'000);
  EXPECT_GT(tight.seconds(), 1.1 * free.seconds());
}

// Without tokens and dense projections of all of them, 101 MB less; a chunk's projections, which
// here are all, 67 MB more. 128 batches of it: 808 MB less, and still 67 MB more.
TEST(EstimateJob, LeavesTokensInTheirFileThatTheBudgetHasNoRoomFor) {
  v1::Job job = LayerOf512();
  *job.mutable_calibration(0) = Tensor('5', {128, 1024, 512});
  const v1::Estimate rebuilding = EstimateOf(job, kRate, 1'200'000'000);
  const v1::Estimate streaming = EstimateOf(job, kRate, 600'000'000);
  EXPECT_EQ(rebuilding.memory_bytes(), rebuilding.memory_rebuilding_attention_bytes());
  EXPECT_EQ(streaming.memory_rebuilding_attention_bytes(), rebuilding.memory_bytes());
  const double less =
      static_cast<double>(rebuilding.memory_bytes() - streaming.memory_bytes()) * 1e-6;
  EXPECT_NEAR(less, 808 - 67, 10);
  EXPECT_GT(streaming.seconds(), 1.05 * rebuilding.seconds());
}

TEST(WithinBudget, TakesTheFirstWayThatThereIsRoomFor) {
  v1::Estimate estimate;
  estimate.set_memory_keeping_attention_bytes(100);
  estimate.set_memory_rebuilding_attention_bytes(50);
  EXPECT_EQ(WithinBudget(estimate, 0), DenseAttention::kKeep);
  EXPECT_EQ(WithinBudget(estimate, 100), DenseAttention::kKeep);
  EXPECT_EQ(WithinBudget(estimate, 99), DenseAttention::kRebuild);
  EXPECT_EQ(WithinBudget(estimate, 49), DenseAttention::kRecompute);
}

TEST(WithinBudget, RebuildsAttentionForAJobOfAnOlderServer) {
  v1::Estimate estimate;
  estimate.set_memory_keeping_attention_bytes(100);
  EXPECT_EQ(WithinBudget(estimate, 99), DenseAttention::kRebuild);
}

// 4 N P + 6 A H h + 100 A H a gradient with N = 24, P = 96, A = 84, H = 4, h = 2.
TEST(EstimateJob, CountsAGradientAStep) {
  const double gradient = 4 * 24 * 96 + 84 * 4 * (6 * 2 + 100);
  v1::Job few = GdJob(1000), many = GdJob(2000);
  few.set_evaluate_every(-1);
  many.set_evaluate_every(-1);
  const double difference = EstimateOf(many, kRate).seconds() - EstimateOf(few, kRate).seconds();
  EXPECT_NEAR(difference, 1000 * gradient / (0.5 * kRate.flops_per_second), 1e-9);
}

// d = 4096: X'X takes 8 d^2 bytes a set.
constexpr double kMomentsOf4096 = 8.0 * 4096 * 4096;

v1::Job WideJob(std::initializer_list<const char*> methods) {
  v1::Job job = FusedJob();
  *job.mutable_problem()->mutable_fused()->mutable_weight() = Tensor('a', {4096, 4096});
  job.clear_calibration();
  *job.add_calibration() = Tensor('5', {4, 8, 4096});
  job.clear_methods();
  for (const char* name : methods) job.add_methods()->set_name(name);
  return job;
}

double KeptBytes(const v1::Job& job) {
  return static_cast<double>(EstimateOf(job, kRate).memory_keeping_attention_bytes());
}

TEST(EstimateJob, CountsTheSecondMomentsThatJudgeNarrowProjections) {
  v1::Job job = GdJob(100);
  v1::ProjectionProblem& layer = *job.mutable_problem()->mutable_projections();
  *layer.mutable_w_q() = Tensor('1', {128, 4096});
  *layer.mutable_w_k() = Tensor('2', {128, 4096});
  layer.clear_b_q();
  layer.clear_b_k();
  layer.set_heads(1);
  layer.set_kv_heads(1);
  job.clear_calibration();
  *job.add_calibration() = Tensor('5', {8, 4096});
  *job.mutable_held_out(0) = Tensor('7', {8, 4096});
  const v1::Estimate estimate = EstimateOf(job, kRate);
  const auto rebuilding = static_cast<double>(estimate.memory_rebuilding_attention_bytes());
  EXPECT_GT(KeptBytes(job), 2 * kMomentsOf4096);
  EXPECT_LT(KeptBytes(job), 1.2 * 2 * kMomentsOf4096);
  EXPECT_NEAR(KeptBytes(job) - rebuilding, kMomentsOf4096, 1e6) << "of one set at a time";
}

TEST(EstimateJob, CountsTheSecondMomentsThatEarlierMethodsWereJudgedBy) {
  v1::Job alone = WideJob({"kfac"}), second = WideJob({"magnitude", "kfac"});
  alone.clear_held_out();
  second.clear_held_out();
  EXPECT_EQ(KeptBytes(second) - KeptBytes(alone), kMomentsOf4096);
  *alone.add_held_out() = *second.add_held_out() = Tensor('7', {8, 4096});
  EXPECT_EQ(KeptBytes(second) - KeptBytes(alone), 2 * kMomentsOf4096);
}

TEST(EstimateJob, CountsTheSecondMomentsOnceThatSparseGptUsesToo) {
  v1::Job alone = WideJob({"sparsegpt"}), second = WideJob({"magnitude", "sparsegpt"});
  alone.clear_held_out();
  second.clear_held_out();
  EXPECT_EQ(KeptBytes(second), KeptBytes(alone));
}

// Steps cost less, as their gradients are of three quarters of the tokens only.
TEST(EstimateJob, CountsTheBatchesThatAreSplitOffAsHeldOut) {
  v1::Job whole = GdJob(1000);
  whole.clear_held_out();
  whole.set_evaluate_every(-1);
  v1::Job split = whole;
  split.set_held_out_fraction(0.25);
  const double ratio = EstimateOf(split, kRate).seconds() / EstimateOf(whole, kRate).seconds();
  EXPECT_NEAR(ratio, 0.75, 0.01);
}

TEST(EstimateJob, TakesTheDefaultOfStepsWhereNoneAreGiven) {
  v1::Job job = GdJob(100);
  job.mutable_methods(0)->clear_parameters();
  EXPECT_EQ(EstimateOf(job, kRate).seconds(), EstimateOf(GdJob(100), kRate).seconds());
}

TEST(EstimateJob, CountsEvaluationsOnlyWhereThereAreAny) {
  v1::Job never = GdJob(100), often = GdJob(100);
  never.set_evaluate_every(-1);
  often.set_evaluate_every(1);
  EXPECT_LT(EstimateOf(never, kRate).seconds(), EstimateOf(GdJob(100), kRate).seconds());
  EXPECT_LT(EstimateOf(GdJob(100), kRate).seconds(), EstimateOf(often, kRate).seconds());
}

v1::Job JobOf(const char* method, const std::map<std::string, double>& parameters) {
  v1::Job job = GdJob(100);
  job.mutable_methods(0)->set_name(method);
  job.mutable_methods(0)->clear_parameters();
  job.mutable_methods(0)->mutable_parameters()->insert(parameters.begin(), parameters.end());
  job.set_evaluate_every(-1);
  return job;
}

TEST(EstimateJob, CountsTheStepsOfARefitToo) {
  const auto seconds = [](double gd, double refit) {
    return EstimateOf(
               JobOf("gd+refit", {{"steps", gd}, {"refit_steps", refit}, {"refit_batch", 1000}}),
               kRate)
        .seconds();
  };
  EXPECT_NEAR(seconds(300, 100), seconds(100, 300), 1e-12);
  EXPECT_LT(seconds(100, 100), seconds(100, 300));
}

TEST(EstimateJob, CountsOnlyTheBatchesThatAStepLearnsFrom) {
  const auto seconds = [](double steps, double batch) {
    v1::Job job = JobOf("joint", {{"long", 1}, {"steps", steps}, {"batch", batch}});
    job.clear_calibration();
    *job.add_calibration() = Tensor('5', {8, 12, 8});
    return EstimateOf(job, kRate).seconds();
  };
  EXPECT_NEAR(seconds(400, 4), seconds(200, 8), 1e-12);
  EXPECT_EQ(seconds(400, 8), seconds(400, 1000));
}

// Of 4 given batches or of 8 of which half is split off: the same steps.
TEST(EstimateJob, CountsTheBatchesOfAStepAmongThoseThatTheSplitLeaves) {
  v1::Job given = JobOf("joint", {{"long", 1}, {"batch", 2}});
  given.clear_calibration();
  given.clear_held_out();
  v1::Job split = given;
  *given.add_calibration() = Tensor('5', {4, 12, 8});
  *given.add_held_out() = Tensor('6', {4, 12, 8});
  *split.add_calibration() = Tensor('5', {8, 12, 8});
  split.set_held_out_fraction(0.5);
  EXPECT_NEAR(EstimateOf(given, kRate).seconds(), EstimateOf(split, kRate).seconds(), 1e-12);
}

TEST(EstimateJob, CountsTheEntriesThatTheAttentionMaskAllows) {
  EXPECT_LT(With(v1::BLOCK, 10).memory_bytes(), With(v1::WINDOW, 10).memory_bytes());
  EXPECT_LT(With(v1::WINDOW, 10).seconds(), With(v1::CAUSAL, 0).seconds());
  EXPECT_LT(With(v1::CAUSAL, 0).seconds(), With(v1::FULL, 0).seconds());
  EXPECT_EQ(With(v1::WINDOW, 600).seconds(), With(v1::CAUSAL, 0).seconds());
  EXPECT_EQ(With(v1::BLOCK, 1 << 20).seconds(), With(v1::CAUSAL, 0).seconds());
}

TEST(EstimateJob, AddsUpMethods) {
  v1::Job job = GdJob(100);
  const double one = EstimateOf(job, kRate).seconds();
  *job.add_methods() = job.methods(0);
  EXPECT_NEAR(EstimateOf(job, kRate).seconds(), 2 * one, 1e-12);
}

TEST(EstimateJob, StaysANumberForTheLargestShapesThatPassTheCheck) {
  v1::Job job = GdJob(1e6);
  *job.mutable_calibration(0) = Tensor('5', {int64_t{1} << 30, 8});
  job.mutable_problem()->mutable_attention()->set_kind(v1::FULL);
  const v1::Estimate estimate = EstimateOf(job, kRate);
  EXPECT_GT(estimate.memory_bytes(), int64_t{1} << 60);
  EXPECT_GT(estimate.seconds(), 0);
}

}  // namespace
}  // namespace attnprune::api
