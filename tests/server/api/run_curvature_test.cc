// Runs that take the curvature of the model's own loss.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/base/field_error.h"
#include "tests/server/api/run_fixture.h"

namespace attnprune::api {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::SizeIs;

class CurvatureRuns : public Runs {
 protected:
  // alps with a curvature.
  v1::Run LossAware() {
    v1::Run run = Golden();
    run.mutable_method()->set_name("alps");
    run.mutable_method()->clear_parameters();
    run.mutable_curvature();
    return run;
  }
  v1::Run ByLoss(double range) {
    v1::Run run = LossAware();
    run.mutable_sparsity()->set_fraction(0.5);
    run.mutable_allocation()->mutable_by_loss()->set_range(range);
    return run;
  }
};

TEST_F(CurvatureRuns, TellWhatItWasTakenOnAndPruneOtherWeightsByIt) {
  v1::Run without = LossAware();
  without.clear_curvature();
  const v1::Run plain = Done(without), aware = Done(LossAware());
  EXPECT_EQ(aware.results_total(), plain.results_total() + 1);
  int measured = 0;
  for (const v1::RunResult& result : aware.results()) {
    EXPECT_EQ(result.curvature_size(), 0) << "that is the server's own";
    if (!result.has_measured_curvature()) continue;
    ++measured;
    EXPECT_EQ(result.measured_curvature().rows(), aware.calibration().lengths_size());
    EXPECT_EQ(result.measured_curvature().tokens(), aware.calibration().ids().shape(0));
    EXPECT_EQ(result.measured_curvature().draws(), 1);
  }
  EXPECT_EQ(measured, 1);
  EXPECT_NE(plain.results(0).tensors(0).weights().sha256(),
            aware.results(0).tensors(0).weights().sha256());
}

TEST_F(CurvatureRuns, LetSparseGptChooseByItWhatOfAFractionGoes) {
  const auto first = [this](const Sparsity& sparsity, bool aware) {
    v1::Run run = LossAware();
    run.mutable_method()->set_name("sparsegpt");
    if (!aware) run.clear_curvature();
    run.mutable_sparsity()->set_fraction(sparsity.fraction);
    if (sparsity.structured()) {
      run.mutable_sparsity()->mutable_n_of_m()->set_n(static_cast<int>(sparsity.pruned));
      run.mutable_sparsity()->mutable_n_of_m()->set_m(static_cast<int>(sparsity.group));
    }
    const v1::Run done = Done(run);
    for (const v1::RunResult& result : done.results()) {
      if (result.tensors_size() > 0) return result.tensors(0).weights().sha256();
    }
    return std::string();
  };
  const Sparsity half = Sparsity::Fraction(0.5), two_of_four = Sparsity::NOfM(2, 4);
  EXPECT_NE(first(half, true), first(half, false));
  EXPECT_EQ(first(two_of_four, true), first(two_of_four, false));
}

TEST_F(CurvatureRuns, TakeItOnSomeOfTheRows) {
  v1::Run run = LossAware();
  ASSERT_GT(run.calibration().lengths_size(), 2);
  run.mutable_curvature()->set_rows(2);
  const v1::Run done = Done(run);
  for (const v1::RunResult& result : done.results()) {
    if (!result.has_measured_curvature()) continue;
    EXPECT_EQ(result.measured_curvature().rows(), 2);
  }
  EXPECT_NE(Verdict(done), Verdict(Done(LossAware())));
}

TEST_F(CurvatureRuns, DrawAsOftenAsTheLabelsNeed) {
  const auto draws = [this](int labels) {
    v1::Run run = LossAware();
    run.mutable_curvature()->set_labels(labels);
    int told = 0;
    const v1::Run done = Done(run);
    for (const v1::RunResult& result : done.results()) {
      if (result.has_measured_curvature()) told = result.measured_curvature().draws();
    }
    return told;
  };
  const auto tokens = static_cast<int>(LossAware().calibration().ids().shape(0));
  EXPECT_EQ(draws(1), 1);
  EXPECT_EQ(draws(tokens), 1);
  EXPECT_EQ(draws(tokens + 1), 2);
  EXPECT_EQ(draws(1000 * tokens), 64);
}

// Held-out rows are scored, and decide nothing.
TEST_F(CurvatureRuns, PruneTheSameWhateverIsHeldOut) {
  const auto tensors_of = [](const v1::Run& run) {
    std::map<std::string, std::string> digests;
    for (const v1::RunResult& result : run.results()) {
      for (const v1::PrunedTensor& tensor : result.tensors()) {
        digests[tensor.name()] = tensor.weights().sha256() + tensor.mask().sha256();
      }
    }
    return digests;
  };
  v1::Run run = ByLoss(0.1);
  const std::map<std::string, std::string> expected = tensors_of(Done(run));
  *run.mutable_held_out() = StoredTokens({7, 3}, 2, 5, &backend_.tensors());
  EXPECT_EQ(tensors_of(Done(run)), expected);
  run.clear_held_out();
  EXPECT_EQ(tensors_of(Done(run)), expected);
}

TEST_F(CurvatureRuns, TellOfThePassThatTakesIt) {
  const std::string name = Create(LossAware()).name();
  WorkOn(name);
  double before = 0;
  bool seen = false;
  for (const v1::JobEvent& event : Events(name)) {
    if (!event.has_run_progress()) continue;
    seen = seen || event.run_progress().phase() == v1::MEASURING;
    EXPECT_GE(event.run_progress().share(), before - 1e-9);
    before = event.run_progress().share();
  }
  EXPECT_TRUE(seen);
}

TEST_F(CurvatureRuns, EndWithTheSameBitsHoweverOftenTheyAreStopped) {
  const v1::Run run = ByLoss(0.1);
  clock_.SetHook(0, [] {});
  const std::string expected = Verdict(Done(run));
  ExpectTheSameHoweverOftenStopped(run, expected, 12);
}

class CurvatureCheckpoints : public CurvatureRuns {
 protected:
  using Measuring = v1::RunCheckpoint::Measuring;

