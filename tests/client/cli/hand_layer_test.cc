// Layers whose tensors are named by hand: the job that the flags make, and what they refuse.
#include "client/cli/jobs/hand_layer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/cli.h"
#include "client/cli/jobs/make_job.h"
#include "client/cli/jobs/rope_flags.h"
#include "core/io/safetensors.h"
#include "tests/server/api/temporary_folder.h"
#include "tests/support/matrices.h"

namespace attnprune::cli {
namespace {

using ::attnprune::testing::GaussianMatrix;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// d = 8, 2 heads of 4 on 1 key head; with norms of other shapes beside other names.
class HandLayer : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    const struct {
      const char* name;
      Index rows, cols;  // 0 rows: one dimension
    } shapes[] = {{"a.q_proj.weight", 8, 8},
                  {"a.k_proj.weight", 4, 8},
                  {"a.q_norm.weight", 0, 4},
                  {"a.k_norm.weight", 0, 4},
                  {"a.q_norm.bias", 0, 4},
                  {"a.k_norm.bias", 0, 4},
                  {"b.q_proj.weight", 8, 8},
                  {"b.k_proj.weight", 4, 8},
                  {"b.inner.q_layernorm.w", 0, 8},
                  {"w.q_all", 0, 8},
                  {"w.k_all", 0, 4},
                  {"w.q_heads", 2, 4},
                  {"q", 8, 8},
                  {"k", 4, 8},
                  {"x", 24, 8}};
    std::vector<Matrix> values;
    std::vector<TensorInfo> tensors;
    for (const auto& shape : shapes) {
      values.push_back(GaussianMatrix(std::max<Index>(shape.rows, 1), shape.cols,
                                      static_cast<unsigned>(values.size())));
      tensors.push_back(TensorOf(shape.name, values.back()));
      if (shape.rows == 0) tensors.back().shape = {shape.cols};
    }
    ASSERT_TRUE(WriteSafetensors(File(), tensors).ok());
  }
  static void TearDownTestSuite() { delete folder_; }
  static std::string File() { return folder_->path() + "/layer.safetensors"; }

  // Of module "a" with its norms.
  static JobFlags Named() {
    JobFlags flags;
    flags.weights = File();
    flags.q = "a.q_proj.weight";
    flags.k = "a.k_proj.weight";
    flags.q_norm = "a.q_norm.weight";
    flags.k_norm = "a.k_norm.weight";
    flags.heads = 2;
    flags.kv_heads = 1;
    flags.calibration = {File() + ":x"};
    flags.methods = {"magnitude"};
    return flags;
  }
  static absl::StatusOr<v1::Job> Make(const JobFlags& flags) {
    JobTensors tensors;
    return MakeJob(flags, tensors);
  }
  static v1::ProjectionProblem Layer(const JobFlags& flags) {
    const absl::StatusOr<v1::Job> job = Make(flags);
    EXPECT_TRUE(job.ok()) << job.status();
    return job.ok() ? job->problem().projections() : v1::ProjectionProblem();
  }

  static inline TemporaryFolder* folder_ = nullptr;
};

TEST_F(HandLayer, HasItsNormsWithTheFamilysDefaults) {
  const v1::QkNorm norm = Layer(Named()).qk_norm();
  EXPECT_EQ(norm.kind(), v1::RMS);
  EXPECT_EQ(norm.group(), v1::HEAD);
  EXPECT_EQ(norm.eps(), 0) << "which means the API's default";
  EXPECT_EQ(norm.weight_offset(), 0);
  EXPECT_EQ(norm.q_weight().name(), "a.q_norm.weight");
  EXPECT_EQ(norm.k_weight().name(), "a.k_norm.weight");
  EXPECT_FALSE(norm.has_q_bias());
}

TEST_F(HandLayer, AddsOneToTheWeightsOfRms1) {
  JobFlags flags = Named();
  flags.norm = "rms1";
  flags.norm_eps = 1e-5;
  const v1::QkNorm norm = Layer(flags).qk_norm();
  EXPECT_EQ(norm.kind(), v1::RMS);
  EXPECT_EQ(norm.weight_offset(), 1);
  EXPECT_EQ(norm.eps(), 1e-5);
}

TEST_F(HandLayer, HasBiasesOfALayerNorm) {
  JobFlags flags = Named();
  flags.norm = "layer";
  flags.q_norm_bias = "a.q_norm.bias";
  flags.k_norm_bias = "a.k_norm.bias";
  const v1::QkNorm norm = Layer(flags).qk_norm();
  EXPECT_EQ(norm.kind(), v1::LAYER);
  EXPECT_EQ(norm.q_bias().name(), "a.q_norm.bias");
  EXPECT_EQ(norm.k_bias().name(), "a.k_norm.bias");
}

