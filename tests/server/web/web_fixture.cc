#include "tests/server/web/web_fixture.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "core/io/sha256.h"
#include "nlohmann/json.hpp"
#include "tests/server/api/jobs_for_tests.h"
#include "tests/support/value_or_die.h"

namespace attnprune::web {
namespace {

using testing::ValueOrDie;

}  // namespace

Web::Web(absl::Duration heartbeat, int max_connections) {
  WebOptions options;
  options.http.listen = "127.0.0.1:0";
  options.http.max_connections = max_connections;
  options.heartbeat = heartbeat;
  options.on_call = [this](const FinishedHttpRequest& call) {
    const MutexLock lock(&mutex_);
    calls_.push_back(call);
  };
  host_ = ValueOrDie(
      WebHost::Start(options, {.gate = gate_.get(),
                               .api = &backend_.api(),
                               .runs = &backend_.runs(),
                               .hub = &backend_.hub(),
                               .tensors = &backend_.tensors(),
                               .tensor_api = &backend_.tensor_api(),
                               .metrics = &metrics_,
                               .metrics_text = [] { return std::string("attnprune_test 1\n"); },
                               .transfers = &transfers_}));
}

v1::Job Web::Create(const std::string& team) {
  v1::Job job = backend_.GoodJob();
  if (!team.empty()) api::SetLabel(job, "team", team);
  return backend_.Create(job);
}

void Web::AddProgress(const JobClaim& claim, int first, int last) {
  std::vector<NewEvent> events;
  for (int step = first; step <= last; ++step) {
    v1::Progress progress;
    progress.set_method("gd");
    progress.set_step(step);
    progress.set_attention_loss(1.0 / step);
    events.push_back({EventKind::kProgress, progress.SerializeAsString()});
  }
  backend_.Append(claim, events);
}

void Web::AddWarning(const JobClaim& claim, const std::string& text) {
  backend_.Append(claim, {{EventKind::kWarning, text}});
}

std::string FieldOf(const http::Received& received) {
  return nlohmann::json::parse(received.body)
      .value(nlohmann::json::json_pointer("/error/details/0/fieldViolations/0/field"), "");
}

std::string SomeBytes(size_t size) {
  std::string bytes(size, '\0');
  uint32_t state = 1;
  for (char& c : bytes) {
    state = state * 1664525 + 1013904223;
    c = static_cast<char>(state >> 24);
  }
  return bytes;
}

std::string UploadUrl(const std::string& bytes, const std::string& id, int64_t offset,
                      const std::string& dtype) {
  return absl::StrCat("/api/v1/uploads/", id, "?sha256=", Sha256Of(bytes),
                      "&sizeBytes=", bytes.size(), "&dtype=", dtype, "&offset=", offset);
}

}  // namespace attnprune::web