  CurvatureCheckpoints() {
    checkpoint_interval_ = absl::ZeroDuration();
    expected_ = Verdict(Done(run_));
    const int64_t blobs = Blobs();
    clock_.SetHook(0, [] {});
    Done(run_);
    looks_ = clock_.looks();
    blobs_of_a_run_ = Blobs() - blobs;
  }

  // A run that was drained where the pass had saved what is wanted. place: negative, 0 or positive
  // for what is saved before, there and behind.
  Drained DrainedInThePass(const std::function<int(const Measuring&)>& place) {
    int before = 0, behind = looks_;
    while (behind - before > 1) {
      const int look = (before + behind) / 2;
      blobs_ = Blobs();
      const Drained drained = DrainedWhere(run_, look, look, [](const auto&) { return true; });
      const Measuring& saved = drained.checkpoint.measuring();
      int at = Get(drained.name).results_done() > 0 ? 1 : -1;
      if (drained.checkpoint.has_measuring()) at = place(saved);
      if (at == 0) return drained;
      (at < 0 ? before : behind) = look;
      EXPECT_TRUE(backend_.runs().CancelRun(access::Everyone(), drained.name).ok());
    }
    ADD_FAILURE() << "never drained there";
    return {};
  }
  Drained DrainedOnTheWayForward() {
    return DrainedInThePass([](const Measuring& saved) { return saved.gradients() > 0 ? 1 : 0; });
  }
  // Behind the last of two layers.
  Drained DrainedOnTheWayBack() {
    return DrainedInThePass([](const Measuring& saved) {
      if (saved.curvature_size() != 1) return saved.curvature_size() - 1;
      return saved.sums_size() > 0 ? 1 : 0;
    });
  }
  // Behind the first of its draws.
  Drained DrainedInALayer() {
    return DrainedInThePass([](const Measuring& saved) {
      return saved.sums_size() > 0 ? 0 : saved.curvature_size() == 0 ? -1 : 1;
    });
  }

  // How many times the last attempt told of the pass.
  int Told(const std::string& name) {
    int told = 0;
    for (const v1::JobEvent& event : Events(name)) {
      if (event.has_state_change() && event.state_change().state() == v1::RUNNING) told = 0;
      told += event.run_progress().phase() == v1::MEASURING ? 1 : 0;
    }
    return told;
  }

  // Of two draws.
  v1::Run TwoDraws() {
    v1::Run run = ByLoss(0.1);
    run.mutable_curvature()->set_labels(static_cast<int>(run.calibration().ids().shape(0)) + 1);
    return run;
  }

