#include "tests/server/web/web_fixture.h"

#include <cstdlib>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "server/queue/sqlite/sqlite_job_store.h"
#include "tests/server/api/jobs_for_tests.h"
#include "tests/server/api/stored_tensors.h"
#include "tests/support/value_or_die.h"

namespace attnprune::http {
namespace {

using testing::ValueOrDie;

}  // namespace

Web::Web(absl::Duration heartbeat, int max_connections)
    : lock_(ValueOrDie(FolderLock::Acquire(folder_.path()))) {
  PosixBlobStoreOptions blobs;
  blobs.folder = folder_.path();
  tensors_ = ValueOrDie(OpenPosixBlobStore(blobs, &clock_));
  jobs_ = ValueOrDie(
      OpenSqliteJobStore(lock_, {.max_queued_jobs = 1000, .policy = {}, .clock = &clock_}));
  jobs_->SetListener(&news_);
  WebOptions options;
  options.http.listen = "127.0.0.1:0";
  options.http.max_connections = max_connections;
  options.heartbeat = heartbeat;
  options.on_call = [this](const FinishedCall& call) {
    const MutexLock lock(&mutex_);
    calls_.push_back(call);
  };
  options.api.limits.set_max_tensor_bytes(blobs.limits.max_tensor_bytes);
  api_ = std::make_unique<rpc::JobApi>(options.api, jobs_.get(), tensors_.get());
  host_ = ValueOrDie(WebHost::Start(
      options,
      {.jobs = jobs_.get(),
       .tensors = tensors_.get(),
       .subscribe = [this](const std::string& id,
                           OnJobNews on_news) { return news_.Subscribe(id, std::move(on_news)); },
       .metrics = &metrics_,
       .metrics_text = [] { return std::string("attnprune_test 1\n"); }}));
}

Web::~Web() {
  host_.reset();
  jobs_->SetListener(nullptr);
}

v1::Job Web::Create(const std::string& team) {
  v1::CreateJobRequest request;
  v1::Job& job = *request.mutable_job();
  job = rpc::LayerJob();
  if (!team.empty()) rpc::SetLabel(job, "team", team);
  rpc::StoreTensors(job, *tensors_);
  return ValueOrDie(api_->CreateJob(request, JobOrigin()));
}

JobClaim Web::Claim() {
  const absl::optional<JobRecord> job = ValueOrDie(jobs_->Claim("test", absl::Hours(1)));
  EXPECT_TRUE(job.has_value());
  return {.id = job->id, .fence = job->fence};
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
  ValueOrDie(jobs_->AppendEvents(claim, events));
}

void Web::AddWarning(const JobClaim& claim, const std::string& text) {
  const NewEvent event{EventKind::kWarning, text};
  ValueOrDie(jobs_->AppendEvents(claim, {&event, 1}));
}

}  // namespace attnprune::http
