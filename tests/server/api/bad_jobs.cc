#include "tests/server/api/bad_jobs.h"

#include <cmath>
#include <functional>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/server/api/jobs_for_tests.h"

namespace attnprune::api {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

class Table {
 public:
  Table(v1::Job good, std::deque<BadJob>* rows) : good_(std::move(good)), rows_(rows) {}

  void Add(const char* title, const char* field, const char* message,
           const std::function<void(v1::Job&)>& spoil) {
    v1::Job job = good_;
    spoil(job);
    rows_->push_back({title, std::move(job), field, message});
  }

 private:
  const v1::Job good_;
  std::deque<BadJob>* const rows_;
};

v1::ProjectionProblem& Layer(v1::Job& job) { return *job.mutable_problem()->mutable_projections(); }
v1::FusedProblem& Fused(v1::Job& job) { return *job.mutable_problem()->mutable_fused(); }

void AddScalars(Table& t) {
  t.Add("65 labels", "job.labels", "at most 64 entries, got 65", [](v1::Job& job) {
    for (int i = 0; i < 65; ++i) SetLabel(job, absl::StrCat("k", i), "");
  });
  t.Add("an empty label key", "job.labels", "keys of 1 to 63",
        [](v1::Job& job) { SetLabel(job, "", "v"); });
  t.Add("a label key of 64 characters", "job.labels", "keys of 1 to 63",
        [](v1::Job& job) { SetLabel(job, std::string(64, 'k'), "v"); });
  t.Add("a space in a label key", "job.labels", "got 'a b'",
        [](v1::Job& job) { SetLabel(job, "a b", "v"); });
  t.Add("a label value of 256 bytes", "job.labels", "at most 255 bytes, got 256",
        [](v1::Job& job) { SetLabel(job, "k", std::string(256, 'v')); });
  t.Add("too high a priority", "job.priority", "must be in [-1000, 1000], got 1001",
        [](v1::Job& job) { job.set_priority(1001); });
  t.Add("too low a priority", "job.priority", "got -1001",
        [](v1::Job& job) { job.set_priority(-1001); });
  t.Add("a timeout below a second", "job.timeout", "1 s",
        [](v1::Job& job) { job.mutable_timeout()->set_nanos(999'999'999); });
  t.Add("a negative timeout", "job.timeout", "got -1 s",
        [](v1::Job& job) { job.mutable_timeout()->set_seconds(-1); });
  t.Add("a timeout beyond what a Duration holds", "job.timeout", "315576000000",
        [](v1::Job& job) { job.mutable_timeout()->set_seconds(315'576'000'001); });
  t.Add("a timeout with broken nanoseconds", "job.timeout", "1000000000 ns", [](v1::Job& job) {
    job.mutable_timeout()->set_seconds(5);
    job.mutable_timeout()->set_nanos(1'000'000'000);
  });
  t.Add("evaluate_every of -2", "job.evaluate_every", "at least -1, got -2",
        [](v1::Job& job) { job.set_evaluate_every(-2); });
}

void AddTensors(Table& t) {
  t.Add("no digest", "job.problem.projections.w_q.sha256", "64",
        [](v1::Job& job) { Layer(job).mutable_w_q()->clear_sha256(); });
  t.Add("a digest in capitals", "job.calibration[1].sha256", "64",
        [](v1::Job& job) { job.mutable_calibration(1)->set_sha256(std::string(64, 'A')); });
  t.Add("a digest that is too short", "job.held_out[0].sha256", "64",
        [](v1::Job& job) { job.mutable_held_out(0)->set_sha256(std::string(63, '7')); });
  t.Add("no dtype", "job.problem.projections.w_k.dtype", "got DTYPE_UNSPECIFIED",
        [](v1::Job& job) { Layer(job).mutable_w_k()->clear_dtype(); });
  t.Add("a mask for a weight", "job.problem.projections.w_k.dtype", "got BITMASK",
        [](v1::Job& job) { Layer(job).mutable_w_k()->set_dtype(v1::BITMASK); });
  t.Add("a dtype from the future", "job.calibration[0].dtype", "got 99",
        [](v1::Job& job) { job.mutable_calibration(0)->set_dtype(static_cast<v1::DType>(99)); });
  t.Add("an extent of 0", "job.calibration[0].shape", "at least 1, got 0 x 6 x 8",
        [](v1::Job& job) { job.mutable_calibration(0)->set_shape(0, 0); });
  t.Add("a negative extent", "job.problem.projections.w_q.shape", "at least 1, got -8 x 8",
        [](v1::Job& job) { Layer(job).mutable_w_q()->set_shape(0, -8); });
  t.Add("a shape of 9 entries", "job.calibration[0].shape",
        "must be (n, d) or (k, n, d), got 3 x 6 x 8 x 1", [](v1::Job& job) {
          for (int i = 0; i < 6; ++i) job.mutable_calibration(0)->add_shape(1);
        });
  t.Add("a tensor's name of 256 bytes", "job.problem.projections.w_q.name",
        "at most 255 bytes, got 256",
        [](v1::Job& job) { Layer(job).mutable_w_q()->set_name(std::string(256, 'n')); });
  t.Add("more than a MiB", "job", "at most 1048576 bytes as a message", [](v1::Job& job) {
    const v1::TensorRef ref = job.calibration(0);
    for (int i = 0; i < 14'000; ++i) *job.add_calibration() = ref;
  });
  t.Add("a shape whose product overflows", "job.calibration[0].shape", "must come to at most",
        [](v1::Job& job) {
          job.mutable_calibration(0)->set_shape(0, int64_t{1} << 40);
          job.mutable_calibration(0)->set_shape(1, int64_t{1} << 40);
        });
}

void AddLayers(Table& t) {
  t.Add("no weights", "job.problem.weights", "got neither",
        [](v1::Job& job) { job.mutable_problem()->clear_weights(); });
  t.Add("no problem", "job.problem.weights", "got neither",
        [](v1::Job& job) { job.clear_problem(); });
  t.Add("no w_q", "job.problem.projections.w_q.sha256", "64",
        [](v1::Job& job) { Layer(job).clear_w_q(); });
  t.Add("a w_q of rank 1", "job.problem.projections.w_q.shape", "2 entries, got 8",
        [](v1::Job& job) { *Layer(job).mutable_w_q() = Tensor('1', {8}); });
  t.Add("a w_k of rank 3", "job.problem.projections.w_k.shape", "2 entries, got 1 x 4 x 8",
        [](v1::Job& job) {
          *Layer(job).mutable_w_k() = Tensor('1', {1, 4, 8});
        });
  t.Add("no heads", "job.problem.projections.heads", "got 0",
        [](v1::Job& job) { Layer(job).clear_heads(); });
  t.Add("heads that do not divide", "job.problem.projections.heads",
        "divide the 8 rows of w_q, got 3", [](v1::Job& job) { Layer(job).set_heads(3); });
  t.Add("kv_heads that do not divide", "job.problem.projections.kv_heads",
        "divide heads (4), got 3", [](v1::Job& job) { Layer(job).set_kv_heads(3); });
  t.Add("negative kv_heads", "job.problem.projections.kv_heads", "got -2",
        [](v1::Job& job) { Layer(job).set_kv_heads(-2); });
  t.Add("a w_k of other heads", "job.problem.projections.w_k.shape", "= 4 x 8, got 8 x 8",
        [](v1::Job& job) {
          *Layer(job).mutable_w_k() = Tensor('2', {8, 8});
        });
  t.Add("a w_k of other inputs", "job.problem.projections.w_k.shape", "= 4 x 8, got 4 x 16",
        [](v1::Job& job) {
          *Layer(job).mutable_w_k() = Tensor('2', {4, 16});
        });
  t.Add("a bias of another length", "job.problem.projections.b_q.shape", "8, got 4",
        [](v1::Job& job) { *Layer(job).mutable_b_q() = Tensor('3', {4}); });
  t.Add("a bias of rank 2", "job.problem.projections.b_k.shape", "1 entry, got 4 x 1",
        [](v1::Job& job) {
          *Layer(job).mutable_b_k() = Tensor('4', {4, 1});
        });
  t.Add("a rotary embedding of odd heads", "job.problem.projections.rope", "even head_dim, got 1",
        [](v1::Job& job) {
          Layer(job).set_heads(8);
          Layer(job).set_kv_heads(4);
        });
  t.Add("a negative theta", "job.problem.projections.rope.theta", "got -1",
        [](v1::Job& job) { Layer(job).mutable_rope()->set_theta(-1); });
  t.Add("a theta that is no number", "job.problem.projections.rope.theta", "got nan",
        [](v1::Job& job) { Layer(job).mutable_rope()->set_theta(kNaN); });
  t.Add("an unknown rope layout", "job.problem.projections.rope.layout", "got 7", [](v1::Job& job) {
    Layer(job).mutable_rope()->set_layout(static_cast<v1::RopeLayout>(7));
  });
}

v1::QkNorm& Norm(v1::Job& job) {
  v1::QkNorm& norm = *Layer(job).mutable_qk_norm();
  *norm.mutable_q_weight() = Tensor('b', {2});
  *norm.mutable_k_weight() = Tensor('c', {2});
  return norm;
}

v1::RopeScaling& Scaling(v1::Job& job, v1::RopeScalingType type) {
  v1::RopeScaling& scaling = *Layer(job).mutable_rope()->mutable_scaling();
  scaling.set_type(type);
  scaling.set_factor(2);
  scaling.set_original_max_positions(64);
  scaling.set_max_positions(64);
  return scaling;
}

void AddNorms(Table& t) {
  t.Add("a norm without a weight", "job.problem.projections.qk_norm.k_weight.sha256", "64",
        [](v1::Job& job) { Norm(job).clear_k_weight(); });
  t.Add("a norm of another width", "job.problem.projections.qk_norm.q_weight.shape",
        "must be 2, 8 or 4 x 2, got 3",
        [](v1::Job& job) { *Norm(job).mutable_q_weight() = Tensor('b', {3}); });
  t.Add("a norm of the queries' heads for keys", "job.problem.projections.qk_norm.k_weight.shape",
        "must be 2, 4 or 2 x 2, got 4 x 2", [](v1::Job& job) {
          *Norm(job).mutable_k_weight() = Tensor('c', {4, 2});
        });
  t.Add("a norm of all heads with one head's weight",
        "job.problem.projections.qk_norm.q_weight.shape", "must be 8 or 4 x 2, got 2",
        [](v1::Job& job) { Norm(job).set_group(v1::WHOLE); });
  t.Add("a bias of a norm of rank 3", "job.problem.projections.qk_norm.q_bias.shape",
        "got 1 x 4 x 2", [](v1::Job& job) {
          *Norm(job).mutable_q_bias() = Tensor('d', {1, 4, 2});
        });
  t.Add("a mask for a norm's bias", "job.problem.projections.qk_norm.k_bias.dtype", "got BITMASK",
        [](v1::Job& job) {
          *Norm(job).mutable_k_bias() = Tensor('d', {2});
          Norm(job).mutable_k_bias()->set_dtype(v1::BITMASK);
        });
  t.Add("a negative eps", "job.problem.projections.qk_norm.eps", "above 0, got -1",
        [](v1::Job& job) { Norm(job).set_eps(-1); });
  t.Add("an unknown kind of norm", "job.problem.projections.qk_norm.kind", "RMS or LAYER, got 7",
        [](v1::Job& job) { Norm(job).set_kind(static_cast<v1::NormKind>(7)); });
  t.Add("an unknown group of a norm", "job.problem.projections.qk_norm.group",
        "HEAD or WHOLE, got 7",
        [](v1::Job& job) { Norm(job).set_group(static_cast<v1::NormGroup>(7)); });
  t.Add("a weight offset that is no number", "job.problem.projections.qk_norm.weight_offset",
        "must be in [-1000, 1000], got nan",
        [](v1::Job& job) { Norm(job).set_weight_offset(kNaN); });
}

void AddOptions(Table& t) {
  t.Add("a negative softcap", "job.problem.projections.softcap", "got -1",
        [](v1::Job& job) { Layer(job).set_softcap(-1); });
  t.Add("a clip that is infinite", "job.problem.projections.clip_qkv", "got inf",
        [](v1::Job& job) { Layer(job).set_clip_qkv(kInfinity); });
  t.Add("an unknown alibi", "job.problem.projections.alibi", "BLOOM or FALCON",
        [](v1::Job& job) { Layer(job).set_alibi(static_cast<v1::Alibi>(7)); });
  t.Add("an odd part of a head that turns", "job.problem.projections.rope.dim", "got 1",
        [](v1::Job& job) { Layer(job).mutable_rope()->set_dim(1); });
  t.Add("a negative attention factor", "job.problem.projections.rope.attention_factor", "got -1",
        [](v1::Job& job) { Layer(job).mutable_rope()->set_attention_factor(-1); });
  t.Add("a scaling without a type", "job.problem.projections.rope.scaling.type", "got 0",
        [](v1::Job& job) { Scaling(job, v1::ROPE_SCALING_TYPE_UNSPECIFIED); });
  t.Add("a scaling without a factor", "job.problem.projections.rope.scaling.factor",
        "at least 1, got 0", [](v1::Job& job) { Scaling(job, v1::LINEAR).clear_factor(); });
  t.Add("a scaling without its positions",
        "job.problem.projections.rope.scaling.original_max_positions", "at least 1 token, got 0",
        [](v1::Job& job) { Scaling(job, v1::LLAMA3).clear_original_max_positions(); });
  t.Add("a dynamic scaling of two features", "job.problem.projections.rope.scaling",
        "at least 4 features", [](v1::Job& job) { Scaling(job, v1::DYNAMIC); });
  t.Add("a longrope without factors", "job.problem.projections.rope.scaling.short_factor",
        "each pair of features, 1, got 0", [](v1::Job& job) { Scaling(job, v1::LONGROPE); });
}

void AddFused(Table& t) {
  t.Add("a fused problem without weights", "job.problem.fused", "got none",
        [](v1::Job& job) { Fused(job).Clear(); });
  t.Add("one factor only", "job.problem.fused", "got one factor",
        [](v1::Job& job) { Fused(job).clear_q_factor(); });
  t.Add("a weight and a factor", "job.problem.fused", "got weight and a factor", [](v1::Job& job) {
    *Fused(job).mutable_weight() = Tensor('a', {8, 8});
  });
  t.Add("a weight that is not square", "job.problem.fused.weight.shape", "square, got 8 x 4",
        [](v1::Job& job) {
          Fused(job).Clear();
          *Fused(job).mutable_weight() = Tensor('a', {8, 4});
        });
  t.Add("factors of different ranks", "job.problem.fused.k_factor.shape", "8 x 2, got 8 x 3",
        [](v1::Job& job) {
          *Fused(job).mutable_k_factor() = Tensor('9', {8, 3});
        });
  t.Add("a factor that is a vector", "job.problem.fused.q_factor.shape", "2 entries, got 8",
        [](v1::Job& job) { *Fused(job).mutable_q_factor() = Tensor('8', {8}); });
  t.Add("factors whose product is too large", "job.problem.fused.q_factor.shape", "product",
        [](v1::Job& job) {
          *Fused(job).mutable_q_factor() = Tensor('8', {int64_t{1} << 26, 1});
          *Fused(job).mutable_k_factor() = Tensor('9', {int64_t{1} << 26, 1});
        });
}

void AddAttentionAndScale(Table& t) {
  t.Add("an unknown attention", "job.problem.attention.kind", "got 9", [](v1::Job& job) {
    job.mutable_problem()->mutable_attention()->set_kind(static_cast<v1::AttentionKind>(9));
  });
  t.Add("a window without size", "job.problem.attention.size", "at least 1 token",
        [](v1::Job& job) { job.mutable_problem()->mutable_attention()->set_kind(v1::WINDOW); });
  t.Add("a causal mask with a size", "job.problem.attention.size", "must be 0",
        [](v1::Job& job) { job.mutable_problem()->mutable_attention()->set_size(4); });
  t.Add("a scale of 0", "job.problem.scale", "got 0",
        [](v1::Job& job) { job.mutable_problem()->set_scale(0); });
  t.Add("an infinite scale", "job.problem.scale", "got inf",
        [](v1::Job& job) { job.mutable_problem()->set_scale(kInfinity); });
  t.Add("a scale that float32 cannot hold", "job.problem.scale", "float32",
        [](v1::Job& job) { job.mutable_problem()->set_scale(1e300); });
}

void AddData(Table& t) {
  t.Add("no calibration", "job.calibration", "at least one",
        [](v1::Job& job) { job.clear_calibration(); });
  t.Add("calibration of another width", "job.calibration[1].shape", "d = 8, got 6 x 9",
        [](v1::Job& job) {
          *job.mutable_calibration(1) = Tensor('6', {6, 9});
        });
  t.Add("calibration of rank 1", "job.calibration[1].shape", "(n, d) or (k, n, d)",
        [](v1::Job& job) { *job.mutable_calibration(1) = Tensor('6', {8}); });
  t.Add("held-out data of rank 4", "job.held_out[0].shape", "got 1 x 1 x 5 x 8", [](v1::Job& job) {
    *job.mutable_held_out(0) = Tensor('7', {1, 1, 5, 8});
  });
  t.Add("a part held out beside held-out data", "job.held_out_fraction",
        "must be 0 where job.held_out is given, got 0.25",
        [](v1::Job& job) { job.set_held_out_fraction(0.25); });
  const auto hold_out = [](double fraction) {
    return [fraction](v1::Job& job) {
      job.clear_held_out();
      job.set_held_out_fraction(fraction);
    };
  };
  t.Add("all batches held out", "job.held_out_fraction", "in [0, 1), got 1", hold_out(1));
  t.Add("a negative part held out", "job.held_out_fraction", "got -0.1", hold_out(-0.1));
  t.Add("a part held out that is no number", "job.held_out_fraction", "got nan", hold_out(kNaN));
  t.Add("a part of a single batch held out", "job.held_out_fraction",
        "must be 0 with a single calibration batch, which cannot be split, got 0.5",
        [](v1::Job& job) {
          job.clear_held_out();
          job.clear_calibration();
          *job.add_calibration() = Tensor('5', {1, 6, 8});
          job.set_held_out_fraction(0.5);
        });
  t.Add("no sparsity", "job.sparsity.kind", "got neither",
        [](v1::Job& job) { job.clear_sparsity(); });
  t.Add("a sparsity of 1", "job.sparsity.fraction", "in [0, 1), got 1",
        [](v1::Job& job) { job.mutable_sparsity()->set_fraction(1); });
  t.Add("a negative sparsity", "job.sparsity.fraction", "got -0.1",
        [](v1::Job& job) { job.mutable_sparsity()->set_fraction(-0.1); });
  t.Add("a sparsity that is no number", "job.sparsity.fraction", "got nan",
        [](v1::Job& job) { job.mutable_sparsity()->set_fraction(kNaN); });
  const auto n_of_m = [](int64_t n, int64_t m) {
    return [n, m](v1::Job& job) {
      job.mutable_sparsity()->mutable_n_of_m()->set_n(n);
      job.mutable_sparsity()->mutable_n_of_m()->set_m(m);
    };
  };
  t.Add("4 of 4", "job.sparsity.n_of_m", "got 4:4", n_of_m(4, 4));
  t.Add("-1 of 4", "job.sparsity.n_of_m", "got -1:4", n_of_m(-1, 4));
  t.Add("0 of 0", "job.sparsity.n_of_m", "got 0:0", n_of_m(0, 0));
  t.Add("0 of 1", "job.sparsity.n_of_m", "got 0:1", n_of_m(0, 1));
  t.Add("groups that do not divide the inputs", "job.sparsity.n_of_m", "the 8 inputs, got 1:3",
        n_of_m(1, 3));
}

void AddMethods(Table& t) {
  t.Add("no methods", "job.methods", "1 to 64 entries, got 0",
        [](v1::Job& job) { job.clear_methods(); });
  t.Add("65 methods", "job.methods", "got 65", [](v1::Job& job) {
    while (job.methods_size() < 65) job.add_methods()->set_name("wanda");
  });
  t.Add("a method without a name", "job.methods[0].name", "must be one of",
        [](v1::Job& job) { job.mutable_methods(0)->clear_name(); });
  t.Add("an unknown method", "job.methods[1].name", "must be one of alps,",
        [](v1::Job& job) { job.add_methods()->set_name("oracle"); });
  t.Add("a method's name of a megabyte", "job.methods[1].name", "must be the name of a method",
        [](v1::Job& job) { job.add_methods()->set_name(std::string(1 << 20, 'x')); });
  const auto gd = [](const char* name, double value) {
    return [name, value](v1::Job& job) {
      job.mutable_methods(0)->set_name("gd");
      (*job.mutable_methods(0)->mutable_parameters())[name] = value;
    };
  };
  t.Add("an unknown parameter", "job.methods[0].parameters", "gd has no parameter \"speed\"",
        gd("speed", 1));
  t.Add("a parameter out of range", "job.methods[0].parameters.momentum", "in [0, 0.9999], got 2",
        gd("momentum", 2));
  t.Add("a parameter that is no number", "job.methods[0].parameters.eta", "got nan",
        gd("eta", kNaN));
  t.Add("half a step", "job.methods[0].parameters.steps", "whole number", gd("steps", 0.5));
  t.Add("a switch that is neither 0 nor 1", "job.methods[0].parameters.project", "got 2",
        gd("project", 2));
}

}  // namespace

std::deque<BadJob> BadJobs() {
  std::deque<BadJob> rows;
  Table layer(LayerJob(), &rows), factors(FactorsJob(), &rows);
  AddScalars(layer);
  AddTensors(layer);
  AddLayers(layer);
  AddNorms(layer);
  AddOptions(layer);
  AddAttentionAndScale(layer);
  AddData(layer);
  AddMethods(layer);
  AddFused(factors);
  return rows;
}

}  // namespace attnprune::api