  const v1::Run run_ = TwoDraws();
  std::string expected_;
  int64_t blobs_of_a_run_ = 0;
  int64_t blobs_ = 0;  // before the run that was drained
  int looks_ = 0;
};

TEST_F(CurvatureCheckpoints, GoOnWhereThePassWas) {
  const Drained forward = DrainedOnTheWayForward();
  EXPECT_GT(forward.checkpoint.measuring().kept_size(), 0);
  EXPECT_EQ(Verdict(WorkOn(forward.name)), expected_);
  EXPECT_EQ(Blobs(), blobs_ + blobs_of_a_run_) << "what was saved is left";
  const Drained back = DrainedOnTheWayBack();
  EXPECT_EQ(Verdict(WorkOn(back.name)), expected_);
  EXPECT_EQ(Blobs(), blobs_ + blobs_of_a_run_) << "what was saved is left";
  EXPECT_LT(Told(back.name), Told(forward.name));
  const Drained inside = DrainedInALayer();
  EXPECT_EQ(Verdict(WorkOn(inside.name)), expected_);
  EXPECT_LT(Told(inside.name), Told(forward.name));
  EXPECT_EQ(Blobs(), blobs_ + blobs_of_a_run_) << "what was saved is left";
  EXPECT_THAT(Warnings(inside.name), SizeIs(0));
  EXPECT_THAT(Warnings(forward.name), SizeIs(0));
  EXPECT_THAT(Warnings(back.name), SizeIs(0));
}

TEST_F(CurvatureCheckpoints, OfARunThatIsCancelledAreLeftNowhere) {
  const Drained inside = DrainedOnTheWayBack();
  ASSERT_GT(Blobs(), blobs_);
  StopSignal stop;
  clock_.SetHook(3, [&] { stop.Request(StopReason::kCancelled); });
  Work(&stop);
  EXPECT_EQ(Get(inside.name).state(), v1::CANCELLED);
  EXPECT_EQ(Blobs(), blobs_);
}

TEST_F(CurvatureCheckpoints, ThatAreLostCostTheirWorkAndNothingElse) {
  const Drained gradients = DrainedOnTheWayBack();
  ASSERT_TRUE(backend_.tensors().Remove(gradients.checkpoint.measuring().gradient_rows()).ok());
  EXPECT_EQ(Verdict(WorkOn(gradients.name)), expected_);
  EXPECT_THAT(Warnings(gradients.name), Contains(HasSubstr("curvature that was saved")));
  const Drained sums = DrainedInALayer();
  ASSERT_TRUE(backend_.tensors().Remove(sums.checkpoint.measuring().sums(3)).ok());
  EXPECT_EQ(Verdict(WorkOn(sums.name)), expected_);
  EXPECT_THAT(Warnings(sums.name), Contains(HasSubstr("curvature that was saved")));
  const Drained layer = DrainedOnTheWayBack();
  ASSERT_TRUE(backend_.tensors().Remove(layer.checkpoint.measuring().curvature(0)).ok());
  EXPECT_EQ(Verdict(WorkOn(layer.name)), expected_);
  EXPECT_THAT(Warnings(layer.name), Contains(HasSubstr("a layer's curvature is gone")));
}

TEST_F(CurvatureRuns, GiveTheSameBitsWithinAnyMemory) {
  const std::string in_memory = Verdict(Done(LossAware()));
  EXPECT_EQ(Verdict(WorkOn(Create(LossAware()).name(), /*memory_budget=*/1)), in_memory);
}

TEST_F(CurvatureRuns, LeaveNoCurvatureBehind) {
  const v1::Run asked = LossAware();
  const int64_t before = Blobs();
  const v1::Run run = Done(asked);
  std::set<std::string> stored;
  for (const v1::RunResult& result : run.results()) {
    for (const v1::PrunedTensor& tensor : result.tensors()) {
      stored.insert({tensor.weights().sha256(), tensor.mask().sha256()});
    }
  }
  const int64_t states = 2;  // of the held-out rows behind the last block, dense and pruned
  EXPECT_LE(Blobs() - before, static_cast<int64_t>(stored.size()) + states);
}

TEST_F(CurvatureRuns, DependOnTheSeed) {
  v1::Run run = LossAware();
  run.set_seed(1);
  const std::string one = Verdict(Done(run));
  EXPECT_EQ(Verdict(Done(run)), one);
  run.set_seed(2);
  EXPECT_NE(Verdict(Done(run)), one);
}

TEST_F(CurvatureRuns, ShareTheSparsityOutByTensor) {
  v1::Run run = ByLoss(0.1);
  v1::Rule& rule = *run.add_rules();
  rule.set_pattern("down");
  rule.mutable_sparsity()->set_fraction(0.25);
  const v1::Run done = Done(run);
  std::map<std::string, double> shares;
  for (const v1::RunResult& result : done.results()) {
    shares.insert(result.tensor_sparsities().begin(), result.tensor_sparsities().end());
  }
  EXPECT_THAT(shares, SizeIs(2 * 6)) << "down has its own";
  std::set<double> asked;
  double gone = 0, all = 0;
  for (const v1::RunResult& result : done.results()) {
    for (const v1::PrunedTensor& tensor : result.tensors()) {
      const double fraction = tensor.asked().fraction();
      if (tensor.maps(0) == "down") {
        EXPECT_EQ(fraction, 0.25);
        continue;
      }
      EXPECT_EQ(fraction, shares.at(tensor.name()));
      EXPECT_GE(fraction, 0.4);
      EXPECT_LE(fraction, 0.6);
      asked.insert(fraction);
      gone += fraction * static_cast<double>(tensor.size());
      all += static_cast<double>(tensor.size());
    }
  }
  EXPECT_GT(asked.size(), 3u);
  EXPECT_NEAR(gone / all, 0.5, 1e-6);
}

TEST_F(CurvatureRuns, ShareQueriesAndKeysThatArePrunedTogetherOutTogether) {
  v1::Run run = ByLoss(0.1);
  run.mutable_attention_method()->set_name("wanda");
  const v1::Run done = Done(run);
  for (const v1::RunResult& result : done.results()) {
    if (result.tensors_size() < 2) continue;
    EXPECT_EQ(result.tensors(0).asked().fraction(), result.tensors(1).asked().fraction());
  }
}

TEST_F(CurvatureRuns, CountItInTheirEstimate) {
  v1::Run without = LossAware();
  without.clear_curvature();
  v1::Run draws = LossAware();
  draws.mutable_curvature()->set_labels(1 << 20);
  EXPECT_GT(EstimateOf(LossAware()).seconds(), EstimateOf(without).seconds());
  EXPECT_GT(EstimateOf(LossAware()).disk_bytes(), EstimateOf(without).disk_bytes());
  EXPECT_GT(EstimateOf(draws).seconds(), EstimateOf(LossAware()).seconds());
}

TEST_F(CurvatureRuns, ThatCannotBeAreRefused) {
  const std::vector<Spoilt> rows = {
      {"run.curvature", "must be absent in INDEPENDENT order",
       [](v1::Run& run) { run.set_order(v1::INDEPENDENT); }},
      {"run.curvature",
       "must be read by a method of the run (alps, sparsegpt), run.allocation.by_loss or "
       "run.reconstruction, got none",
       [](v1::Run& run) { run.mutable_method()->set_name("wanda"); }},
      {"run.curvature.rows", "must be in [1, 1048576], or 0, got -1",
       [](v1::Run& run) { run.mutable_curvature()->set_rows(-1); }},
      {"run.curvature.labels", "must be in [1, 2147483647], or 0, got -1",
       [](v1::Run& run) { run.mutable_curvature()->set_labels(-1); }},
      {"run.curvature.widest", "must be in [16, 16384], or 0, got 15",
       [](v1::Run& run) { run.mutable_curvature()->set_widest(15); }},
      {"run.allocation.by_loss.range", "[0, 0.5], got 0.6",
       [](v1::Run& run) { run.mutable_allocation()->mutable_by_loss()->set_range(0.6); }},
      {"run.allocation.by_loss", "must be absent without run.curvature",
       [](v1::Run& run) {
         run.clear_curvature();
         run.mutable_allocation()->mutable_by_loss();
       }},
  };
  ExpectRefused(LossAware(), rows);
}

TEST_F(CurvatureRuns, OfAModelWithoutAHeadAreRefused) { ExpectRefusedWithoutAHead(LossAware()); }

}  // namespace
}  // namespace attnprune::api
