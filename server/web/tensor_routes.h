// What the addresses of tensors and of results' files answer: parses, calls api::TensorApi.
#ifndef ATTNPRUNE_SERVER_WEB_TENSOR_ROUTES_H_
#define ATTNPRUNE_SERVER_WEB_TENSOR_ROUTES_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "server/access/caller.h"
#include "server/api/job_api.h"
#include "server/api/run_api.h"
#include "server/api/tensor_api.h"
#include "server/blobs/upload_spec.h"
#include "server/http/message.h"
#include "server/http/route.h"
#include "server/web/download.h"

namespace attnprune::web {

// ?sha256=…&sizeBytes=…&dtype=F32&offset=0 of kUpload; the tenant is not set.
struct AskedUpload {
  UploadSpec spec;
  int64_t offset = 0;
};
// INVALID_ARGUMENT names the parameter; what its value must be is TensorApi's to say.
absl::StatusOr<AskedUpload> ParseUpload(const http::RouteMatch& match, const http::Pairs& query);

// An error of UploadTensor or QueryUpload by the names that HTTP has for its fields: the query's
// parameters, as `query` spells them, "id" in the address, and "body". Pure.
absl::Status InWordsOfHttp(const absl::Status& status, const http::Pairs& query);

// Answers kTensors, kMissing and kQueryUpload. Callable from any thread; may wait for the disk.
absl::StatusOr<http::Response> AnswerTensorRoute(const access::Caller& caller,
                                                 const api::TensorApi& tensors,
                                                 const http::RouteMatch& match,
                                                 const http::Request& request);

// What kTensor sends, or kJobFiles and kRunFiles by ?format=safetensors|npy and ?tensor=NAME: one
// of the file's tensors alone, which npy needs. Without its slot. Callable from any thread; waits
// for the disk.
absl::StatusOr<Download> OpenDownload(const access::Caller& caller, const api::JobApi& jobs,
                                      const api::RunApi& runs, const api::TensorApi& tensors,
                                      const http::RouteMatch& match, const http::Request& request);

}  // namespace attnprune::web

#endif  // ATTNPRUNE_SERVER_WEB_TENSOR_ROUTES_H_
