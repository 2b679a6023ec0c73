#include "server/execution/job_runner.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>

#include "absl/strings/str_cat.h"
#include "core/judge/score.h"
#include "core/methods/registry.h"
#include "core/objective/dense_attention.h"
#include "core/tensor/eigen.h"
#include "server/execution/problem_builder.h"
#include "tests/server/execution/execution_fixture.h"
#include "tests/server/execution/failing_store.h"
#include "tests/support/matrices.h"

namespace attnprune::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class JobRunner : public ExecutionTest {
 protected:
  std::string RunToEnd(const v1::Job& job) {
    const std::string id = place_.Create(job);
    RunNext();
    return id;
  }
  std::string PathOf(const std::string& sha256) const {
    return folder_ / ("tensors/sha256/" + sha256.substr(0, 2) + "/" + sha256);
  }
};

// The problem of LayerJob, made without the builder.
Problem LayerProblem() {
  ProjectionWeights weights;
  weights.w_q = GaussianMatrix(8, 8, 1);
  weights.w_k = GaussianMatrix(4, 8, 2);
  for (Matrix* matrix : {&weights.w_q, &weights.w_k}) {
    for (float& value : matrix->flat()) value = static_cast<float>(Eigen::bfloat16(value));
  }
  weights.heads = 2;
  weights.kv_heads = 1;
  weights.rope = Rope();
  Problem problem;
  problem.weights = std::move(weights);
  Matrix tokens(17, 8);
  const Matrix first = GaussianMatrix(12, 8, 3), second = GaussianMatrix(5, 8, 4);
  std::copy(first.flat().begin(), first.flat().end(), tokens.data());
  std::copy(second.flat().begin(), second.flat().end(), tokens.row(12));
  problem.calibration = Batches(std::move(tokens), {6, 6, 5});
  problem.held_out = Batches(GaussianMatrix(4, 8, 5), {4});
  problem.sparsity = Sparsity::Fraction(0.5);
  return problem;
}

// What a method gives, in the weights' own dtype.
PruneResult PrunedInBF16(const Problem& problem, const char* method) {
  PruneResult result = *(*ParseMethod(method))->Prune(problem, RunOptions());
  for (PrunedMatrix& matrix : result.matrices) {
    for (float& value : matrix.weights.flat()) value = static_cast<float>(Eigen::bfloat16(value));
  }
  return result;
}

TEST_F(JobRunner, GivesTheBitsThatTheMethodsGiveWithoutIt) {
  v1::Job job = DescentJob(&place_);
  AddMethod("sparsegpt", &job);
  const std::string id = RunToEnd(job);
  ASSERT_EQ(place_.Get(id).state, JobState::kSucceeded);

  const Problem problem = LayerProblem();
  const char* methods[] = {"gd:steps=12,eta=0.1", "sparsegpt"};
  for (int i = 0; i < 2; ++i) {
    SCOPED_TRACE(methods[i]);
    const PruneResult expected = PrunedInBF16(problem, methods[i]);
    const Score score = *Judge(problem, expected);
    const v1::MethodResult result = place_.Result(id, i);
    EXPECT_EQ(result.relative_error().calibration(), score.calibration.relative_error);
    EXPECT_EQ(result.relative_error().held_out(), score.held_out->relative_error);
    EXPECT_EQ(result.per_head().calibration_size(), 2);
    EXPECT_EQ(result.calibration().linear_error(), score.calibration.linear_error);
    EXPECT_EQ(result.termination_reason(), "completed");
    EXPECT_EQ(result.theory_size(), 5);
    ASSERT_EQ(result.matrices_size(), 2);
    for (int m = 0; m < 2; ++m) {
      const PrunedMatrix& matrix = expected.matrices[static_cast<size_t>(m)];
      const v1::MatrixResult& stored = result.matrices(m);
      const auto bits = matrix.mask.bytes();
      EXPECT_EQ(place_.Bytes(stored.mask()), std::string(bits.begin(), bits.end()));
      std::string weights(static_cast<size_t>(matrix.weights.size()) * 2, '\0');
      ASSERT_TRUE(FromFloat32(matrix.weights.flat(), DType::kBF16, absl::MakeSpan(weights)).ok());
      EXPECT_EQ(place_.Bytes(stored.weights()), weights);
      EXPECT_EQ(stored.pruned(), matrix.mask.CountPruned());
      EXPECT_EQ(stored.weights().dtype(), v1::BF16);
      EXPECT_EQ(stored.mask().dtype(), v1::BITMASK);
    }
    EXPECT_EQ(result.matrices(0).name(), "w_q");
    EXPECT_EQ(result.matrices(0).weights().name(), "layers.0.q_proj.weight");
  }
}

