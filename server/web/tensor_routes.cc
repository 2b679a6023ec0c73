#include "server/web/tensor_routes.h"

#include <algorithm>
#include <map>
#include <utility>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/strip.h"
#include "attnprune/v1/tensor_service.pb.h"
#include "core/base/field_error.h"
#include "core/base/status_macros.h"
#include "core/io/messages.h"
#include "core/io/sha256.h"
#include "server/api/request_check.h"
#include "server/web/api_json.h"
#include "server/web/result_file.h"

namespace attnprune::web {
namespace {

struct AskedFile {
  FileFormat format = FileFormat::kSafetensors;
  std::string tensor;  // empty: all
};

absl::StatusOr<AskedFile> ParseFile(const http::Pairs& query) {
  AskedFile asked;
  for (const auto& [name, value] : query) {
    if (name == "tensor") {
      asked.tensor = value;
    } else if (name != "format") {
      return UnknownParameter(name);
    } else if (value == "npy") {
      asked.format = FileFormat::kNpy;
    } else if (value != "safetensors") {
      return MustError("format", "be safetensors or npy", Quoted(value));
    }
  }
  return asked;
}

// The one that was asked for alone.
absl::Status Choose(const AskedFile& asked, std::vector<NamedTensor>* tensors) {
  std::vector<std::string> names;
  for (const NamedTensor& tensor : *tensors) names.push_back(tensor.name);
  const auto found = std::find(names.begin(), names.end(), asked.tensor);
  if (found == names.end()) {
    return MustError("tensor", absl::StrCat("be one of ", absl::StrJoin(names, ", ")),
                     Quoted(asked.tensor));
  }
  *tensors = {(*tensors)[static_cast<size_t>(found - names.begin())]};
  return absl::OkStatus();
}

// Names of tensors are clients'.
std::string FileName(absl::string_view id, absl::string_view index, const AskedFile& asked) {
  std::string name = absl::StrCat(id, "-", index, asked.tensor.empty() ? "" : "-", asked.tensor,
                                  asked.format == FileFormat::kNpy ? ".npy" : ".safetensors");
  for (char& c : name) {
    const bool plain = absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '-';
    if (!plain) c = '_';
  }
  return name;
}

// Of a file that is made of these tensors in this way.
std::string EtagOf(const std::vector<NamedTensor>& tensors, FileFormat format) {
  std::string text = format == FileFormat::kNpy ? "npy" : "safetensors";
  for (const NamedTensor& tensor : tensors) {
    absl::StrAppend(&text, "\n", tensor.name, "\n", tensor.tensor.sha256());
  }
  return absl::StrCat("\"", Sha256Of(text), "\"");
}

absl::StatusOr<std::vector<NamedTensor>> TensorsAt(const access::Caller& caller,
                                                   const api::JobApi& jobs, const api::RunApi& runs,
                                                   const http::RouteMatch& match) {
  if (match.route == http::Route::kRunFiles) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const v1::Run run, runs.GetRun(caller, api::RunName(match.id)));
    return TensorsOf(run, match.index);
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(const v1::Job job, jobs.GetJob(caller, api::JobName(match.id)));
  return TensorsOf(job, match.index);
}

absl::StatusOr<v1::ListTensorsRequest> ParseListTensors(const http::Pairs& query) {
  v1::ListTensorsRequest request;
  for (const auto& [name, value] : query) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const bool paging, ParsePaging(name, value, &request));
    if (paging) continue;
    if (name != "unused") return UnknownParameter(name);
    if (value != "true" && value != "false") {
      return MustError(name, "be true or false", Quoted(value));
    }
    request.set_unused(value == "true");
  }
  return request;
}

}  // namespace

absl::StatusOr<AskedUpload> ParseUpload(const http::RouteMatch& match, const http::Pairs& query) {
  AskedUpload asked;
  asked.spec.upload_id = match.id;
  for (const auto& [name, value] : query) {
    if (name == "sha256") {
      asked.spec.sha256 = value;
    } else if (name == "dtype") {
      asked.spec.dtype = value;
    } else if (name == "sizeBytes" || name == "size_bytes") {
      ATTNPRUNE_RETURN_IF_ERROR(ParseInteger(name, value, &asked.spec.size_bytes));
    } else if (name == "offset") {
      ATTNPRUNE_RETURN_IF_ERROR(ParseInteger(name, value, &asked.offset));
    } else {
      return UnknownParameter(name);
    }
  }
  return asked;
}

