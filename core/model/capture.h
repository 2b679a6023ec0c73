// The inputs of a model's attention layers, as calibration data.
#ifndef ATTNPRUNE_CORE_MODEL_CAPTURE_H_
#define ATTNPRUNE_CORE_MODEL_CAPTURE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "core/model/forward.h"
#include "core/model/model_pass.h"
#include "core/model/tokens.h"
#include "core/tensor/dtype.h"

namespace attnprune {

// "model.layers.3.self_attn.input" whatever the family: the input of q, k and v, after its norm.
std::string AttentionInputName(Index layer);

struct CaptureOptions {
  std::vector<Index> layers;  // ascending; at least one
  DType dtype = DType::kF32;  // or kBF16
  std::string output;         // folder; made if it is not there
  std::string source;         // what the tokens and the model are, for resuming: a digest
  int64_t shard_bytes = int64_t{4} << 30;
  absl::Duration save_every = absl::Minutes(1);  // it saves itself after a layer, at most so often
  PassOptions pass;
};

struct CaptureResult {
  std::vector<std::string> files;
  Index resumed_at = 0;  // the layer that the pass went on from; 0: from the beginning
};

// What Capture would say of its output before anything is run: INVALID_ARGUMENT for a file,
// ALREADY_EXISTS.
absl::Status CheckCaptureFolder(const std::string& output);

// Writes output/calibration.safetensors, a tensor (k, n, d) a layer, called AttentionInputName, and
// `attention_mask` (k, n) of I64 if there was one, rows of padding being 0. Above shard_bytes:
// files calibration-00001-of-0000N.safetensors and calibration.safetensors.index.json, which
// Checkpoint reads. The files have their names once they are whole. A pass that was stopped or
// killed goes on where it had last been saved, if `source` and the options are the same.
// RESOURCE_EXHAUSTED, before anything is run, where the disk has no room for the files;
// ALREADY_EXISTS where they are there; FAILED_PRECONDITION while another writes there.
absl::StatusOr<CaptureResult> Capture(Forward& forward, const TokenRows& rows,
                                      const CaptureOptions& options);

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_MODEL_CAPTURE_H_
