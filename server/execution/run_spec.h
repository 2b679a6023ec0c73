// A run as it is checked, estimated and solved: the one reading of the API's message.
#ifndef ATTNPRUNE_SERVER_EXECUTION_RUN_SPEC_H_
#define ATTNPRUNE_SERVER_EXECUTION_RUN_SPEC_H_

#include <cstdint>
#include <limits>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/optional.h"
#include "attnprune/v1/run.pb.h"
#include "core/io/mapped_file.h"
#include "core/methods/registry.h"
#include "core/model/model_weights.h"
#include "core/model/tokens.h"
#include "core/problem/sparsity.h"
#include "core/sequential/training.h"
#include "server/execution/job_tensor.h"

namespace attnprune {

struct RunTokens {
  JobTensor ids;               // I32
  std::vector<Index> lengths;  // empty: there are none
  bool given() const { return !lengths.empty(); }
};

// How some maps are pruned.
struct RunChoice {
  ChosenMethod method;
  Sparsity sparsity;
  bool own_method = false, own_sparsity = false;  // a rule names it
};

struct RunRule {
  std::string field;  // "run.rules[2]"
  std::string pattern;
  absl::optional<RunChoice> choice;  // nullopt: the maps stay dense
};

// How the sparsity differs from block to block (Allocation).
struct OwlChoice {
  double outlier = 5, limit = 0.08;
};
struct ProgressionChoice {
  absl::optional<double> step;  // nullopt: by the number of blocks
};
struct ByLossChoice {
  double range = 0.05;
};
using AllocationChoice = std::variant<std::monostate, OwlChoice, ProgressionChoice, ByLossChoice>;

// Of Run.curvature, with its defaults.
struct CurvatureChoice {
  int Draws(Index tokens) const;  // labels of each of them

  Index rows = 64;
  Index labels = 0;
  Index widest = 2048;
};

// Of Run.sampled, with its defaults.
struct SampledChoice {
  Index rows = 0;
  double temperature = 1;
  Index prefix = 4;
};

struct RunSpec {
  std::string config;
  std::vector<JobTensor> tensors;  // of the model; name is theirs in the checkpoint
  RunTokens calibration, held_out;
  double held_out_fraction = 0;
  RunChoice choice;                               // of maps that no rule matches
  absl::optional<ChosenMethod> attention_method;  // of q and k, together
  AllocationChoice allocation;
  absl::optional<CurvatureChoice> curvature;
  absl::optional<SampledChoice> sampled;
  absl::optional<TrainingOptions> reconstruction, distillation;
  std::vector<RunRule> rules;
  bool independent = false;
  double dense_target = 0;
  uint64_t seed = 0;

  std::vector<const JobTensor*> Tensors() const;  // all that it reads
  const OwlChoice* owl() const { return std::get_if<OwlChoice>(&allocation); }
  const ByLossChoice* by_loss() const { return std::get_if<ByLossChoice>(&allocation); }
};

// INVALID_ARGUMENT with the path of the field at fault, "run.model.tensors[3].dtype", unless every
// rule of run.proto that needs no data is met; but for what depends on the model. Pure.
absl::StatusOr<RunSpec> DecodeRun(const v1::Run& run,
                                  int64_t max_tensor_bytes = std::numeric_limits<int64_t>::max());

// The model, its config.json read and its tensors' shapes checked. files: of the tensors, in their
// order; none: only shapes are to be read. INVALID_ARGUMENT names the field and what is wrong.
absl::StatusOr<ModelWeights> ModelOf(const RunSpec& run, std::vector<MappedFile> files);

// ids: the bytes of the tensor.
absl::StatusOr<Tokens> TokensOf(const RunTokens& tokens, absl::Span<const char> ids);

struct RunRows {
  Tokens calibration, held_out;
};
// The rows with the fraction of the run held out; ids may be left out. Pure.
RunRows HoldOutRows(const RunSpec& run, RunRows rows);

}  // namespace attnprune

#endif  // ATTNPRUNE_SERVER_EXECUTION_RUN_SPEC_H_