TEST_F(HandLayer, TakesANormOverWhatIsSaidOrWhatItsShapeSays) {
  JobFlags flags = Named();
  flags.q_norm = "w.q_all";
  flags.k_norm = "w.k_all";
  flags.norm_group = "whole";
  EXPECT_EQ(Layer(flags).qk_norm().group(), v1::WHOLE);
  flags.norm_group = "head";
  EXPECT_EQ(Layer(flags).qk_norm().group(), v1::HEAD);
  flags.norm_group = "";
  EXPECT_THAT(Make(flags).status().message(),
              HasSubstr("--norm-group head or whole is needed: w.q_all has 8 entries"));
  flags.q_norm = "w.q_heads";
  EXPECT_EQ(Layer(flags).qk_norm().group(), v1::HEAD);
}

TEST_F(HandLayer, HasWhatElseIsSaid) {
  JobFlags flags = Named();
  flags.softcap = 50;
  flags.clip_qkv = 8;
  flags.alibi = "falcon";
  flags.rope_theta = 500000;
  flags.rope_dim = 2;
  flags.rope_attention_factor = 1.25;
  flags.rope_scaling = "yarn:factor=4,original_max_positions=32768,truncate=0";
  const v1::ProjectionProblem layer = Layer(flags);
  EXPECT_EQ(layer.softcap(), 50);
  EXPECT_EQ(layer.clip_qkv(), 8);
  EXPECT_EQ(layer.alibi(), v1::FALCON);
  EXPECT_EQ(layer.rope().theta(), 500000);
  EXPECT_EQ(layer.rope().dim(), 2);
  EXPECT_EQ(layer.rope().attention_factor(), 1.25);
  EXPECT_EQ(layer.rope().scaling().type(), v1::YARN);
  EXPECT_EQ(layer.rope().scaling().factor(), 4);
  EXPECT_EQ(layer.rope().scaling().original_max_positions(), 32768);
  EXPECT_FALSE(layer.rope().scaling().truncate());
}

TEST_F(HandLayer, RunsWithAllOfIt) {
  std::ostringstream out, err;
  const Shell shell{
      .out = &out, .err = &err, .out_columns = {}, .err_columns = {}, .interrupt = {}};
  const int code = RunCommandLine({"run",
                                   "--weights",
                                   File(),
                                   "--q",
                                   "a.q_proj.weight",
                                   "--k",
                                   "a.k_proj.weight",
                                   "--heads",
                                   "2",
                                   "--kv-heads",
                                   "1",
                                   "--q-norm",
                                   "a.q_norm.weight",
                                   "--k-norm",
                                   "a.k_norm.weight",
                                   "--norm",
                                   "rms1",
                                   "--softcap",
                                   "5",
                                   "--clip-qkv",
                                   "3",
                                   "--alibi",
                                   "bloom",
                                   "--rope-theta",
                                   "10000",
                                   "--rope-dim",
                                   "2",
                                   "--rope-scaling",
                                   "longrope:original_max_positions=9,short_factor=1,long_factor=4",
                                   "--rope-attention-factor",
                                   "1.1",
                                   "--calibration",
                                   File() + ":x",
                                   "--method",
                                   "gd:steps=3",
                                   "--method",
                                   "wanda+refit:refit_steps=3"},
                                  shell);
  EXPECT_EQ(code, 0) << err.str();
  EXPECT_THAT(out.str(), HasSubstr("wanda+refit"));
}

TEST_F(HandLayer, RefusesNormsBesideItsTensorsThatNobodySpeaksOf) {
  JobFlags flags = Named();
  flags.q_norm = flags.k_norm = "";
  EXPECT_THAT(Make(flags).status().message(),
              HasSubstr("has the norm a.k_norm.bias beside the tensors of --q and --k"));
  flags.no_qk_norm = true;
  EXPECT_FALSE(Layer(flags).has_qk_norm());
}

// The norm in a module below that of b's projections is another's; q and k stand in none.
TEST_F(HandLayer, IsNotRefusedForNormsElsewhere) {
  JobFlags flags = Named();
  flags.q_norm = flags.k_norm = "";
  flags.q = "b.q_proj.weight";
  flags.k = "b.k_proj.weight";
  EXPECT_FALSE(Layer(flags).has_qk_norm());
  flags.q = "q";
  flags.k = "k";
  EXPECT_FALSE(Layer(flags).has_qk_norm());
}

