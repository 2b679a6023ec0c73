// Keys of config.json that one family alone reads: Family::own of the table.
#ifndef ATTNPRUNE_CORE_MODEL_FAMILY_KEYS_H_
#define ATTNPRUNE_CORE_MODEL_FAMILY_KEYS_H_

#include "absl/status/status.h"
#include "core/model/config_section.h"
#include "core/model/model_options.h"

namespace attnprune {

absl::Status ReadQwen3(const ConfigSection& config, ModelOptions& out);
absl::Status ReadSmolLm3(const ConfigSection& config, ModelOptions& out);
absl::Status ReadGemma(const ConfigSection& config, ModelOptions& out);
absl::Status ReadGemma2(const ConfigSection& config, ModelOptions& out);
absl::Status ReadGemma3(const ConfigSection& config, ModelOptions& out);
absl::Status ReadPhi(const ConfigSection& config, ModelOptions& out);
absl::Status ReadGpt2(const ConfigSection& config, ModelOptions& out);
absl::Status ReadGptJ(const ConfigSection& config, ModelOptions& out);
absl::Status ReadOpt(const ConfigSection& config, ModelOptions& out);
absl::Status ReadGptNeoX(const ConfigSection& config, ModelOptions& out);
absl::Status ReadOlmo(const ConfigSection& config, ModelOptions& out);
absl::Status ReadOlmo2(const ConfigSection& config, ModelOptions& out);
absl::Status ReadStableLm(const ConfigSection& config, ModelOptions& out);
absl::Status ReadGranite(const ConfigSection& config, ModelOptions& out);
absl::Status ReadCohere(const ConfigSection& config, ModelOptions& out);
absl::Status ReadCohere2(const ConfigSection& config, ModelOptions& out);
absl::Status ReadFalcon(const ConfigSection& config, ModelOptions& out);
absl::Status ReadBloom(const ConfigSection& config, ModelOptions& out);
absl::Status ReadBert(const ConfigSection& config, ModelOptions& out);
absl::Status ReadRoberta(const ConfigSection& config, ModelOptions& out);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_MODEL_FAMILY_KEYS_H_
