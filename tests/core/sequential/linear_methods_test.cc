// Methods on linear maps alone, against the same on a layer's queries and keys.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "core/base/field_error.h"
#include "core/kernels/gram.h"
#include "core/methods/registry.h"
#include "core/methods/solver_state.h"
#include "tests/core/methods/small_problems.h"
#include "tests/support/matrices.h"

namespace attnprune {
namespace {

using testing::GaussianMatrix;
using ::testing::HasSubstr;
using testing::MakeMethod;
using testing::ProjectionProblem;

class LinearMethods : public ::testing::Test {
 protected:
  LinearMethods() : inputs_(Gram(x_, pool_)) {}

  LinearProblem Problem(const Sparsity& sparsity) const {
    return {.maps = {{"w_q", w_q_, /*inputs_are_rows=*/false},
                     {"w_k", w_k_, /*inputs_are_rows=*/false}},
            .inputs = inputs_,
            .sparsity = sparsity};
  }
  absl::Status ErrorOf(const LinearProblem& problem, const std::string& method = "wanda") {
    return MakeMethod(method)->PruneLinear(problem, pool_).status();
  }

  ThreadPool pool_{2};
  Matrix x_ = GaussianMatrix(40, 8, 1), w_q_ = GaussianMatrix(6, 8, 2),
         w_k_ = GaussianMatrix(6, 8, 3);
  mutable LinearInputs inputs_;
};

TEST_F(LinearMethods, GiveTheSameBitsAsOnQueriesAndKeys) {
  for (const Sparsity& sparsity : {Sparsity::Fraction(0.5), Sparsity::NOfM(2, 4)}) {
    const attnprune::Problem layer =
        ProjectionProblem(w_q_.Clone(), w_k_.Clone(), x_.Clone(), sparsity);
    for (const MethodInfo& info : Methods()) {
      if (!info.linear) continue;
      const auto method = MakeMethod(info.name);
      const PruneResult alone = method->PruneLinear(Problem(sparsity), pool_).value();
      const PruneResult in_layer = method->Prune(layer).value();
      for (size_t m = 0; m < 2; ++m) {
        EXPECT_EQ(alone.matrices[m].mask, in_layer.matrices[m].mask) << info.name;
        EXPECT_TRUE(std::equal(alone.matrices[m].weights.flat().begin(),
                               alone.matrices[m].weights.flat().end(),
                               in_layer.matrices[m].weights.flat().begin()))
            << info.name;
      }
    }
  }
}

// Saves the state of every step.
class Saving final : public ProgressObserver {
 public:
  Verdict OnStep(const StepStats&, const Resumable& run) override {
    states.push_back(run.SaveState());
    return Verdict::kContinue;
  }
  std::vector<std::string> states;
};

TEST_F(LinearMethods, GoOnFromAnyStepWithTheSameBits) {
  const LinearProblem problem = Problem(Sparsity::Fraction(0.5));
  for (const MethodInfo& info : Methods()) {
    if (!info.linear) continue;
    const auto method = MakeMethod(info.name);
    Saving saving;
    const PruneResult whole = method->PruneLinear(problem, pool_, {}, saving).value();
    EXPECT_EQ(saving.states.empty(), std::string(info.name) != "alps");
    for (const std::string& state : saving.states) {
      Saving again;
      const PruneResult resumed =
          method->PruneLinear(problem, pool_, {.resume_from = state}, again).value();
      EXPECT_EQ(resumed.steps, whole.steps);
      for (size_t m = 0; m < 2; ++m) {
        EXPECT_TRUE(std::equal(resumed.matrices[m].weights.flat().begin(),
                               resumed.matrices[m].weights.flat().end(),
                               whole.matrices[m].weights.flat().begin()));
      }
    }
  }
}

TEST_F(LinearMethods, RefuseAStateOfAnotherRunOrOfNone) {
  Saving saving, unused;
  const auto alps = MakeMethod("alps");
  ASSERT_TRUE(alps->PruneLinear(Problem(Sparsity::Fraction(0.5)), pool_, {}, saving).ok());
  const RunOptions resume = {.resume_from = saving.states[0]};
  EXPECT_TRUE(IsResumeRefused(
      alps->PruneLinear(Problem(Sparsity::Fraction(0.25)), pool_, resume, unused).status()));
  w_q_(0, 0) += 1;
  EXPECT_TRUE(IsResumeRefused(
      alps->PruneLinear(Problem(Sparsity::Fraction(0.5)), pool_, resume, unused).status()));
  for (const char* const method : {"magnitude", "wanda", "sparsegpt"}) {
    EXPECT_TRUE(
        IsResumeRefused(MakeMethod(method)
                            ->PruneLinear(Problem(Sparsity::Fraction(0.5)), pool_, resume, unused)
                            .status()))
        << method;
  }
}

TEST_F(LinearMethods, TakeTheSameInputsForAllMaps) {
  const SparseGptInputs* const factor = inputs_.SparseGpt(0.01, pool_).value();
  EXPECT_EQ(inputs_.SparseGpt(0.01, pool_).value(), factor);
  const AlpsInputs* const alps = inputs_.Alps(0.01).value();
  const float value = alps->values.back();
  EXPECT_EQ(inputs_.Alps(0.01).value(), alps);
  EXPECT_GT(value, inputs_.Alps(1).value()->values.back()) << "of another damping";
}

TEST_F(LinearMethods, AreTheFourThatNeedNoAttention) {
  std::vector<std::string> names;
  for (const MethodInfo& info : Methods()) {
    if (info.linear) names.emplace_back(info.name);
  }
  EXPECT_THAT(names, ::testing::ElementsAre("alps", "magnitude", "sparsegpt", "wanda"));
  EXPECT_THAT(ErrorOf(Problem(Sparsity::Fraction(0.5)), "gd").message(),
              HasSubstr("method must be one for linear maps, which gd is not"));
}

TEST_F(LinearMethods, RefuseProblemsThatDoNotFit) {
  EXPECT_THAT(
      ErrorOf({.maps = {}, .inputs = inputs_, .sparsity = Sparsity::Fraction(0.5)}).message(),
      HasSubstr("maps must not be empty"));
  EXPECT_THAT(ErrorOf(Problem(Sparsity::NOfM(1, 3))).message(),
              HasSubstr("sparsity must divide the 8 inputs, got 1:3"));
  const Matrix narrow = GaussianMatrix(6, 7, 4);
  EXPECT_THAT(ErrorOf({.maps = {{"w", narrow, /*inputs_are_rows=*/false}},
                       .inputs = inputs_,
                       .sparsity = Sparsity::Fraction(0.5)})
                  .message(),
              HasSubstr("w must have the 8 inputs of the moments, got 7"));
  w_k_(2, 3) = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(ErrorOf(Problem(Sparsity::Fraction(0.5))).message(),
              HasSubstr("w_k must be finite, got nan at row 2, column 3"));
  w_k_(2, 3) = 1;
  GramMatrix endless = inputs_.moments();
  endless(1, 1) = std::numeric_limits<double>::infinity();
  LinearInputs bad(std::move(endless));
  EXPECT_EQ(FieldAtFault(ErrorOf({.maps = {{"w_q", w_q_, /*inputs_are_rows=*/false}},
                                  .inputs = bad,
                                  .sparsity = Sparsity::Fraction(0.5)})),
            "moments");
}

}  // namespace
}  // namespace attnprune
