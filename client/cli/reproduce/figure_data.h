// The weights and tokens of a figure's jobs.
#ifndef ATTNPRUNE_CLIENT_CLI_REPRODUCE_FIGURE_DATA_H_
#define ATTNPRUNE_CLIENT_CLI_REPRODUCE_FIGURE_DATA_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "attnprune/v1/job.pb.h"
#include "client/cli/reproduce/figure_plan.h"
#include "client/library/client.h"
#include "core/problem/problem.h"

namespace attnprune::cli {

struct FigureData {
  v1::Job job;                               // problem, calibration and held-out tensors, sparsity
  std::vector<client::LocalTensor> tensors;  // all of them; valid as long as this and the source
  std::shared_ptr<const Problem> storage;    // what synthetic tensors look at
};

// Pure: the same job gives the same data. Errors are the user's.
class FigureSource {
 public:
  virtual ~FigureSource() = default;
  virtual absl::StatusOr<FigureData> Data(const FigureJob& job) const = 0;
};

// Section 6.1's data, drawn anew for each seed. A batch depends on seed, d and n, not on k.
struct SyntheticFlags {
  int64_t d = 64, rank = 4, held_out = 8;  // held_out: batches
  double x_std = 1;                        // of a token's entries
};
std::unique_ptr<FigureSource> SyntheticSource(const SyntheticFlags& flags);

// One layer of a Hugging Face folder. A seed chooses which k of the calibration sequences a job
// learns from; it is scored on all held-out sequences. All are cut to their first n tokens.
class LayerSource final : public FigureSource {
 public:
  struct Flags {
    std::string model;
    int64_t layer = 0;
    std::string calibration, held_out;  // FILE[:NAME]
  };
  // Reads the files. INVALID_ARGUMENT or NOT_FOUND names the flag or the file, rule and value.
  static absl::StatusOr<std::unique_ptr<LayerSource>> Open(const Flags& flags);
  ~LayerSource() override;

  int64_t sequences() const;  // for calibration
  int64_t tokens() const;     // of a sequence, calibration or held out; the shortest's

  // INVALID_ARGUMENT (--k, --n, --axis n) if the options ask for more sequences or tokens than the
  // files have, or for all sequences with more than one seed, which would then not differ.
  absl::Status Check(const FigureOptions& options) const;

  absl::StatusOr<FigureData> Data(const FigureJob& job) const override;

 private:
  struct Files;
  explicit LayerSource(std::unique_ptr<Files> files);
  const std::unique_ptr<const Files> files_;
};

// k different numbers below count, ascending. Needs k <= count.
std::vector<int64_t> ChooseSequences(int64_t count, int64_t k, uint64_t seed);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_REPRODUCE_FIGURE_DATA_H_
