// Runs that break a rule, as a table.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "core/base/field_error.h"
#include "tests/server/api/run_fixture.h"

namespace attnprune::api {
namespace {

using ::testing::HasSubstr;

struct BadRun {
  const char* field;
  const char* message;
  std::function<void(v1::Run&, BlobStore*)> spoil;
};

TEST_F(Runs, ThatBreakARuleAreRefusedByField) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<BadRun> bad = {
      {"run.method.name",
       "must be a method for linear maps (alps, magnitude, sparsegpt, wanda), got gd",
       [](v1::Run& run, BlobStore*) {
         run.mutable_method()->set_name("gd");
         run.mutable_method()->clear_parameters();
       }},
      {"run.method.name", "must be one of", [](v1::Run& run, BlobStore*) { run.clear_method(); }},
      {"run.method.parameters", "no parameter",
       [](v1::Run& run, BlobStore*) {
         (*run.mutable_method()->mutable_parameters())["dampin"] = 1;
       }},
      {"run.sparsity.kind", "got neither", [](v1::Run& run, BlobStore*) { run.clear_sparsity(); }},
      {"run.sparsity.fraction", "must be in [0, 1), got nan",
       [nan](v1::Run& run, BlobStore*) { run.mutable_sparsity()->set_fraction(nan); }},
      {"run.sparsity.n_of_m.m", "must divide the 32 inputs of model.layers.0",
       [](v1::Run& run, BlobStore*) {
         run.mutable_sparsity()->mutable_n_of_m()->set_n(1);
         run.mutable_sparsity()->mutable_n_of_m()->set_m(5);
       }},
      {"run.model.config", "must have 1 to",
       [](v1::Run& run, BlobStore*) { run.mutable_model()->clear_config(); }},
      {"run.model.config", "config.json",
       [](v1::Run& run, BlobStore*) {
         run.mutable_model()->set_config("{\"model_type\": \"mamba\"}");
       }},
      {"run.model.tensors", "model.norm.weight",
       [](v1::Run& run, BlobStore*) {
         auto& tensors = *run.mutable_model()->mutable_tensors();
         for (int i = 0; i < tensors.size(); ++i) {
           if (tensors[i].name() == "model.norm.weight") tensors.DeleteSubrange(i--, 1);
         }
       }},
      {"run.model.tensors[1].name", "different from all others",
       [](v1::Run& run, BlobStore*) {
         run.mutable_model()->mutable_tensors(1)->set_name(run.model().tensors(0).name());
       }},
      {"run.model.tensors[0].dtype", "must be F64, F32, F16 or BF16",
       [](v1::Run& run, BlobStore*) {
         run.mutable_model()->mutable_tensors(0)->set_dtype(v1::I32);
       }},
      {"run.calibration.ids.sha256", "", [](v1::Run& run, BlobStore*) { run.clear_calibration(); }},
      {"run.calibration.ids.dtype", "must be I32, got F32",
       [](v1::Run& run, BlobStore*) {
         run.mutable_calibration()->mutable_ids()->set_dtype(v1::F32);
       }},
      {"run.calibration.lengths", "must come to the",
       [](v1::Run& run, BlobStore*) {
         run.mutable_calibration()->mutable_lengths()->RemoveLast();
       }},
      {"run.calibration.lengths[0]", "at least 2",
       [](v1::Run& run, BlobStore*) { run.mutable_calibration()->set_lengths(0, 1); }},
      {"run.calibration.lengths[0]", "at least 2",
       [](v1::Run& run, BlobStore*) {
         run.mutable_calibration()->set_lengths(0, std::numeric_limits<int64_t>::max());
       }},
      {"run.calibration.ids", "model's vocabulary",
       [](v1::Run& run, BlobStore* tensors) {
         *run.mutable_calibration() = StoredTokens({8}, /*first=*/100'000, /*step=*/1, tensors);
       }},
      {"run.calibration.ids", "must have tokens that differ, got 12 times 7",
       [](v1::Run& run, BlobStore* tensors) {
         *run.mutable_calibration() = StoredTokens({8, 4}, /*first=*/7, /*step=*/0, tensors);
       }},
      {"run.held_out_fraction", "must be 0 where run.held_out is given",
       [](v1::Run& run, BlobStore*) { run.set_held_out_fraction(0.5); }},
      {"run.held_out_fraction", "must be in [0, 1)",
       [nan](v1::Run& run, BlobStore*) {
         run.clear_held_out();
         run.set_held_out_fraction(nan);
       }},
      {"run.rules[0].pattern", "must match a map",
       [](v1::Run& run, BlobStore*) { run.add_rules()->set_pattern("model.layers.9.*"); }},
      {"run.rules[0].pattern", "1 to 256 bytes", [](v1::Run& run, BlobStore*) { run.add_rules(); }},
      {"run.rules[0].skip", "must be false",
       [](v1::Run& run, BlobStore*) {
         v1::Rule& rule = *run.add_rules();
         rule.set_pattern("q");
         rule.set_skip(true);
         rule.mutable_method()->set_name("wanda");
       }},
      {"run.rules[0].method.name", "for linear maps",
       [](v1::Run& run, BlobStore*) {
         v1::Rule& rule = *run.add_rules();
         rule.set_pattern("q");
         rule.mutable_method()->set_name("joint");
       }},
      {"run.rules", "got none left",
       [](v1::Run& run, BlobStore*) {
         v1::Rule& rule = *run.add_rules();
         rule.set_pattern("*");
         rule.set_skip(true);
       }},
      {"run.order", "must be SEQUENTIAL or INDEPENDENT, got 9",
       [](v1::Run& run, BlobStore*) { run.set_order(static_cast<v1::Order>(9)); }},
      {"run.dense_target", "must be in [0, 1]",
       [nan](v1::Run& run, BlobStore*) { run.set_dense_target(nan); }},
      {"run.dense_target", "must be 0 in INDEPENDENT order",
       [](v1::Run& run, BlobStore*) {
         run.set_dense_target(0.5);
         run.set_order(v1::INDEPENDENT);
       }},
      {"run.labels", "characters",
       [](v1::Run& run, BlobStore*) { (*run.mutable_labels())[""] = "x"; }},
      {"run.priority", "must be in", [](v1::Run& run, BlobStore*) { run.set_priority(5000); }},
      {"run.timeout", "must be 0 or",
       [](v1::Run& run, BlobStore*) { run.mutable_timeout()->set_seconds(-1); }},
  };
  for (const BadRun& one : bad) {
    v1::Run run = Golden();
    one.spoil(run, &backend_.tensors());
    const absl::Status status = ErrorOf(run);
    EXPECT_EQ(FieldAtFault(status), one.field) << status;
    EXPECT_THAT(std::string(status.message()), HasSubstr(one.message));
  }
  v1::Run run = Golden();
  ASSERT_TRUE(backend_.tensors().Remove(run.model().tensors(0).sha256()).ok());
  EXPECT_EQ(ErrorOf(run).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(ValueOrDie(backend_.runs().ListRuns(access::Everyone(), {})).runs_size(), 0);
}

}  // namespace
}  // namespace attnprune::api
