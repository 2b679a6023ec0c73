#include "server/http/route.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include "absl/types/optional.h"

namespace attnprune::http {
namespace {

constexpr Address kAddresses[] = {
    {Verb::kGet, "/metrics", Route::kMetrics},
    {Verb::kGet, "/healthz", Route::kHealth},
    {Verb::kGet, "/api/v1/openapi.json", Route::kOpenApi},
    {Verb::kGet, "/api/v1/session", Route::kSession},
    {Verb::kPost, "/api/v1/session", Route::kSession},
    {Verb::kPost, "/api/v1/session:end", Route::kEndSession},
    {Verb::kGet, "/api/v1/server", Route::kServer},
    {Verb::kGet, "/api/v1/jobs", Route::kJobs},
    {Verb::kPost, "/api/v1/jobs", Route::kCreateJob, "CreateJob"},
    {Verb::kPost, "/api/v1/jobs/{id}:cancel", Route::kCancel, "CancelJob"},
    {Verb::kGet, "/api/v1/jobs/{id}", Route::kJob},
    {Verb::kDelete, "/api/v1/jobs/{id}", Route::kDeleteJob, "DeleteJob"},
    {Verb::kGet, "/api/v1/jobs/{id}/events", Route::kEvents},
    {Verb::kGet, "/api/v1/jobs/{id}/results/{index}/density", Route::kDensity},
    {Verb::kGet, "/api/v1/jobs/{id}/results/{index}/files", Route::kJobFiles, "DownloadTensor"},
    {Verb::kGet, "/api/v1/runs", Route::kRuns},
    {Verb::kPost, "/api/v1/runs", Route::kCreateRun, "CreateRun"},
    {Verb::kPost, "/api/v1/runs/{id}:cancel", Route::kCancelRun, "CancelRun"},
    {Verb::kPost, "/api/v1/runs/{id}:resume", Route::kResumeRun, "ResumeRun"},
    {Verb::kGet, "/api/v1/runs/{id}", Route::kRun},
    {Verb::kDelete, "/api/v1/runs/{id}", Route::kDeleteRun, "DeleteRun"},
    {Verb::kGet, "/api/v1/runs/{id}/events", Route::kEvents},
    {Verb::kGet, "/api/v1/runs/{id}/results/{index}/files", Route::kRunFiles, "DownloadTensor"},
    {Verb::kGet, "/api/v1/tensors", Route::kTensors},
    {Verb::kPost, "/api/v1/tensors:findMissing", Route::kMissing},
    {Verb::kGet, "/api/v1/tensors/{id}", Route::kTensor, "DownloadTensor"},
    {Verb::kPut, "/api/v1/uploads/{id}", Route::kUpload, "UploadTensor"},
    {Verb::kGet, "/api/v1/uploads/{id}", Route::kQueryUpload},
};

// What `path` has in place of the braces of `pattern`, in order; nothing: it does not fit. What
// follows a brace decides where it ends, at the last place where that fits in its part of the path.
absl::optional<std::vector<std::string>> Fit(absl::string_view pattern, absl::string_view path) {
  std::vector<std::string> values;
  while (true) {
    const size_t open = pattern.find('{');
    if (open == absl::string_view::npos) {
      if (pattern != path) return absl::nullopt;
      return values;
    }
    if (path.substr(0, open) != pattern.substr(0, open)) return absl::nullopt;
    pattern.remove_prefix(pattern.find('}') + 1);
    path.remove_prefix(open);
    const absl::string_view part = path.substr(0, path.find('/'));
    const absl::string_view after = pattern.substr(0, pattern.find('/'));
    if (part.size() <= after.size() || !absl::EndsWith(part, after)) return absl::nullopt;
    values.emplace_back(part.substr(0, part.size() - after.size()));
    path.remove_prefix(values.back().size());
  }
}

bool TakesHead(const Address& address) {
  return address.verb == Verb::kGet && address.route != Route::kEvents;
}

bool Takes(const Address& address, Verb verb) {
  return address.verb == verb || (verb == Verb::kHead && TakesHead(address));
}

// What is at a path: the addresses of one pattern, and what stands for its braces.
struct Place {
  std::vector<const Address*> addresses;
  std::vector<std::string> values;
};

// "{id}:cancel" stands before "{id}", which would fit too.
Place PlaceAt(absl::string_view path) {
  Place place;
  for (const Address& address : kAddresses) {
    const bool first = place.addresses.empty();
    if (!first && address.pattern != place.addresses.front()->pattern) continue;
    absl::optional<std::vector<std::string>> values = Fit(address.pattern, path);
    if (!values.has_value()) continue;
    place.addresses.push_back(&address);
    place.values = *std::move(values);
  }
  return place;
}

bool IsBelowApi(absl::string_view path) { return absl::StartsWith(path, "/api/"); }

}  // namespace

absl::Span<const Address> Addresses() { return kAddresses; }

RouteMatch MatchRoute(Verb verb, absl::string_view path) {
  const Place place = PlaceAt(path);
  if (place.addresses.empty()) {
    if (IsBelowApi(path)) return {};
    return {.route = Route::kPage, .id = "", .index = "", .takes_verb = !Changes(verb)};
  }
  const auto found = std::find_if(place.addresses.begin(), place.addresses.end(),
                                  [&](const Address* a) { return Takes(*a, verb); });
  const bool takes = found != place.addresses.end();
  const Address& address = takes ? **found : *place.addresses.front();
  return {.route = address.route,
          .id = place.values.empty() ? "" : place.values[0],
          .index = place.values.size() < 2 ? "" : place.values[1],
          .takes_verb = takes,
          .action = takes && verb != Verb::kHead ? address.action : ""};
}

std::string AllowedVerbs(absl::string_view path) {
  const Place place = PlaceAt(path);
  if (place.addresses.empty()) return IsBelowApi(path) ? "" : "GET, HEAD";
  std::vector<absl::string_view> verbs;
  for (const Address* const address : place.addresses) {
    verbs.push_back(VerbName(address->verb));
    if (TakesHead(*address)) verbs.emplace_back("HEAD");
  }
  return absl::StrJoin(verbs, ", ");
}

}  // namespace attnprune::http
