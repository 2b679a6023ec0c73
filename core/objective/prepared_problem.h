// A problem made ready once for all that is done with it: methods, their refits, the judge.
#ifndef ATTNPRUNE_CORE_OBJECTIVE_PREPARED_PROBLEM_H_
#define ATTNPRUNE_CORE_OBJECTIVE_PREPARED_PROBLEM_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "absl/types/span.h"
#include "core/base/thread_pool.h"
#include "core/kernels/gram.h"
#include "core/objective/attention_objective.h"
#include "core/problem/problem.h"

struct XXH3_state_s;

namespace attnprune {

// No bit of any answer depends on them.
struct PrepareOptions {
  int threads = 1;  // at least 1
  DenseAttention attention = DenseAttention::kKeep;
};

// A valid problem with what is made of it once: the threads that work on it, the dense attention of
// its calibration and of its held-out batches, their second moments, the fingerprint of the data.
// Each is made when first asked for. One user at a time.
class PreparedProblem {
 public:
  // `problem` must outlive the result. INVALID_ARGUMENT naming the field unless it passes Validate;
  // InitializeBlas's error.
  static absl::StatusOr<std::unique_ptr<PreparedProblem>> Create(
      const Problem& problem, const PrepareOptions& options = {});
  // The same for a problem that has passed Validate.
  static absl::StatusOr<std::unique_ptr<PreparedProblem>> OfValid(
      const Problem& problem, const PrepareOptions& options = {});

  const Problem& problem() const { return problem_; }
  ThreadPool& pool() { return pool_; }

  // The attention loss on all calibration batches; on all held-out batches, of which there must be
  // some. All errors are AttentionObjective::Create's, the same at each call. They share a
  // workspace: no two calls at once.
  absl::StatusOr<AttentionObjective*> Calibration(const ShareDone& share_done = NobodyListens) {
    return Build(calibration_, share_done);
  }
  absl::StatusOr<AttentionObjective*> HeldOut(const ShareDone& share_done = NobodyListens) {
    return Build(held_out_, share_done);
  }

  // The attention loss on some of the calibration batches, `part` being copies of them, which must
  // outlive it; with a dense attention of its own, since the last bits of a product depend on where
  // a row stands in it. Shares the workspace.
  absl::StatusOr<std::unique_ptr<AttentionObjective>> Part(const Batches& part) {
    return AttentionObjective::Create(problem_, part, calibration_.field, pool_, options_);
  }
  // Whether Calibration(), HeldOut() have been made and are there.
  bool calibration_is_made() const { return calibration_.objective.has_value(); }
  bool held_out_is_made() const { return held_out_.objective.has_value(); }
  // Frees the memory of Calibration(), which is built again when it is asked for next.
  void ReleaseCalibration() { calibration_.objective.reset(); }

  // X'X of the calibration tokens; of the held-out ones. Kept where the dense attention is, else
  // computed at each call.
  std::shared_ptr<const GramMatrix> CalibrationGram() { return GramOf(calibration_); }
  std::shared_ptr<const GramMatrix> HeldOutGram() { return GramOf(held_out_); }

  // A 64-bit digest of everything that decides a run on this problem: weights, calibration data,
  // options, parameters. Held-out data has no part in it, since it never decides. parameters: the
  // method's values in a fixed order. seed: of a method that draws random numbers; the others leave
  // it out, since it decides nothing of theirs.
  uint64_t Fingerprint(absl::string_view method, absl::Span<const double> parameters,
                       absl::optional<uint64_t> seed = absl::nullopt);

 private:
  // One of the problem's sets of batches, with what has been asked for.
  struct Side {
    const Batches& batches;
    const char* field;
    absl::optional<absl::StatusOr<std::unique_ptr<AttentionObjective>>> objective = absl::nullopt;
    std::shared_ptr<const GramMatrix> gram = nullptr;
  };

  PreparedProblem(const Problem& problem, const PrepareOptions& options)
      : problem_(problem),
        pool_(options.threads),
        options_({.dense = options.attention, .workspace = std::make_shared<Workspace>()}) {}

  absl::StatusOr<AttentionObjective*> Build(Side& side, const ShareDone& share_done);
  std::shared_ptr<const GramMatrix> GramOf(Side& side);

  const Problem& problem_;
  ThreadPool pool_;
  const ObjectiveOptions options_;
  Side calibration_{problem_.calibration, "calibration"};
  Side held_out_{problem_.held_out, "held_out"};
  // The digest's state after what all runs have in common; null until it is asked for.
  std::shared_ptr<const XXH3_state_s> digested_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_OBJECTIVE_PREPARED_PROBLEM_H_