// Three batches, a quarter held out: the one in the middle.
v1::Job SplitJob(Place* place) {
  v1::Job job = DescentJob(place);
  AddMethod("sparsegpt", &job);
  job.clear_held_out();
  job.set_held_out_fraction(0.25);
  return job;
}

TEST_F(JobRunner, HoldsOutAPartOfTheCalibrationBatches) {
  Problem problem = LayerProblem();
  const Batches all = problem.calibration.Clone();
  std::vector<Matrix> kept;
  for (const Index j : {0, 2}) kept.push_back(Matrix::CopyFrom(all.batch(j)));
  problem.calibration = Batches::Stack(kept);
  problem.held_out = Batches(Matrix::CopyFrom(all.batch(1)), {6});

  const std::string id = RunToEnd(SplitJob(&place_));
  const char* methods[] = {"gd:steps=12,eta=0.1", "sparsegpt"};
  for (int i = 0; i < 2; ++i) {
    SCOPED_TRACE(methods[i]);
    const PruneResult expected = PrunedInBF16(problem, methods[i]);
    const Score score = *Judge(problem, expected);
    const v1::MethodResult result = place_.Result(id, i);
    EXPECT_EQ(result.held_out_source(), v1::HELD_OUT_SPLIT);
    EXPECT_EQ(result.relative_error().calibration(), score.calibration.relative_error);
    EXPECT_EQ(result.relative_error().held_out(), score.held_out->relative_error);
  }
}

// The same job with other numbers in the batch that is held out: the same masks and weights.
TEST_F(JobRunner, NoMethodSeesTheBatchesThatAreSplitOff) {
  v1::Job job = SplitJob(&place_);
  for (const char* method : {"ste", "joint", "wanda+refit"}) AddMethod(method, &job);
  const std::string plain = RunToEnd(job);
  Matrix other = GaussianMatrix(12, 8, 3);
  for (float& value : other.flat().subspan(6 * 8)) value = 3 * value + 1;
  *job.mutable_calibration(0) = place_.Put(other, DType::kF32, {2, 6, 8});
  const std::string swapped = RunToEnd(job);
  for (int i = 0; i < job.methods_size(); ++i) {
    SCOPED_TRACE(job.methods(i).name());
    const v1::MethodResult one = place_.Result(plain, i), two = place_.Result(swapped, i);
    EXPECT_NE(one.relative_error().held_out(), two.relative_error().held_out());
    EXPECT_EQ(one.relative_error().calibration(), two.relative_error().calibration());
    ASSERT_EQ(one.matrices_size(), 2);
    for (int m = 0; m < 2; ++m) {
      EXPECT_EQ(one.matrices(m).mask().sha256(), two.matrices(m).mask().sha256());
      EXPECT_EQ(one.matrices(m).weights().sha256(), two.matrices(m).weights().sha256());
    }
  }
}

TEST_F(JobRunner, SaysWhereTheHeldOutBatchesCameFrom) {
  v1::Job job = LayerJob(&place_);
  AddMethod("magnitude", &job);
  EXPECT_EQ(place_.Result(RunToEnd(job)).held_out_source(), v1::HELD_OUT_GIVEN);
  job.clear_held_out();
  const v1::MethodResult none = place_.Result(RunToEnd(job));
  EXPECT_EQ(none.held_out_source(), v1::HELD_OUT_NONE);
  EXPECT_FALSE(none.relative_error().has_held_out());
}