absl::Status InWordsOfHttp(const absl::Status& status, const http::Pairs& query) {
  const bool snake_case = std::any_of(query.begin(), query.end(),
                                      [](const auto& pair) { return pair.first == "size_bytes"; });
  const std::string size = snake_case ? "size_bytes" : "sizeBytes";
  const std::map<std::string, std::string> names = {{"header.sha256", "sha256"},
                                                    {"header.size_bytes", size},
                                                    {"header.dtype", "dtype"},
                                                    {"header.offset", "offset"},
                                                    {"header.upload_id", "id"},
                                                    {"upload_id", "id"},
                                                    {"data", "body"}};
  const auto name = names.find(FieldAtFault(status));
  absl::string_view rest = status.message();
  const bool begins_with_it = name != names.end() && absl::ConsumePrefix(&rest, name->first);
  // What a client has sent stands in quotes, behind the fields that the rule names.
  const size_t quote = std::min(rest.find('\''), rest.size());
  absl::Status told(status.code(), absl::StrCat(begins_with_it ? name->second : "",
                                                absl::StrReplaceAll(rest.substr(0, quote),
                                                                    {{"header.size_bytes", size}}),
                                                rest.substr(quote)));
  status.ForEachPayload([&told](absl::string_view type, const absl::Cord& payload) {
    told.SetPayload(type, payload);
  });
  return name == names.end() ? told : WithField(told, name->second);
}

absl::StatusOr<http::Response> AnswerTensorRoute(const access::Caller& caller,
                                                 const api::TensorApi& tensors,
                                                 const http::RouteMatch& match,
                                                 const http::Request& request) {
  if (match.route == http::Route::kTensors) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const v1::ListTensorsRequest list, ParseListTensors(request.query));
    ATTNPRUNE_ASSIGN_OR_RETURN(const v1::ListTensorsResponse page,
                               tensors.ListTensors(caller, list));
    return JsonResponse(request, page);
  }
  ATTNPRUNE_RETURN_IF_ERROR(NoParameters(request.query));
  if (match.route == http::Route::kQueryUpload) {
    const absl::StatusOr<int64_t> bytes = tensors.CommittedBytes(caller, match.id);
    if (!bytes.ok()) return InWordsOfHttp(bytes.status(), request.query);
    v1::QueryUploadResponse response;
    response.set_committed_bytes(*bytes);
    return JsonResponse(request, response);
  }
  v1::FindMissingTensorsRequest asked;
  ATTNPRUNE_RETURN_IF_ERROR(FromJson(request.body, &asked));
  const std::vector<std::string> digests(asked.sha256().begin(), asked.sha256().end());
  ATTNPRUNE_RETURN_IF_ERROR(api::CheckDigestCount(asked.sha256_size()));
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::vector<std::string> missing,
                             tensors.FindMissing(caller, digests));
  v1::FindMissingTensorsResponse response;
  response.mutable_missing()->Add(missing.begin(), missing.end());
  return JsonResponse(request, response);
}

absl::StatusOr<Download> OpenDownload(const access::Caller& caller, const api::JobApi& jobs,
                                      const api::RunApi& runs, const api::TensorApi& tensors,
                                      const http::RouteMatch& match, const http::Request& request) {
  const auto open = [&](const std::string& sha256) {
    return tensors.OpenForReading(caller, sha256);
  };
  Download download;
  if (match.route == http::Route::kTensor) {
    ATTNPRUNE_RETURN_IF_ERROR(NoParameters(request.query));
    ATTNPRUNE_RETURN_IF_ERROR(CheckSha256("sha256", match.id));
    ATTNPRUNE_ASSIGN_OR_RETURN(download.bytes, open(match.id));
    download.etag = absl::StrCat("\"", match.id, "\"");
    return download;
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(const AskedFile asked, ParseFile(request.query));
  ATTNPRUNE_ASSIGN_OR_RETURN(std::vector<NamedTensor> found, TensorsAt(caller, jobs, runs, match));
  if (!asked.tensor.empty() || asked.format == FileFormat::kNpy) {
    ATTNPRUNE_RETURN_IF_ERROR(Choose(asked, &found));
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(download.bytes, FileOf(found, asked.format, open));
  download.etag = EtagOf(found, asked.format);
  download.file_name = FileName(match.id, match.index, asked);
  return download;
}

}  // namespace attnprune::web
