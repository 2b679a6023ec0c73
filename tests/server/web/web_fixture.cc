#include "tests/server/web/web_fixture.h"

#include <vector>

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

}  // namespace attnprune::web