// Its weights back in place, SparseGPT's mask is as good as the judge says of a mask alone.
TEST_F(JobRunner, TellsWhatTheMaskAloneCostsOfAMethodThatMovesWeights) {
  v1::Job job = LayerJob(&place_);
  AddMethod("sparsegpt", &job);
  AddMethod("magnitude", &job);
  const std::string id = RunToEnd(job);
  const Problem problem = LayerProblem();
  PruneResult masked = *(*ParseMethod("sparsegpt"))->Prune(problem, RunOptions());
  const std::vector<NamedWeight> dense = AttentionWeights(problem);
  for (size_t m = 0; m < 2; ++m) {
    Matrix& weights = masked.matrices[m].weights;
    for (Index e = 0; e < weights.size(); ++e) {
      if (weights.flat()[static_cast<size_t>(e)] != 0) {
        weights.data()[e] = dense[m].dense.data()[e];
      }
    }
  }
  const Score score = *Judge(problem, masked);
  const v1::MethodResult moved = place_.Result(id, 0), still = place_.Result(id, 1);
  EXPECT_EQ(moved.held_out().mask_only_relative_error(), score.held_out->relative_error);
  EXPECT_EQ(moved.calibration().mask_only_relative_error(), score.calibration.relative_error);
  EXPECT_NE(moved.held_out().mask_only_relative_error(), moved.held_out().relative_error());
  EXPECT_FALSE(still.held_out().has_mask_only_relative_error());
}

// Preparing once, judging once a method, each from its beginning to its end.
TEST_F(JobRunner, TellsOfPreparingAndJudgingAndWhatTheyTook) {
  v1::Job job = DescentJob(&place_);
  AddMethod("sparsegpt", &job);
  const std::string id = RunToEnd(job);
  std::vector<std::string> begun, ended;
  for (const StoredEvent& event : place_.Events(id)) {
    v1::Progress progress;
    if (!IsProgress(event.kind) || !progress.ParseFromString(event.payload)) continue;
    if (!progress.has_phase()) continue;
    const v1::PhaseProgress& phase = progress.phase();
    const std::string name = absl::StrCat(v1::Phase_Name(phase.phase()), " ", phase.method());
    if (phase.share() == 0) begun.push_back(name);
    if (phase.share() == 1) ended.push_back(name);
  }
  EXPECT_THAT(begun, ElementsAre("PREPARING ", "JUDGING gd", "JUDGING sparsegpt"));
  EXPECT_EQ(ended, begun);
  EXPECT_GT(place_.Result(id, 0).preparing_seconds(), 0);
  EXPECT_EQ(place_.Result(id, 1).preparing_seconds(), 0) << "once";
  for (int i = 0; i < 2; ++i) EXPECT_GT(place_.Result(id, i).judging_seconds(), 0);
}

// Calibration and held-out batches: two, however many methods learn from all of them.
TEST_F(JobRunner, BuildsTheDenseAttentionOfEachSetOfBatchesOnce) {
  v1::Job job = DescentJob(&place_);
  for (const char* method : {"sparsegpt", "magnitude", "wanda"}) AddMethod(method, &job);
  const int64_t before = DenseAttentionStore::Made();
  ASSERT_EQ(place_.Get(RunToEnd(job)).state, JobState::kSucceeded);
  EXPECT_EQ(DenseAttentionStore::Made() - before, 2);
}

TEST_F(JobRunner, TellsEveryStepThenTheResultThenTheEnd) {
  const std::string id = RunToEnd(DescentJob(&place_));
  std::vector<int> steps, evaluated;
  for (const StoredEvent& event : place_.Events(id)) {
    const absl::optional<v1::Progress> progress = StepOf(event);
    if (!progress.has_value()) continue;
    EXPECT_EQ(progress->method(), "gd");
    EXPECT_EQ(progress->steps(), 12);
    steps.push_back(progress->step());
    EXPECT_EQ(event.kind == EventKind::kEvaluated, progress->has_calibration_error());
    if (progress->has_calibration_error() && progress->has_held_out_error()) {
      evaluated.push_back(progress->step());
    }
  }
  EXPECT_THAT(steps, ElementsAre(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12));
  EXPECT_THAT(evaluated, ElementsAre(3, 6, 9, 12));
  const std::vector<StoredEvent> events = place_.Events(id);
  EXPECT_EQ(events[events.size() - 2].kind, EventKind::kMethodResult);
  EXPECT_EQ(events.back().kind, EventKind::kTerminal);
  EXPECT_EQ(events.back().state, JobState::kSucceeded);
}

