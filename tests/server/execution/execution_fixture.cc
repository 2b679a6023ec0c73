#include "tests/server/execution/execution_fixture.h"

#include <algorithm>
#include <cstdlib>
#include <iostream>

#include "server/execution/job_tensor.h"
#include "tests/support/matrices.h"

namespace attnprune::testing {
namespace {

template <typename T>
T Need(absl::StatusOr<T> value) {
  if (!value.ok()) {
    std::cerr << value.status() << "\n";
    std::abort();
  }
  return *std::move(value);
}

}  // namespace

Place::Place(const std::string& folder) : folder_(folder) { Open(); }

void Place::Open() {
  SqliteJobStoreOptions options;
  options.clock = &clock_;
  opened_ = std::make_unique<OpenedStore>(Need(OpenStore(folder_, options)));
  PosixBlobStoreOptions blobs;
  blobs.folder = folder_;
  blobs.min_free_disk_bytes = 0;
  tensors_ = Need(OpenPosixBlobStore(blobs, &clock_));
}

void Place::Reopen() {
  opened_ = nullptr;
  tensors_ = nullptr;
  Open();
}

v1::TensorRef Place::Put(const Matrix& matrix, DType dtype, std::vector<int64_t> shape) {
  std::vector<char> bytes(static_cast<size_t>(matrix.size()) * SizeOf(dtype));
  EXPECT_TRUE(FromFloat32(matrix.flat(), dtype, absl::MakeSpan(bytes)).ok());
  v1::TensorRef tensor;
  tensor.set_sha256(Need(tensors_->Put(bytes)));
  tensor.set_dtype(ToProto(dtype));
  if (shape.empty()) shape = {matrix.rows(), matrix.cols()};
  for (const int64_t extent : shape) tensor.add_shape(extent);
  return tensor;
}

std::string Place::Create(const v1::Job& job, int priority, absl::Duration timeout) {
  NewJob request;
  request.spec = job.SerializeAsString();
  request.priority = priority;
  request.timeout = timeout;
  return Need(jobs().Create(request)).job.id;
}

JobRecord Place::Claim() { return Need(jobs().Claim("test", absl::Seconds(30))).value(); }

JobRecord Place::Get(const std::string& id) { return Need(jobs().Get(id)); }

std::vector<StoredEvent> Place::Events(const std::string& id) {
  return Need(jobs().ReadEvents(id, 0, 1'000'000));
}

v1::MethodResult Place::Result(const std::string& id, int index) {
  v1::MethodResult result;
  const std::vector<std::string> results = Get(id).results;
  EXPECT_LT(static_cast<size_t>(index), results.size());
  if (static_cast<size_t>(index) < results.size()) {
    EXPECT_TRUE(result.ParseFromString(results[static_cast<size_t>(index)]));
  }
  return result;
}

std::string Place::Bytes(const v1::TensorRef& tensor) {
  const int64_t size = Need(tensors_->SizeOf(tensor.sha256()));
  const MappedFile file = Need(tensors_->Map(tensor.sha256(), size));
  return {file.bytes().begin(), file.bytes().end()};
}

v1::Job LayerJob(Place* place) {
  v1::Job job;
  v1::ProjectionProblem& layer = *job.mutable_problem()->mutable_projections();
  *layer.mutable_w_q() = place->Put(GaussianMatrix(8, 8, 1), DType::kBF16);
  *layer.mutable_w_k() = place->Put(GaussianMatrix(4, 8, 2), DType::kBF16);
  layer.mutable_w_q()->set_name("layers.0.q_proj.weight");
  layer.set_heads(2);
  layer.set_kv_heads(1);
  layer.mutable_rope();
  *job.add_calibration() = place->Put(GaussianMatrix(12, 8, 3), DType::kF32, {2, 6, 8});
  *job.add_calibration() = place->Put(GaussianMatrix(5, 8, 4), DType::kF32);
  *job.add_held_out() = place->Put(GaussianMatrix(4, 8, 5), DType::kF32);
  job.mutable_sparsity()->set_fraction(0.5);
  return job;
}

v1::Method* AddMethod(const std::string& name, v1::Job* job,
                      const std::map<std::string, double>& parameters) {
  v1::Method* method = job->add_methods();
  method->set_name(name);
  method->set_label(name);
  method->mutable_parameters()->insert(parameters.begin(), parameters.end());
  return method;
}

v1::Job DescentJob(Place* place, int steps) {
  v1::Job job = LayerJob(place);
  job.set_evaluate_every(3);
  AddMethod("gd", &job, {{"steps", steps}, {"eta", 0.1}});
  return job;
}

absl::optional<v1::Progress> StepOf(const StoredEvent& event) {
  v1::Progress progress;
  if (!IsProgress(event.kind) || !progress.ParseFromString(event.payload)) return absl::nullopt;
  return progress.has_phase() ? absl::nullopt : absl::make_optional(progress);
}

std::string Verdict(v1::MethodResult result) {
  result.clear_seconds();
  result.clear_judging_seconds();
  result.clear_preparing_seconds();
  return result.DebugString();
}

void EventLog::OnEvents(const std::string& job_id, absl::Span<const StoredEvent> events) {
  {
    MutexLock lock(&mutex_);
    for (const StoredEvent& event : events) {
      if (StepOf(event).has_value()) ++progress_[job_id];
      if (event.kind != EventKind::kStateChange && event.kind != EventKind::kTerminal) continue;
      states_[job_id].push_back(event.state);
      if (event.state == JobState::kRunning) started_.push_back(job_id);
    }
  }
  changed_.NotifyAll();
}

void EventLog::Await(const std::string& job_id, JobState state) {
  MutexLock lock(&mutex_);
  changed_.Wait(&mutex_, [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    const std::vector<JobState>& states = states_[job_id];
    return std::find(states.begin(), states.end(), state) != states.end();
  });
}

void EventLog::AwaitProgress(const std::string& job_id, int count) {
  MutexLock lock(&mutex_);
  changed_.Wait(&mutex_,
                [&]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return progress_[job_id] >= count; });
}

std::vector<std::string> EventLog::started() {
  MutexLock lock(&mutex_);
  return started_;
}

}  // namespace attnprune::testing
