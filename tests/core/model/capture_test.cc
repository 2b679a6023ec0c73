#include "core/model/capture.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <string>
#include <vector>

#include "core/io/checkpoint.h"
#include "tests/core/model/golden_models.h"
#include "tests/core/problem/temp_folder.h"
#include "tests/support/value_or_die.h"

namespace attnprune {
namespace {

using ::testing::ElementsAre;
using testing::ExpectedIds;
using testing::GoldenModel;
using ::testing::HasSubstr;
using testing::OpenExpected;
using testing::ValueOrDie;

// Two rows of 12 tokens; of the second the last 5 are padding where `padded`.
TokenRows Rows(bool padded) {
  TokenRows rows = RowsOfTokens(ExpectedIds(OpenExpected("llama")).ids, 12);
  if (!padded) return rows;
  rows.padded = true;
  rows.tokens.ids.resize(19);
  rows.tokens.lengths = {12, 7};
  return rows;
}

class CaptureTest : public ::testing::Test {
 protected:
  CaptureTest() : pool_(2), forward_(ValueOrDie(Forward::Open(GoldenModel("llama"), pool_))) {
    options_.layers = {0, 1};
    options_.output = folder_ / "out";
    options_.source = "this one";
  }

  absl::StatusOr<CaptureResult> Run(const TokenRows& rows) {
    return Capture(*forward_, rows, options_);
  }

  // The input of a layer as the layer itself sees it.
  Matrix Seen(Index wanted, const Tokens& tokens) {
    Matrix x(tokens.total(), forward_->options().hidden_size), seen = x.Clone();
    EXPECT_TRUE(forward_->Embed(tokens, x).ok());
    for (Index layer = 0; layer <= wanted; ++layer) {
      LayerHooks hooks;
      hooks.attention_input = [&](Index first, MatrixView rows) {
        for (Index i = 0; i < rows.rows(); ++i) {
          std::copy_n(rows.row(i), rows.cols(), seen.row(first + i));
        }
      };
      EXPECT_TRUE(forward_->RunLayer(layer, tokens.lengths, x, hooks).ok());
    }
    return seen;
  }