TEST_F(JobRunner, TheResultsTensorsAreKeptFromCollection) {
  const std::string id = RunToEnd(DescentJob(&place_));
  const std::set<std::string> referenced = *place_.jobs().ReferencedDigests();
  const v1::MethodResult result = place_.Result(id);
  for (const v1::MatrixResult& matrix : result.matrices()) {
    EXPECT_EQ(referenced.count(matrix.mask().sha256()), 1u);
    EXPECT_EQ(referenced.count(matrix.weights().sha256()), 1u);
  }
}

TEST_F(JobRunner, TheNumberOfThreadsChangesNoBit) {
  v1::Job job = DescentJob(&place_);
  AddMethod("sparsegpt", &job);
  const std::string one = RunToEnd(job), two = place_.Create(job);
  JobRunnerOptions options = RunnerOptions();
  options.threads = 2;
  StopSignal stop;
  RunJob(place_.Claim(), &place_.jobs(), &place_.tensors(), options, &stop);
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(Verdict(place_.Result(one, i)), Verdict(place_.Result(two, i)));
  }
}

TEST_F(JobRunner, PrunesAFusedProblemByItsWeightOrItsFactors) {
  v1::Job job = LayerJob(&place_);
  AddMethod("magnitude", &job);
  v1::FusedProblem& fused = *job.mutable_problem()->mutable_fused();
  *fused.mutable_weight() = place_.Put(GaussianMatrix(8, 8, 6), DType::kF16);
  const std::string whole = RunToEnd(job);
  EXPECT_EQ(place_.Result(whole).matrices(0).name(), "w");
  EXPECT_EQ(place_.Result(whole).matrices(0).weights().dtype(), v1::F16);

  fused.clear_weight();
  *fused.mutable_q_factor() = place_.Put(GaussianMatrix(8, 3, 7), DType::kF32);
  *fused.mutable_k_factor() = place_.Put(GaussianMatrix(8, 3, 8), DType::kF32);
  AddMethod("gd", &job, {{"steps", 2}});
  const std::string factors = RunToEnd(job);
  ASSERT_EQ(place_.Get(factors).state, JobState::kSucceeded) << place_.Get(factors).failure.message;
  for (int i = 0; i < 2; ++i) {
    const v1::MethodResult result = place_.Result(factors, i);
    for (const v1::MatrixResult& matrix : result.matrices()) {
      EXPECT_EQ(matrix.weights().shape(0), 8);
      EXPECT_EQ(matrix.weights().shape(1), matrix.name() == "w" ? 8 : 3);
    }
  }
}

TEST_F(JobRunner, AMethodThatFailsAloneLeavesTheOthersAlone) {
  v1::Job job = LayerJob(&place_);
  job.mutable_sparsity()->mutable_n_of_m()->set_n(2);
  job.mutable_sparsity()->mutable_n_of_m()->set_m(4);
  AddMethod("sparsegpt", &job, {{"blocksize", 3}});
  AddMethod("magnitude", &job);
  const std::string id = RunToEnd(job);
  EXPECT_EQ(place_.Get(id).state, JobState::kSucceeded);
  EXPECT_THAT(place_.Result(id, 0).failure().message(), HasSubstr("sparsegpt.blocksize"));
  EXPECT_FALSE(place_.Result(id, 0).has_relative_error());
  EXPECT_FALSE(place_.Result(id, 1).has_failure());
  EXPECT_EQ(place_.Result(id, 1).sparsity(), 0.5);
}

