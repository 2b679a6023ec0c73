#include "server/observe/call_metrics.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace attnprune {
namespace {

// From a call that only looks something up to an upload of hours.
const std::vector<double>& CallSeconds() {
  static const std::vector<double>& bounds = *new std::vector<double>{
      0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60, 600, 3600};
  return bounds;
}

}  // namespace

CallMetrics::CallMetrics(std::vector<std::string> names, std::vector<std::string> codes)
    : names_(std::move(names)),
      codes_(std::move(codes)),
      calls_(names_.size(), codes_.size()),
      in_flight_(names_.size()) {
  for (size_t i = 0; i < names_.size(); ++i) seconds_.emplace_back(CallSeconds());
}

size_t CallMetrics::NameIndex(absl::string_view name) const { return IndexIn(names_, name); }
size_t CallMetrics::CodeIndex(absl::string_view code) const { return IndexIn(codes_, code); }

void CallMetrics::Count(size_t name, size_t code, double seconds) {
  calls_.at(name, code).Add();
  seconds_[name].Add(seconds);
}

void CallMetrics::AddCounts(absl::string_view name_label, Exposition& out) const {
  for (size_t i = 0; i < names_.size(); ++i) {
    for (size_t j = 0; j < codes_.size(); ++j) {
      const int64_t calls = calls_.at(i, j).value();
      if (calls == 0) continue;
      out.Sample({{name_label, names_[i]}, {"code", codes_[j]}}, static_cast<double>(calls));
    }
  }
}

void CallMetrics::AddSeconds(absl::string_view name_label, Exposition& out) const {
  for (size_t i = 0; i < names_.size(); ++i) {
    if (seconds_[i].sum() > 0) out.Sample({{name_label, names_[i]}}, seconds_[i]);
  }
}

void CallMetrics::AddInFlight(absl::string_view name_label, Exposition& out) const {
  for (size_t i = 0; i < names_.size(); ++i) {
    out.Sample({{name_label, names_[i]}}, static_cast<double>(in_flight_[i].load()));
  }
}

CallMetrics GrpcCalls() {
  std::vector<std::string> names = {"other"};
  for (const char* call :
       {"CreateJob", "GetJob", "ListJobs", "CancelJob", "DeleteJob", "WatchJob", "GetServerInfo",
        "CreateRun", "GetRun", "ListRuns", "CancelRun", "ResumeRun", "DeleteRun"}) {
    names.push_back(absl::StrCat("attnprune.v1.PruneService/", call));
  }
  for (const char* call : {"FindMissingTensors", "QueryUpload", "UploadTensor", "DownloadTensor"}) {
    names.push_back(absl::StrCat("attnprune.v1.TensorService/", call));
  }
  names.insert(names.end(), {"grpc.health.v1.Health/Check", "grpc.health.v1.Health/Watch",
                             "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"});
  std::vector<std::string> codes;
  for (int code = 0; code <= static_cast<int>(absl::StatusCode::kUnauthenticated); ++code) {
    codes.push_back(absl::StatusCodeToString(static_cast<absl::StatusCode>(code)));
  }
  return CallMetrics(std::move(names), std::move(codes));
}

CallMetrics HttpCalls(std::vector<std::string> routes) {
  return CallMetrics(std::move(routes),
                     {"other", "200", "204", "304", "400", "401", "403", "404", "405", "409", "413",
                      "429", "431", "500", "501", "503", "505"});
}

}  // namespace attnprune
