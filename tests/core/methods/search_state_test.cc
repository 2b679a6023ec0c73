// A search can be written down after any step and taken up again with the same bits; a state that
// is damaged, forged or of another run is refused.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "core/io/safetensors.h"
#include "core/methods/solver_state.h"
#include "tests/core/methods/search_runs.h"

namespace attnprune::testing {
namespace {

using ::testing::HasSubstr;

class SearchState : public ::testing::TestWithParam<std::string> {
 protected:
  absl::StatusOr<PruneResult> Run(const Problem& problem, const RunOptions& options,
                                  Recorder& recorder, const PrepareOptions& prepare = {}) const {
    return ParseMethod(GetParam()).value()->Prune(problem, options, recorder, prepare);
  }
  std::vector<std::string> States(const Problem& problem) const {
    Recorder recorder(Recorder::States::kSaved);
    Succeed(Run(problem, {}, recorder));
    return recorder.states();
  }
  void ExpectRefused(const Problem& problem, const std::string& state, absl::string_view what) {
    Recorder recorder;
    const auto result = Run(problem, {.resume_from = state}, recorder);
    ASSERT_FALSE(result.ok()) << what;
    EXPECT_EQ(result.status().code(), absl::StatusCode::kInvalidArgument) << what;
    EXPECT_THAT(std::string(result.status().message()), HasSubstr("resume_from")) << what;
    EXPECT_TRUE(IsResumeRefused(result.status())) << what;
  }
};

INSTANTIATE_TEST_SUITE_P(Methods, SearchState,
                         ::testing::Values("ste:steps=9,rise=0.5", "joint:long=1,steps=10",
                                           "joint:steps=5,rounds=2", "wanda+refit:refit_steps=6",
                                           "gd+refit:steps=4,refit_steps=5",
                                           "ste+refit:steps=4,refit_steps=5"),
                         [](const auto& test) {
                           std::string name = test.param.substr(0, test.param.find(','));
                           for (char& c : name) c = absl::ascii_isalnum(c) ? c : '_';
                           return name;
                         });

void ExpectSameFigures(const StepStats& a, const StepStats& b) {
  EXPECT_EQ(a.step, b.step);
  EXPECT_EQ(a.steps, b.steps);
  EXPECT_EQ(a.attention_loss, b.attention_loss);
  EXPECT_EQ(a.soft_relative_error, b.soft_relative_error);
  EXPECT_EQ(a.gradient_norm, b.gradient_norm);
  EXPECT_EQ(a.calibration_error, b.calibration_error);
  EXPECT_EQ(a.held_out_error, b.held_out_error);
}

// From every state of a run its next step is taken; from each of a short run, and some of a long
// one, the whole rest is.
bool IsTriedToTheEnd(size_t saved, size_t states) {
  constexpr size_t kFewStates = 24, kStride = 9, kLast = 3;
  return states <= kFewStates || saved % kStride == 0 || saved + kLast >= states;
}

TEST_P(SearchState, ResumedAtAnyStepReportsAndSavesWhatTheUndisturbedRunDid) {
  const Problem problem = LayerToSearch();
  Recorder whole(Recorder::States::kSaved);
  const PruneResult expected = Succeed(Run(problem, {.evaluate_every = 3}, whole));
  const size_t states = whole.states().size();
  for (size_t saved = 0; saved < states; ++saved) {
    const bool to_the_end = IsTriedToTheEnd(saved, states);
    for (int threads : {1, 4}) {
      Recorder rest(Recorder::States::kSaved, to_the_end ? 0 : static_cast<int>(saved) + 2);
      const PruneResult resumed =
          Succeed(Run(problem, {.evaluate_every = 3, .resume_from = whole.states()[saved]}, rest,
                      {.threads = threads}));
      ASSERT_EQ(rest.stats().size(), to_the_end ? states - saved - 1 : 1);
      for (size_t t = 0; t < rest.stats().size(); ++t) {
        ExpectSameFigures(rest.stats()[t], whole.stats()[saved + 1 + t]);
        EXPECT_EQ(rest.states()[t], whole.states()[saved + 1 + t]);
      }
      if (!to_the_end) continue;
      EXPECT_EQ(resumed.steps, expected.steps);
      EXPECT_EQ(resumed.reason, expected.reason);
      for (size_t m = 0; m < expected.matrices.size(); ++m) {
        EXPECT_EQ(resumed.matrices[m].mask, expected.matrices[m].mask);
        EXPECT_EQ(Values(resumed.matrices[m].weights), Values(expected.matrices[m].weights));
        EXPECT_EQ(Values(resumed.matrices[m].soft_mask), Values(expected.matrices[m].soft_mask));
      }
    }
  }
}

// The last steps are rounds of conjugate gradients from ALPS's answer, then on all batches.
TEST(JointState, GoesOnWithTheSameBitsWhereAlpsMaskIsTheBest) {
  const auto method = ParseMethod("joint:steps=5").value();
  const Problem problem = LayerThatAlpsPrunesBest();
  Recorder whole(Recorder::States::kSaved);
  const PruneResult expected = Succeed(method->Prune(problem, {}, whole));
  const size_t states = whole.states().size();
  int tries = 0;
  for (size_t saved = 0; saved < states; saved += saved + 24 < states ? 9 : 1) {
    const int threads = 1 << (tries++ % 3);
    Recorder rest(Recorder::States::kSaved);
    const PruneResult resumed = Succeed(
        method->Prune(problem, {.resume_from = whole.states()[saved]}, rest, {.threads = threads}));
    ASSERT_EQ(rest.states().size(), states - saved - 1);
    for (size_t m = 0; m < expected.matrices.size(); ++m) {
      EXPECT_EQ(resumed.matrices[m].mask, expected.matrices[m].mask) << saved;
      EXPECT_EQ(Values(resumed.matrices[m].weights), Values(expected.matrices[m].weights));
    }
    if (saved + 1 == states) continue;
    EXPECT_EQ(rest.states().front(), whole.states()[saved + 1]) << saved;
    EXPECT_EQ(rest.states().back(), whole.states().back()) << saved;
  }
}

// The step after which the held-out error was least.
int BestByHeldOut(const Recorder& recorder) {
  const auto least = std::ranges::min_element(recorder.stats(), {},
                                              [](const StepStats& s) { return *s.held_out_error; });
  return least->step;
}

// Held-out data is reported and never decides: neither the result, nor a state, nor a figure but
// its own errors changes with it. `choice`: whether the two sets of held-out data would choose
// different steps, so that a method that looked would give itself away.
enum class Choice { kSeen, kNotSeen };
Choice ExpectSameBitsWithOtherHeldOutData(const Method& method, Problem problem,
                                          Batches other_held_out) {
  Recorder with(Recorder::States::kSaved), swapped(Recorder::States::kSaved);
  const PruneResult a = Succeed(method.Prune(problem, {.evaluate_every = 1}, with));
  problem.held_out = std::move(other_held_out);
  const PruneResult b = Succeed(method.Prune(problem, {.evaluate_every = 1}, swapped));
  for (size_t m = 0; m < a.matrices.size(); ++m) {
    EXPECT_EQ(a.matrices[m].mask, b.matrices[m].mask);
    EXPECT_EQ(Values(a.matrices[m].weights), Values(b.matrices[m].weights));
  }
  EXPECT_EQ(with.states(), swapped.states());
  for (size_t t = 0; t < with.stats().size(); ++t) {
    EXPECT_NE(with.stats()[t].held_out_error, swapped.stats()[t].held_out_error) << t;
    StepStats same = swapped.stats()[t];
    same.held_out_error = with.stats()[t].held_out_error;
    ExpectSameFigures(with.stats()[t], same);
  }
  return BestByHeldOut(with) == BestByHeldOut(swapped) ? Choice::kNotSeen : Choice::kSeen;
}

TEST_P(SearchState, IsTheSameBitsWithOtherHeldOutData) {
  const Problem problem = LayerToSearch();
  ExpectSameBitsWithOtherHeldOutData(*ParseMethod(GetParam()).value(), LayerToSearch(),
                                     GaussianBatches({7, 30}, problem.features(), 99));
}

// Long steps, so that the error goes up and down: which step is kept, is a real choice, and the two
// sets of held-out data would make it differently.
TEST(SearchChoice, IsTheSameBitsWhereHeldOutDataWouldChooseAnotherStep) {
  for (const char* text :
       {"ste:steps=40,rise=0.2,score_rate=1", "joint:long=1,steps=40,rise=0.9,score_rate=1",
        "wanda+refit:refit_steps=40,refit_rate=0.5",
        "gd+refit:steps=3,refit_steps=40,refit_rate=0.5",
        "magnitude+refit:refit_steps=40,refit_rate=0.5",
        "sparsegpt+refit:refit_steps=40,refit_rate=0.5",
        "ste+refit:steps=9,refit_steps=40,refit_rate=0.5"}) {
    SCOPED_TRACE(text);
    int seen = 0;
    for (const unsigned seed : {98u, 99u, 100u}) {
      const Problem problem = LayerToSearch();
      const Choice choice =
          ExpectSameBitsWithOtherHeldOutData(*ParseMethod(text).value(), LayerToSearch(),
                                             GaussianBatches({7, 30}, problem.features(), seed));
      seen += choice == Choice::kSeen ? 1 : 0;
    }
    EXPECT_GT(seen, 0) << "nothing to tell a method that looks from one that does not";
  }
}

TEST_P(SearchState, IsRefusedByAnotherProblemAndByOtherParameters) {
  const std::vector<std::string> states = States(LayerToSearch());
  for (const std::string& state : {states.front(), states.back()}) {
    ExpectRefused(LayerToSearch(Sparsity::Fraction(0.6)), state, "another sparsity");
    Problem other = LayerToSearch();
    std::get<ProjectionWeights>(other.weights).w_q(0, 0) += 0.25f;
    ExpectRefused(other, state, "another weight");
    const bool refit = absl::string_view(GetParam()).find("refit") != absl::string_view::npos;
    for (const char* change : {"batch=3", "validation=0.5"}) {
      const std::string text = absl::StrCat(GetParam(), ",", refit ? "refit_" : "", change);
      const auto result = ParseMethod(text).value()->Prune(LayerToSearch(), {.resume_from = state});
      EXPECT_THAT(std::string(result.status().message()), HasSubstr("resume_from")) << change;
    }
  }
}

TEST_P(SearchState, IsRefusedDamagedOrCutOff) {
  Problem problem = LayerToSearch();
  const std::vector<std::string> states = States(problem);
  for (const std::string& state : {states.front(), states.back()}) {
    // Every byte of the beginning, where the lines and headers are, and a sample of the rest.
    for (size_t i = 0; i < state.size(); i += i < 600 ? 1 : 211) {
      std::string damaged = state;
      damaged[i] = static_cast<char>(damaged[i] ^ (1 << (i % 8)));
      ExpectRefused(problem, damaged, absl::StrCat("a bit of byte ", i));
    }
    for (size_t size = 1; size < state.size(); size += size < 600 ? 7 : 499) {
      ExpectRefused(problem, state.substr(0, size), absl::StrCat(size, " bytes"));
    }
    ExpectRefused(problem, state + '\0', "a byte behind it");
    ExpectRefused(problem, state + state, "twice");
  }
  ExpectRefused(problem, "not a state", "text");
}

// A state read with its own fingerprint, to be changed and sealed anew.
class Forgery {
 public:
  explicit Forgery(const std::string& image) {
    const auto parsed = ParseSafetensors(image, "state").value();
    fingerprint_ = std::stoull(parsed.metadata().find("fingerprint")->second, nullptr, 16);
    state_ = ParseState(image, fingerprint_).value();
  }
  SolverState& state() { return state_; }
  std::string Seal() const {
    SolverStateView view{fingerprint_, state_.step, state_.numbers, {}};
    for (const auto& [name, matrix] : state_.matrices) view.matrices[name] = &matrix;
    std::map<std::string, BitMask> masks;
    for (const auto& [name, bytes] : state_.masks) {
      const Index bits = 8 * static_cast<Index>(bytes.size());
      masks[name] = BitMask::FromBytes(1, bits, bytes).value();
      view.masks[name] = &masks[name];
    }
    return SerializeState(view);
  }

