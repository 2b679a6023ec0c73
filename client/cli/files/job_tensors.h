// The tensors of files that a job refers to, ready to be uploaded in their stored element types.
#ifndef ATTNPRUNE_CLIENT_CLI_FILES_JOB_TENSORS_H_
#define ATTNPRUNE_CLIENT_CLI_FILES_JOB_TENSORS_H_

#include <deque>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "attnprune/v1/job.pb.h"
#include "client/library/client.h"
#include "core/io/checkpoint.h"
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

  // "FILE" or "FILE:NAME" of (n, d) or (k, n, d), .safetensors or .npy. Without a name the file
  // must have `usual_name`, or one tensor of a float type. "{layer}" is `layer`, unless that is
  // empty. An .npy file of float64 is rounded to float32, as the solver would do.
  absl::StatusOr<v1::TensorRef> AddBatches(const std::string& text, const std::string& usual_name,
                                           const std::string& layer);

  // For Client::Upload; valid as long as this.
  absl::Span<const client::LocalTensor> all() const { return all_; }

 private:
  absl::StatusOr<const Checkpoint*> Open(const std::string& path);
  absl::StatusOr<v1::TensorRef> Add(const TensorInfo& tensor);
  absl::StatusOr<v1::TensorRef> AddNpy(const std::string& path);

  std::map<std::string, Checkpoint> files_;
  std::deque<std::vector<char>> buffers_;
  std::vector<client::LocalTensor> all_;
};

// A tensor to upload, with its digest; looks at the same bytes.
client::LocalTensor LocalOf(const TensorInfo& tensor);

// A float32 tensor (k, n, d) over the batches' own storage, which must outlive it. All have the
// first one's length.
TensorInfo TensorOf(const std::string& name, const Batches& batches);

// "file.safetensors:a:b" is {"file.safetensors", "a:b"}; a text without a name has an empty one.
std::pair<std::string, std::string> SplitFileAndName(const std::string& text);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_FILES_JOB_TENSORS_H_