  TempFolder folder_;
  ThreadPool pool_;
  const std::unique_ptr<Forward> forward_;
  CaptureOptions options_;
};

TEST_F(CaptureTest, WritesWhatTheLayersRead) {
  const TokenRows rows = Rows(false);
  const CaptureResult result = ValueOrDie(Run(rows));
  EXPECT_THAT(result.files, ElementsAre(options_.output + "/calibration.safetensors"));
  const Checkpoint file = ValueOrDie(Checkpoint::Open(result.files[0]));
  EXPECT_THAT(file.names(), ElementsAre(AttentionInputName(0), AttentionInputName(1)));
  for (const Index layer : {0, 1}) {
    const MatrixStack stack =
        ValueOrDie(ToStack(*ValueOrDie(file.Find(AttentionInputName(layer)))));
    EXPECT_EQ(stack.count, 2);
    EXPECT_EQ(stack.length, 12);
    const Matrix seen = Seen(layer, rows.tokens);
    EXPECT_TRUE(std::equal(seen.flat().begin(), seen.flat().end(), stack.rows.flat().begin()));
  }
  EXPECT_FALSE(std::filesystem::exists(options_.output + "/.capture"));
}

TEST_F(CaptureTest, LeavesPaddingOutAndSaysSo) {
  const TokenRows rows = Rows(true);
  const CaptureResult result = ValueOrDie(Run(rows));
  const Checkpoint file = ValueOrDie(Checkpoint::Open(result.files[0]));
  const std::vector<MaskedRow> mask =
      ValueOrDie(ReadAttentionMask(*ValueOrDie(file.Find("attention_mask")), {2, 12}));
  EXPECT_EQ(mask[0].count, 12);
  EXPECT_EQ(mask[1].count, 7);
  const MatrixStack stack = ValueOrDie(ToStack(*ValueOrDie(file.Find(AttentionInputName(1)))));
  const Matrix seen = Seen(1, rows.tokens);
  EXPECT_TRUE(std::equal(seen.flat().begin(), seen.flat().end(), stack.rows.flat().begin()));
  for (Index row = 19; row < 24; ++row) EXPECT_EQ(stack.rows(row, 0), 0);
}

TEST_F(CaptureTest, CutsLargeFilesAndIndexesThem) {
  options_.shard_bytes = 1;
  const CaptureResult result = ValueOrDie(Run(Rows(false)));
  ASSERT_EQ(result.files.size(), 3u);
  EXPECT_THAT(result.files[0], HasSubstr("calibration.safetensors.index.json"));
  EXPECT_THAT(result.files[2], HasSubstr("calibration-00002-of-00002.safetensors"));
  const Checkpoint all = ValueOrDie(Checkpoint::Open(result.files[0]));
  EXPECT_THAT(all.names(), ElementsAre(AttentionInputName(0), AttentionInputName(1)));
}

TEST_F(CaptureTest, WritesHalfOfTheBytesAsBf16) {
  options_.dtype = DType::kBF16;
  const CaptureResult result = ValueOrDie(Run(Rows(false)));
  const Checkpoint file = ValueOrDie(Checkpoint::Open(result.files[0]));
  EXPECT_EQ(ValueOrDie(file.Find(AttentionInputName(0)))->dtype, DType::kBF16);
}

TEST_F(CaptureTest, GoesOnWhereItWasStopped) {
  options_.save_every = absl::ZeroDuration();
  int asked = 0;
  options_.layers = {1};
  // Layer 0 is run in one piece, asked once behind it: stopped there, nothing is saved yet.
  options_.pass.stopped = [&asked] { return ++asked == 1; };
  EXPECT_TRUE(absl::IsCancelled(Run(Rows(false)).status()));
  EXPECT_FALSE(std::filesystem::exists(options_.output + "/calibration.safetensors"));
  const CaptureResult begun_again = ValueOrDie(Run(Rows(false)));
  EXPECT_EQ(begun_again.resumed_at, 0);
}

TEST_F(CaptureTest, GoesOnFromTheLayerThatWasSaved) {
  // A pass that ends by an error after layer 0 was saved: its last file cannot get its name.
  options_.save_every = absl::ZeroDuration();
  std::filesystem::create_directories(options_.output + "/calibration.safetensors");
  EXPECT_FALSE(Run(Rows(false)).ok());
  std::filesystem::remove(options_.output + "/calibration.safetensors");
  const CaptureResult result = ValueOrDie(Run(Rows(false)));
  EXPECT_EQ(result.resumed_at, 1);
  const Checkpoint file = ValueOrDie(Checkpoint::Open(result.files[0]));
  for (const Index layer : {0, 1}) {
    const Matrix seen = Seen(layer, Rows(false).tokens);
    const MatrixStack stack =
        ValueOrDie(ToStack(*ValueOrDie(file.Find(AttentionInputName(layer)))));
    EXPECT_TRUE(std::equal(seen.flat().begin(), seen.flat().end(), stack.rows.flat().begin()));
  }
}

TEST_F(CaptureTest, GoesOnWhereNamingTheFilesWasCutOff) {
  options_.shard_bytes = 1;
  const std::string second = options_.output + "/calibration-00002-of-00002.safetensors";
  // The first file gets its name, the second cannot.
  const auto cut_off = [&](absl::Duration save_every) {
    options_.save_every = save_every;
    options_.pass.stopped = [&second] {
      std::filesystem::create_directories(second);
      return false;
    };
    EXPECT_FALSE(Run(Rows(false)).ok());
    options_.pass.stopped = nullptr;
    EXPECT_TRUE(
        std::filesystem::exists(options_.output + "/calibration-00001-of-00002.safetensors"));
    std::filesystem::remove(second);
  };
  cut_off(absl::ZeroDuration());
  EXPECT_EQ(ValueOrDie(Run(Rows(false))).resumed_at, 1);
  std::filesystem::remove_all(options_.output);
  cut_off(absl::InfiniteDuration());  // nothing saved but that it was here
  const CaptureResult result = ValueOrDie(Run(Rows(false)));
  EXPECT_EQ(result.resumed_at, 0);
  EXPECT_THAT(ValueOrDie(Checkpoint::Open(result.files[0])).names(),
              ElementsAre(AttentionInputName(0), AttentionInputName(1)));
}

TEST_F(CaptureTest, BeginsAnewForAnotherSource) {
  options_.save_every = absl::ZeroDuration();
  std::filesystem::create_directories(options_.output + "/calibration.safetensors");
  EXPECT_FALSE(Run(Rows(false)).ok());
  std::filesystem::remove(options_.output + "/calibration.safetensors");
  options_.source = "another one";
  EXPECT_EQ(ValueOrDie(Run(Rows(false))).resumed_at, 0);
}

TEST_F(CaptureTest, RefusesToWriteOverFilesThatAreThere) {
  ASSERT_TRUE(Run(Rows(false)).ok());
  EXPECT_EQ(Run(Rows(false)).status().code(), absl::StatusCode::kAlreadyExists);
}

TEST_F(CaptureTest, RefusesAFolderThatAnotherWritesTo) {
  absl::Status other;
  options_.pass.stopped = [&] {
    CaptureOptions same = options_;
    same.pass = {};
    other = Capture(*forward_, Rows(false), same).status();
    return false;
  };
  EXPECT_TRUE(Run(Rows(false)).ok());
  EXPECT_EQ(other.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(other.message(), HasSubstr("another capture is writing"));
}

TEST_F(CaptureTest, RefusesALayerThatTheModelDoesNotHave) {
  options_.layers = {2};
  EXPECT_THAT(Run(Rows(false)).status().message(), HasSubstr("layer must be in [0, 2)"));
}

}  // namespace
}  // namespace attnprune
