// The flags that say what is to be pruned, and the job that they make of the files they name.
#ifndef ATTNPRUNE_CLIENT_CLI_FLAGS_JOB_FLAGS_H_
#define ATTNPRUNE_CLIENT_CLI_FLAGS_JOB_FLAGS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "attnprune/v1/job.pb.h"
#include "client/cli/jobs/job_tensors.h"

namespace CLI {
class App;
}

namespace attnprune::cli {

// What --layer can be beside a number.
inline constexpr int64_t kNoLayer = -1, kAllLayers = -2;

struct JobFlags {
  // The weights: a model's layer, or a file's tensors by name.
  std::string model;
  int64_t layer = kNoLayer;
  std::string weights;
  std::string fused, fused_product;  // NAME; QNAME,KNAME
  std::string q, k, q_bias, k_bias;
  int64_t heads = 0, kv_heads = 0;  // 0: not given
  std::optional<double> rope_theta, scale;
  std::string rope_layout;

  std::vector<std::string> calibration, held_out;  // FILE[:NAME]
  double held_out_fraction = 0;                    // of the calibration batches
  std::string attention;                           // empty: the model's, or causal
  std::string sparsity = "0.5";
  std::vector<std::string> methods;  // NAME[:PARAMETER=NUMBER,...]
  uint64_t seed = 0;
  std::vector<std::string> labels;  // KEY=VALUE
  int32_t priority = 0;
  absl::Duration timeout;  // 0: none
  int32_t evaluate_every = 0;

  // Of the results.
  std::string output, save_mask, plot, tensorboard;
};

void AddJobFlags(CLI::App& app, JobFlags& flags);

// Reads the files, for one layer at most (model_run.h: all of them). An error is the user's: it
// names the flag or the file, the rule and the value. What only the server can know (methods,
// limits) is left to it.
absl::StatusOr<v1::Job> MakeJob(const JobFlags& flags, JobTensors& tensors);

// "gd" or "gd:lambda=0.05,steps=100". INVALID_ARGUMENT names --method.
absl::StatusOr<v1::Method> ParseMethodFlag(const std::string& text);

// Labels that a job gets: the file its weights came from, so that `fetch` can copy the rest of it;
// the layer of --model.
inline constexpr char kWeightsLabel[] = "attnprune/weights";
inline constexpr char kLayerLabel[] = "attnprune/layer";

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_FLAGS_JOB_FLAGS_H_
