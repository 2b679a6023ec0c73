// The files that a capture writes, and what it needs to go on after a stop.
#ifndef ATTNPRUNE_CORE_MODEL_CAPTURE_FILES_H_
#define ATTNPRUNE_CORE_MODEL_CAPTURE_FILES_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "core/io/file.h"
#include "core/io/safetensors.h"
#include "core/model/capture.h"

namespace attnprune {

// In the output folder: the files under names with ".partial", and in ".capture" the hidden states
// of the last save with a small file that says which. Not thread-safe.
class CaptureFiles {
 public:
  // Makes or reopens them. ALREADY_EXISTS, RESOURCE_EXHAUSTED, FAILED_PRECONDITION as Capture.
  static absl::StatusOr<CaptureFiles> Open(const TokenRows& rows, Index features,
                                           const CaptureOptions& options);

  // The layer that an earlier pass had come to; 0: none had.
  Index next_layer() const { return next_layer_; }
  // Its hidden states.
  absl::Status LoadHidden(MutableMatrixView x) const;
  // Makes everything up to now durable, with x the input of `next_layer`.
  absl::Status Save(Index next_layer, MatrixView x);

  // Rows [first, first + x.rows()) of all tokens, of `layer`'s tensor.
  absl::Status Write(Index layer, Index first, MatrixView x);

  // Gives the files their names. Returns them.
  absl::StatusOr<std::vector<std::string>> Finish();

 private:
  struct Shard {
    std::string path;  // of the whole file
    std::vector<TensorInfo> tensors;
    SafetensorsLayout layout;
    File file;
  };

  CaptureFiles(const TokenRows& rows, Index features, const CaptureOptions& options);

  void PlanShards();
  // Makes the folders, and keeps others out while this lives.
  absl::Status Lock();
  absl::StatusOr<bool> ReadState();
  absl::Status WriteState(Index next_layer) const;
  absl::Status TakeBackNames();
  absl::Status CheckNothingIsThere() const;
  absl::Status DropWhatIsOfNoUse();
  absl::Status OpenShards();
  void RemoveAll();  // that this has made
  absl::Status WriteMask();
  absl::Status WriteIndex() const;
  std::string StateFolder() const;
  std::string StatePath() const;
  std::string IndexPath() const;
  std::string HiddenPath(Index layer) const;

  const TokenRows& rows_;
  const Index features_;
  const CaptureOptions& options_;
  std::vector<Shard> shards_;
  std::vector<Index> place_of_;  // of every token: its row of the tensor
  Index next_layer_ = 0;
  File lock_;
};

}  // namespace attnprune

#endif  // ATTNPRUNE_CORE_MODEL_CAPTURE_FILES_H_
