// The flags that say what is to be pruned and how, and the labels of jobs; jobs/make_job.h makes a
// job of them.
#ifndef ATTNPRUNE_CLIENT_CLI_FLAGS_JOB_FLAGS_H_
#define ATTNPRUNE_CLIENT_CLI_FLAGS_JOB_FLAGS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "attnprune/v1/job.pb.h"
#include "client/cli/flags/command_line.h"
#include "client/cli/flags/token_flags.h"
#include "client/cli/views/format.h"

namespace attnprune::cli {

// --layer is not given.
inline constexpr int64_t kNoLayer = -1;

// How every layer's queries and keys are pruned.
inline constexpr char kWholeModelWay[] =
    "attnprune prune --attention-method METHOD --skip v --skip o --skip gate --skip up --skip down "
    "--order independent prunes the queries and keys of all layers of a model";

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
  int64_t rope_dim = 0;      // 0: not given
  std::string rope_scaling;  // TYPE[:NAME=NUMBER,...]
  std::optional<double> rope_attention_factor;
  std::string q_norm, k_norm, q_norm_bias, k_norm_bias;
  std::string norm, norm_group;  // empty: not given
  std::optional<double> norm_eps, softcap, clip_qkv;
  bool no_qk_norm = false;
  std::string alibi;

  TokenFlags tokens;  // calibration by running the model; its seed is `seed`
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
  std::string output, save_mask, tensorboard;
  bool overwrite = false;
  bool quiet = false;
};

void AddJobFlags(Command& command, JobFlags& flags);
void AddOverwriteFlag(Command& command, bool& overwrite);
void AddSparsityFlag(Command& command, std::string& sparsity);
// --label, --priority, --timeout.
void AddPlaceFlags(Command& command, JobFlags& flags);

// "gd" or "gd:lambda=0.05,steps=100". INVALID_ARGUMENT names the flag.
absl::StatusOr<v1::Method> ParseMethodFlag(const std::string& text,
                                           absl::string_view flag = "--method");
// "0.5" or "2:4". INVALID_ARGUMENT names the flag.
absl::StatusOr<v1::Sparsity> ParseSparsityFlag(const std::string& text,
                                               absl::string_view flag = "--sparsity");
google::protobuf::Duration TimeoutOf(const JobFlags& flags);

using Labels = LabelMap;

// Adds each "KEY=VALUE" to *labels. INVALID_ARGUMENT names --label and the text.
absl::Status ParseLabels(const std::vector<std::string>& texts, Labels* labels);

// The labels that a server gives methods of these names.
std::vector<std::string> LabelsOf(const std::vector<std::string>& names);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_FLAGS_JOB_FLAGS_H_
