// A result's masks and weights as one file, made as it is read: .safetensors with all of them, or a
// single one as .npy.
#ifndef ATTNPRUNE_SERVER_WEB_RESULT_FILE_H_
#define ATTNPRUNE_SERVER_WEB_RESULT_FILE_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "attnprune/v1/job.pb.h"
#include "attnprune/v1/run.pb.h"
#include "server/blobs/blob_store.h"

namespace attnprune::web {

// Masks have the weights' names with ".mask" behind: bytes that are 0 or 1 (BOOL, '|b1').
struct NamedTensor {
  std::string name;
  v1::TensorRef tensor;
};

// Of a job's result: "w_q", "w_q.mask" …; of a run's: tensors by their names in the checkpoint,
// trained weights too. NOT_FOUND: there is no result of that index, counted from 0 in `results`;
// FAILED_PRECONDITION: it failed, or has no tensors. Pure.
absl::StatusOr<std::vector<NamedTensor>> TensorsOf(const v1::Job& job, absl::string_view index);
absl::StatusOr<std::vector<NamedTensor>> TensorsOf(const v1::Run& run, absl::string_view index);

// The result of that index. Errors: as above.
absl::StatusOr<const v1::MethodResult*> FindResult(const v1::Job& job, absl::string_view index);

enum class FileFormat { kSafetensors, kNpy };

using OpenTensor =
    std::function<absl::StatusOr<std::unique_ptr<BlobReader>>(const std::string& sha256)>;

// The file, which opens its tensors now and reads them when it is read; in memory is its header.
// npy takes one tensor; BF16 has no .npy: INVALID_ARGUMENT (format). Errors of `open`; DATA_LOSS: a
// stored tensor has not the size that its shape says.
absl::StatusOr<std::unique_ptr<BlobReader>> FileOf(const std::vector<NamedTensor>& tensors,
                                                   FileFormat format, const OpenTensor& open);

}  // namespace attnprune::web

#endif  // ATTNPRUNE_SERVER_WEB_RESULT_FILE_H_