TEST_F(HandLayer, RefusesFlagsThatContradictEachOther) {
  const struct {
    std::function<void(JobFlags&)> spoil;
    const char* says;
  } rows[] = {
      {[](JobFlags& f) { f.k = f.q; },
       "--q and --k must be two tensors, got a.q_proj.weight twice"},
      {[](JobFlags& f) { f.no_qk_norm = true; }, "--no-qk-norm goes without --q-norm"},
      {[](JobFlags& f) { f.k_norm = ""; }, "--q-norm and --k-norm go together"},
      {[](JobFlags& f) { f.q_norm = f.k_norm; }, "--q-norm and --k-norm must be two tensors"},
      {[](JobFlags& f) { f.q_norm_bias = "a.q_norm.bias"; }, "need --norm layer"},
      {[](JobFlags& f) { f.q_norm = "none"; }, "none"},
      {[](JobFlags& f) { f.norm_eps = 0; }, "--norm-eps must be above 0, got 0"},
      {[](JobFlags& f) { f.softcap = -1; }, "--softcap must be above 0, got -1"},
      {[](JobFlags& f) { f.clip_qkv = 0; }, "--clip-qkv must be above 0, got 0"},
      {[](JobFlags& f) { f.rope_dim = 2; }, "need --rope-theta"},
      {[](JobFlags& f) { f.rope_layout = "interleaved"; }, "need --rope-theta"},
      {[](JobFlags& f) { f.rope_scaling = "linear:factor=2"; }, "need --rope-theta"},
      {[](JobFlags& f) { f.rope_theta = 0; }, "--rope-theta must be above 0, got 0"},
      {[](JobFlags& f) {
         f.rope_theta = 1e4;
         f.rope_attention_factor = -1;
       },
       "--rope-attention-factor must be above 0, got -1"},
      {[](JobFlags& f) {
         f.rope_theta = 1e4;
         f.rope_scaling = "yarn:factor=4,original_max_positions=32";
       },
       "--rope-scaling yarn needs --rope-attention-factor"},
      {[](JobFlags& f) {
         f.rope_theta = 1e4;
         f.rope_scaling = "longrope:original_max_positions=4,short_factor=1/1,long_factor=1/2";
       },
       "--rope-scaling longrope needs --rope-attention-factor"},
      {[](JobFlags& f) {
         f.q = f.k = "";
         f.fused = "q";
         f.q_norm = f.k_norm = "";
         f.heads = f.kv_heads = 0;
         f.softcap = 2;
       },
       "go with --q and --k only"},
  };
  for (const auto& row : rows) {
    JobFlags flags = Named();
    row.spoil(flags);
    EXPECT_THAT(Make(flags).status().message(), HasSubstr(row.says));
  }
}

TEST(RopeScalingFlag, HasANameANumberAndLists) {
  const absl::StatusOr<v1::RopeScaling> llama3 = ParseRopeScaling(
      "llama3:factor=32,low_freq_factor=1,high_freq_factor=4,original_max_positions=8192");
  ASSERT_TRUE(llama3.ok()) << llama3.status();
  EXPECT_EQ(llama3->type(), v1::LLAMA3);
  EXPECT_EQ(llama3->factor(), 32);
  EXPECT_EQ(llama3->original_max_positions(), 8192);
  const absl::StatusOr<v1::RopeScaling> longrope = ParseRopeScaling(
      "longrope:original_max_positions=4096,short_factor=1/1.5,long_factor=2/3.25");
  ASSERT_TRUE(longrope.ok()) << longrope.status();
  EXPECT_THAT(longrope->short_factor(), ElementsAre(1, 1.5));
  EXPECT_THAT(longrope->long_factor(), ElementsAre(2, 3.25));
}

TEST(RopeScalingFlag, RefusesWhatItsTypeDoesNotHave) {
  const struct {
    const char *text, *says;
  } rows[] = {
      {"mrope", "be one of linear, dynamic, llama3, yarn, longrope, got mrope"},
      {"", "be one of linear"},
      {"linear", "say factor=... for linear"},
      {"linear:factor", "be TYPE[:NAME=NUMBER,...]"},
      {"linear:factor=two", "have a number for factor, got two"},
      {"linear:factor=2/3", "have one number for factor, got 2/3"},
      {"linear:factor=2,factor=3", "name a number once, got factor"},
      {"linear:factor=2,beta_fast=3", "have for linear only factor, got beta_fast"},
      {"dynamic:factor=2", "say max_positions=... for dynamic"},
      {"llama3:factor=8", "say original_max_positions=... for llama3"},
      {"yarn:factor=8,original_max_positions=1.5", "have a number for original_max_positions"},
      {"yarn:factor=8,original_max_positions=9,truncate=yes", "have a number for truncate"},
      {"longrope:original_max_positions=9,short_factor=1", "say long_factor=... for longrope"},
      {"longrope:original_max_positions=9,short_factor=1/x,long_factor=1/1",
       "have a number for short_factor"},
  };
  for (const auto& row : rows) {
    EXPECT_THAT(ParseRopeScaling(row.text).status().message(), HasSubstr(row.says)) << row.text;
  }
}

}  // namespace
}  // namespace attnprune::cli
