#include "client/cli/reproduce/figure_data.h"

#include <algorithm>
#include <numeric>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cli/files/job_tensors.h"
#include "client/cli/jobs/make_job.h"
#include "core/base/status_macros.h"
#include "core/problem/synthetic.h"

namespace attnprune::cli {
namespace {

void Add(const client::LocalTensor& tensor, FigureData& data, v1::TensorRef* ref) {
  *ref = tensor.ref;
  data.tensors.push_back(tensor);
}

// --- synthetic ---

class SyntheticFigure final : public FigureSource {
 public:
  explicit SyntheticFigure(const SyntheticFlags& flags) : flags_(flags) {}

  absl::StatusOr<FigureData> Data(const FigureJob& job) const override {
    ATTNPRUNE_ASSIGN_OR_RETURN(Problem drawn, SyntheticProblem({.d = flags_.d,
                                                                .n = job.n,
                                                                .k = job.k,
                                                                .rank = flags_.rank,
                                                                .x_std = flags_.x_std,
                                                                .held_out_batches = flags_.held_out,
                                                                .seed = job.seed}));
    const auto problem = std::make_shared<const Problem>(std::move(drawn));
    FigureData data{.job = {}, .tensors = {}, .storage = problem};
    const FusedWeights& weights = problem->fused_weights();
    v1::FusedProblem& fused = *data.job.mutable_problem()->mutable_fused();
    Add(LocalOf(TensorOf("w_q", weights.w_q)), data, fused.mutable_q_factor());
    Add(LocalOf(TensorOf("w_k", weights.w_k)), data, fused.mutable_k_factor());
    Add(LocalOf(TensorOf("calibration", problem->calibration)), data, data.job.add_calibration());
    if (problem->held_out.count() > 0) {
      Add(LocalOf(TensorOf("held_out", problem->held_out)), data, data.job.add_held_out());
    }
    data.job.mutable_sparsity()->set_fraction(job.rho);
    return data;
  }

 private:
  const SyntheticFlags flags_;
};

// --- a layer ---

// Of a tensor (n, d) or (k, n, d).
struct Stack {
  v1::TensorRef ref;
  absl::Span<const char> bytes;

  int64_t count() const { return ref.shape_size() == 2 ? 1 : ref.shape(0); }
  int64_t tokens() const { return ref.shape(ref.shape_size() - 2); }
  int64_t width() const { return ref.shape(ref.shape_size() - 1); }

  // The first n tokens of sequence i, (n, d).
  client::LocalTensor Cut(int64_t i, int64_t n) const {
    const size_t sequence = bytes.size() / static_cast<size_t>(count());
    const size_t token = sequence / static_cast<size_t>(tokens());
    v1::TensorRef cut = ref;
    cut.set_name(absl::StrCat(ref.name(), "[", i, "]"));
    cut.clear_shape();
    cut.add_shape(n);
    cut.add_shape(width());
    return client::MakeLocalTensor(
        cut, bytes.subspan(static_cast<size_t>(i) * sequence, static_cast<size_t>(n) * token));
  }
};

Stack StackOf(const v1::TensorRef& ref, const JobTensors& tensors) {
  for (const client::LocalTensor& tensor : tensors.all()) {
    if (tensor.ref.sha256() == ref.sha256()) return {.ref = ref, .bytes = tensor.bytes};
  }
  return {.ref = ref, .bytes = {}};  // cannot be: MakeJob refers to what it has added
}

}  // namespace

std::unique_ptr<FigureSource> SyntheticSource(const SyntheticFlags& flags) {
  return std::make_unique<SyntheticFigure>(flags);
}

std::vector<int64_t> ChooseSequences(int64_t count, int64_t k, uint64_t seed) {
  std::seed_seq sequence{static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)};
  std::mt19937_64 engine(sequence);
  std::vector<int64_t> all(static_cast<size_t>(count));
  std::iota(all.begin(), all.end(), int64_t{0});
  for (size_t i = all.size(); i > 1; --i) std::swap(all[i - 1], all[engine() % i]);
  all.resize(static_cast<size_t>(k));
  std::sort(all.begin(), all.end());
  return all;
}

struct LayerSource::Files {
  JobTensors tensors;
  std::vector<client::LocalTensor> weights;
  v1::Job job;  // without calibration, held-out data and sparsity
  Stack calibration, held_out;
};

LayerSource::LayerSource(std::unique_ptr<Files> files) : files_(std::move(files)) {}
LayerSource::~LayerSource() = default;

absl::StatusOr<std::unique_ptr<LayerSource>> LayerSource::Open(const Flags& flags) {
  JobFlags whole;
  whole.model = flags.model;
  whole.layer = flags.layer;
  whole.calibration = {flags.calibration};
  whole.held_out = {flags.held_out};
  whole.methods = {"magnitude"};  // it needs one; the figure has its own
  auto files = std::make_unique<Files>();
  ATTNPRUNE_ASSIGN_OR_RETURN(files->job, MakeJob(whole, files->tensors));
  files->calibration = StackOf(files->job.calibration(0), files->tensors);
  files->held_out = StackOf(files->job.held_out(0), files->tensors);
  const size_t weights = files->tensors.all().size() - 2;  // MakeJob adds them first
  files->weights.assign(files->tensors.all().begin(), files->tensors.all().begin() + weights);
  files->job.clear_methods();
  files->job.clear_calibration();
  files->job.clear_held_out();
  return std::unique_ptr<LayerSource>(new LayerSource(std::move(files)));
}

int64_t LayerSource::sequences() const { return files_->calibration.count(); }

int64_t LayerSource::tokens() const {
  return std::min(files_->calibration.tokens(), files_->held_out.tokens());
}

absl::Status LayerSource::Check(const FigureOptions& options) const {
  for (const int64_t k : options.ks) {
    const int64_t most = options.seeds > 1 ? sequences() - 1 : sequences();
    if (k <= most) continue;
    return absl::InvalidArgumentError(absl::StrCat("--k must be at most ", most, ": each of ",
                                                   options.seeds, " seeds chooses among the ",
                                                   sequences(), " calibration sequences; got ", k));
  }
  std::vector<std::pair<std::string, double>> lengths = {{"--n", static_cast<double>(options.n)}};
  for (const AxisPoints& axis : options.axes) {
    if (axis.axis == FigureAxis::kN) lengths.emplace_back("--axis n", axis.points.back());
  }
  for (const auto& [flag, length] : lengths) {
    if (length <= static_cast<double>(tokens())) continue;
    return absl::InvalidArgumentError(absl::StrCat(flag, " must be at most ", tokens(),
                                                   ", the tokens of a sequence, got ", length));
  }
  return absl::OkStatus();
}

absl::StatusOr<FigureData> LayerSource::Data(const FigureJob& job) const {
  FigureData data{.job = files_->job, .tensors = files_->weights, .storage = nullptr};
  for (const int64_t i : ChooseSequences(sequences(), job.k, job.seed)) {
    Add(files_->calibration.Cut(i, job.n), data, data.job.add_calibration());
  }
  for (int64_t i = 0; i < files_->held_out.count(); ++i) {
    Add(files_->held_out.Cut(i, job.n), data, data.job.add_held_out());
  }
  data.job.mutable_sparsity()->set_fraction(job.rho);
  return data;
}

}  // namespace attnprune::cli
