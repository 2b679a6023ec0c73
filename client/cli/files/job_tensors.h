// The tensors of files that a job refers to, ready to be uploaded in their stored element types.
#ifndef ATTNPRUNE_CLIENT_CLI_FILES_JOB_TENSORS_H_
#define ATTNPRUNE_CLIENT_CLI_FILES_JOB_TENSORS_H_

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "attnprune/v1/job.pb.h"
#include "attnprune/v1/run.pb.h"
#include "client/library/client.h"
#include "core/io/checkpoint.h"
#include "core/model/attention_layer.h"
#include "core/model/model_weights.h"
#include "core/model/tokens.h"
#include "core/problem/batches.h"

namespace attnprune::cli {

// Keeps the files mapped. Every Add gives a reference with the digest; its errors name the file,
// the tensor and the rule. Not thread-safe.
class JobTensors {
 public:
  // path: what Checkpoint::Open takes.
  absl::StatusOr<v1::TensorRef> AddWeight(const std::string& path, const std::string& name);

  // Of all tensors there, sorted.
  absl::StatusOr<std::vector<std::string>> Names(const std::string& path);

  // The model in a folder, which stays open.
  absl::StatusOr<const ModelWeights*> Model(const std::string& folder);
  // A tensor of one of its layers.
  absl::StatusOr<v1::TensorRef> AddStored(const AttentionTensor& stored);

  // "FILE" or "FILE:NAME" of (n, d) or (k, n, d), .safetensors or .npy, or a folder that
  // `attnprune capture` has written. Without a name the file must have the input of `layer`, or one
  // tensor of a float type whose name says no other layer. "{layer}" is `layer`, unless that is
  // below 0. An .npy file of float64 is rounded to float32, as the solver would do. Where an
  // attention_mask (k, n) lies beside the tensor, padding is left out, and so are sequences of one
  // token: then a tensor for each run of sequences of one length.
  absl::StatusOr<std::vector<v1::TensorRef>> AddBatches(const std::string& text, int64_t layer);

  // A run's: every tensor of a float type of the model in a folder, with its config.json.
  absl::StatusOr<v1::Model> AddModel(const std::string& folder);
  // Rows of at least two tokens, whose ids fit 31 bits. name: for messages.
  absl::StatusOr<v1::TokenIds> AddTokens(const Tokens& tokens, const std::string& name);
  void AddNote(std::string note) { notes_.push_back(std::move(note)); }
  // What AddBatches saw and somebody may want to know, and AddNote's.
  const std::vector<std::string>& notes() const { return notes_; }

  // For Client::Upload; valid as long as this.
  absl::Span<const client::LocalTensor> all() const { return all_; }

 private:
  absl::StatusOr<const Checkpoint*> Open(const std::string& path);
  absl::StatusOr<v1::TensorRef> Add(const TensorInfo& tensor);
  absl::StatusOr<v1::TensorRef> AddNpy(const std::string& path);

  absl::StatusOr<std::vector<v1::TensorRef>> AddUnpadded(const TensorInfo& tensor,
                                                         const TensorInfo& mask);
  void NoteRepeats(const TensorInfo& tensor);

  std::map<std::string, Checkpoint> files_;
  std::map<std::string, ModelWeights> models_;
  std::deque<std::vector<char>> buffers_;
  std::vector<std::shared_ptr<const std::vector<char>>> kept_;
  std::vector<std::string> notes_;
  std::vector<client::LocalTensor> all_;
};

// A float32 tensor (k, n, d) over the batches' own storage, which must outlive it. All have the
// first one's length.
TensorInfo TensorOf(const std::string& name, const Batches& batches);

// "file.safetensors:a:b" is {"file.safetensors", "a:b"}; a text without a name has an empty one.
std::pair<std::string, std::string> SplitFileAndName(const std::string& text);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_FILES_JOB_TENSORS_H_