 private:
  uint64_t fingerprint_;
  SolverState state_;
};

TEST(ForgedSearchState, IsAcceptedWhereNothingIsChanged) {
  Recorder recorder(Recorder::States::kSaved);
  const auto method = ParseMethod("joint:long=1,steps=4").value();
  Succeed(method->Prune(LayerToSearch(), {}, recorder));
  const Forgery forgery(recorder.states()[1]);
  Succeed(method->Prune(LayerToSearch(), {.resume_from = forgery.Seal()}));
}

TEST(ForgedRefitState, IsRefusedWithoutAResultOfTheFirstMethod) {
  Recorder recorder(Recorder::States::kSaved);
  const auto method = ParseMethod("wanda+refit:refit_steps=3").value();
  Succeed(method->Prune(LayerToSearch(), {}, recorder));
  std::string state = recorder.states()[1];
  const size_t line = state.find('\n'), size = state.rfind(' ', line) + 1;
  state.replace(size, line - size, "0");
  EXPECT_THAT(
      std::string(method->Prune(LayerToSearch(), {.resume_from = state}).status().message()),
      HasSubstr("resume_from is damaged"));
}

TEST(ForgedSearchState, IsRefusedWithTooManySteps) {
  Recorder recorder(Recorder::States::kSaved);
  const auto method = ParseMethod("joint:long=1,steps=4").value();
  Succeed(method->Prune(LayerToSearch(), {}, recorder));
  Forgery forgery(recorder.states().back());
  forgery.state().step = 2147483647;
  EXPECT_THAT(
      std::string(
          method->Prune(LayerToSearch(), {.resume_from = forgery.Seal()}).status().message()),
      HasSubstr("resume_from must hold a step of at most 4, got 2147483647"));
}

TEST(ForgedSearchState, IsRefusedWithANumberThatIsNoneOrAMaskOfAnotherSparsity) {
  Recorder recorder(Recorder::States::kSaved);
  const auto method = ParseMethod("joint:long=1,steps=4").value();
  Succeed(method->Prune(LayerToSearch(), {}, recorder));
  for (const auto& [name, value] : {std::pair<const char*, float>{"w_q.score", NAN},
                                    {"w_k.value", INFINITY},
                                    {"w_q.best_weight", NAN},
                                    {"w_k.value_m", NAN}}) {
    Forgery forgery(recorder.states()[1]);
    forgery.state().matrices.at(name)(0, 0) = value;
    EXPECT_THAT(
        std::string(
            method->Prune(LayerToSearch(), {.resume_from = forgery.Seal()}).status().message()),
        HasSubstr("resume_from must hold every matrix of the run, finite"))
        << name;
  }
  for (const double value : {-1.0, std::nan(""), HUGE_VAL}) {
    Forgery forgery(recorder.states()[1]);
    forgery.state().numbers[1] = value;  // the second moment of w_q's scores
    EXPECT_THAT(
        std::string(
            method->Prune(LayerToSearch(), {.resume_from = forgery.Seal()}).status().message()),
        HasSubstr("resume_from must hold every matrix of the run, finite"))
        << value;
  }
  for (const int extra : {0, 1}) {
    Forgery forgery(recorder.states()[1]);
    std::vector<uint8_t>& mask = forgery.state().masks.at("w_q.best_mask");
    mask.assign(mask.size() + extra, 0xff);  // nothing pruned; a byte too many
    EXPECT_THAT(
        std::string(
            method->Prune(LayerToSearch(), {.resume_from = forgery.Seal()}).status().message()),
        HasSubstr("of its sparsity"))
        << extra;
  }
}

}  // namespace
}  // namespace attnprune::testing