TEST_F(JobRunner, AJobWithoutAnyResultHasFailedAsItsFirstMethodDid) {
  v1::Job job = LayerJob(&place_);
  job.mutable_sparsity()->mutable_n_of_m()->set_n(2);
  job.mutable_sparsity()->mutable_n_of_m()->set_m(4);
  AddMethod("sparsegpt", &job, {{"blocksize", 3}});
  const JobRecord record = place_.Get(RunToEnd(job));
  EXPECT_EQ(record.state, JobState::kFailed);
  EXPECT_EQ(record.failure.code, absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(record.failure.message, HasSubstr("sparsegpt: sparsegpt.blocksize"));
  EXPECT_EQ(record.results.size(), 1u);
}

TEST_F(JobRunner, ALossThatOverflowsIsSaidInTheResultAndInAWarning) {
  v1::Job job = LayerJob(&place_);
  AddMethod("gd", &job, {{"steps", 50}, {"eta", 1e12}});
  const std::string id = RunToEnd(job);
  EXPECT_EQ(place_.Get(id).state, JobState::kSucceeded);
  EXPECT_EQ(place_.Result(id).termination_reason(), "numerical error");
  int warnings = 0;
  for (const StoredEvent& event : place_.Events(id)) warnings += event.kind == EventKind::kWarning;
  EXPECT_EQ(warnings, 1);
}

TEST_F(JobRunner, AMissingTensorFailsTheJobByFieldAndDigest) {
  v1::Job job = DescentJob(&place_);
  const std::string digest = job.calibration(1).sha256();
  ASSERT_TRUE(std::filesystem::remove(PathOf(digest)));
  const JobRecord record = place_.Get(RunToEnd(job));
  EXPECT_EQ(record.state, JobState::kFailed);
  EXPECT_EQ(record.failure.code, absl::StatusCode::kDataLoss);
  EXPECT_THAT(record.failure.message, HasSubstr("job.calibration[1]"));
  EXPECT_THAT(record.failure.message, HasSubstr(digest));
}

TEST_F(JobRunner, ADamagedTensorFailsTheJobByFieldAndDigest) {
  v1::Job job = DescentJob(&place_);
  const std::string digest = job.problem().projections().w_k().sha256();
  std::filesystem::permissions(PathOf(digest), std::filesystem::perms::owner_all);
  std::fstream(PathOf(digest), std::ios::in | std::ios::out | std::ios::binary).put('x');
  const JobRecord record = place_.Get(RunToEnd(job));
  EXPECT_EQ(record.state, JobState::kFailed);
  EXPECT_EQ(record.failure.code, absl::StatusCode::kDataLoss);
  EXPECT_THAT(record.failure.message, HasSubstr("job.problem.projections.w_k"));
  EXPECT_THAT(record.failure.message, HasSubstr(digest));
}

TEST_F(JobRunner, ATensorOfAnotherSizeFailsTheJob) {
  v1::Job job = DescentJob(&place_);
  job.mutable_held_out(0)->set_shape(0, 400);
  const JobRecord record = place_.Get(RunToEnd(job));
  EXPECT_EQ(record.failure.code, absl::StatusCode::kDataLoss);
  EXPECT_THAT(record.failure.message, HasSubstr("job.held_out[0]"));
}

TEST_F(JobRunner, AWeightThatIsNoNumberFailsTheJobAtOnce) {
  v1::Job job = DescentJob(&place_);
  Matrix spoiled = GaussianMatrix(8, 8, 1);
  spoiled(3, 2) = std::nanf("");
  *job.mutable_problem()->mutable_projections()->mutable_w_q() = place_.Put(spoiled, DType::kF32);
  const JobRecord record = place_.Get(RunToEnd(job));
  EXPECT_EQ(record.failure.code, absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(record.failure.message,
            "job.problem.projections.w_q must be finite in float32, got nan at row 3, column 2");
  EXPECT_TRUE(record.results.empty());
}

TEST_F(JobRunner, ATokenThatIsNoNumberFailsTheJobAndIsNamedByItsPlaceInTheJob) {
  v1::Job job = DescentJob(&place_);
  Matrix spoiled = GaussianMatrix(12, 8, 3);
  spoiled(7, 5) = std::numeric_limits<float>::infinity();
  *job.add_calibration() = place_.Put(spoiled, DType::kF32, {2, 6, 8});
  const JobRecord record = place_.Get(RunToEnd(job));
  EXPECT_EQ(record.failure.code, absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(record.failure.message,
            absl::StrCat("job.calibration[", job.calibration_size() - 1,
                         "] must be finite in float32, got inf at batch 1, row 1, column 5"));
}

TEST_F(JobRunner, ABatchOfEqualTokensFailsTheJobAndIsNamed) {
  v1::Job job = DescentJob(&place_);
  Matrix spoiled = GaussianMatrix(12, 8, 3);
  for (Index i = 6; i < 12; ++i) std::fill_n(spoiled.row(i), 8, 0.0f);
  *job.add_calibration() = place_.Put(spoiled, DType::kF32, {2, 6, 8});
  const JobRecord record = place_.Get(RunToEnd(job));
  EXPECT_EQ(record.failure.code, absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(record.failure.message,
            absl::StrCat("job.calibration[", job.calibration_size() - 1,
                         "] must have rows that differ, got 6 rows of zeros at batch 1"));
}

TEST_F(JobRunner, ACancelTakesEffectWithinOneStep) {
  const std::string id = place_.Create(DescentJob(&place_, 1'000'000));
  StopSignal stop;
  hooked_.SetHook(200, [&] { stop.Request(StopReason::kCancelled); });
  RunNext(&stop);
  EXPECT_LE(hooked_.looks(), 201) << "the runner went on";
  EXPECT_EQ(place_.Get(id).state, JobState::kCancelled);
}

TEST_F(JobRunner, TheTimeoutTakesEffectWithinOneStep) {
  const std::string id = place_.Create(DescentJob(&place_, 1'000'000), 0, absl::Minutes(1));
  hooked_.SetHook(200, [&] { place_.clock().Advance(absl::Minutes(1)); });
  RunNext();
  EXPECT_LE(hooked_.looks(), 202);
  const JobRecord record = place_.Get(id);
  EXPECT_EQ(record.state, JobState::kFailed);
  EXPECT_EQ(record.failure.code, absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(record.failure.message, HasSubstr("timeout of 1m"));
}

TEST_F(JobRunner, NothingIsWrittenOnceTheClaimHasLapsed) {
  const std::string id = place_.Create(DescentJob(&place_, 1'000'000));
  const JobRecord record = place_.Claim();
  hooked_.SetHook(50, [&] {
    ASSERT_TRUE(place_.jobs().Requeue({id, record.fence}, RequeueCause::kWorkerLost, "lost").ok());
  });
  StopSignal stop;  // nobody requests anything: the refused write is what stops the run
  RunJob(record, &place_.jobs(), &place_.tensors(), RunnerOptions(), &stop);
  EXPECT_EQ(stop.reason(), StopReason::kLapsed);
  EXPECT_EQ(place_.Get(id).state, JobState::kQueued);
  EXPECT_EQ(place_.Events(id).back().payload, "lost");
}

TEST_F(JobRunner, WaitsForAFullDiskToHaveRoomAgain) {
  const std::string id = place_.Create(DescentJob(&place_));
  FailingStore store(&place_.jobs(), [](int write) {
    return write < 100 ? absl::ResourceExhaustedError("disk full") : absl::OkStatus();
  });
  int troubles = 0;
  Mutex mutex;
  JobRunnerOptions options = RunnerOptions();
  options.on_trouble = [&](const std::string& job, const absl::Status& status) {
    MutexLock lock(&mutex);
    troubles += job == id && absl::IsResourceExhausted(status);
  };
  StopSignal stop;
  RunJob(place_.Claim(), &store, &place_.tensors(), options, &stop);
  EXPECT_EQ(place_.Get(id).state, JobState::kSucceeded);
  EXPECT_GT(troubles, 0);
}

}  // namespace
}  // namespace attnprune::testing
