#include "server/access/rules.h"

#include <algorithm>
#include <iterator>

#include "absl/strings/str_cat.h"

namespace attnprune::access {
namespace {

constexpr Role kReader = Role::kReader, kSubmitter = Role::kSubmitter, kAdmin = Role::kAdmin;

// gRPC's health checks and reflection are not in here: both answer everyone, with nothing that
// depends on what is stored.
constexpr Rule kRules[] = {
    // PruneService
    {"CreateJob", kSubmitter},
    {"GetJob", kReader},
    {"ListJobs", kReader},
    {"CancelJob", kSubmitter},
    {"DeleteJob", kSubmitter},
    {"WatchJob", kReader},
    {"GetServerInfo", kReader},
    {"CreateRun", kSubmitter},
    {"GetRun", kReader},
    {"ListRuns", kReader},
    {"CancelRun", kSubmitter},
    {"DeleteRun", kSubmitter},
    {"ResumeRun", kSubmitter},
    // TensorService
    {"FindMissingTensors", kSubmitter},
    {"UploadTensor", kSubmitter},
    {"QueryUpload", kSubmitter},
    {"DownloadTensor", kReader},
    {"ListTensors", kReader},
    // HTTP
    {"other", absl::nullopt},  // there is nothing
    {"page", absl::nullopt},   // files of the program
    {"healthz", absl::nullopt},
    {"session", absl::nullopt},  // logs in, and says who is
    {"end_session", absl::nullopt},
    // Of all tenants; how many tensors are stored would tell whether another's is the same.
    {"metrics", kAdmin},
    {"openapi", absl::nullopt},  // as the program is
    {"server", kReader},
    {"jobs", kReader},
    {"create_job", kSubmitter},
    {"job", kReader},
    {"delete_job", kSubmitter},
    {"events", kReader},
    {"cancel", kSubmitter},
    {"density", kReader},
    {"job_files", kReader},
    {"runs", kReader},
    {"create_run", kSubmitter},
    {"run", kReader},
    {"delete_run", kSubmitter},
    {"cancel_run", kSubmitter},
    {"resume_run", kSubmitter},
    {"run_files", kReader},
    {"tensors", kReader},
    {"missing", kSubmitter},
    {"tensor", kReader},
    {"upload", kSubmitter},
    {"query_upload", kSubmitter},
};

const Rule* FindRule(absl::string_view action) {
  const auto* const found = std::find_if(std::begin(kRules), std::end(kRules),
                                         [&](const Rule& rule) { return rule.action == action; });
  return found == std::end(kRules) ? nullptr : found;
}

}  // namespace

absl::Span<const Rule> Rules() { return kRules; }

bool IsOpen(absl::string_view action) {
  const Rule* const rule = FindRule(action);
  return rule != nullptr && !rule->least.has_value();
}

absl::Status Authorize(const Caller& caller, absl::string_view action) {
  const Rule* const rule = FindRule(action);
  if (rule == nullptr) {
    return absl::PermissionDeniedError(absl::StrCat(action, " is open to no role"));
  }
  if (!rule->least.has_value() || caller.role >= *rule->least) return absl::OkStatus();
  return absl::PermissionDeniedError(absl::StrCat(action, " needs the role ",
                                                  ToString(*rule->least), ", the token's is ",
                                                  ToString(caller.role)));
}

}  // namespace attnprune::access
