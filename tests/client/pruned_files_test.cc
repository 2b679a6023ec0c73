#include "client/cli/pruned_files.h"

#include <string>
#include <vector>

#include "client/cli/job_flags.h"
#include "client/cli/job_tensors.h"
#include "client/cli/save_results.h"
#include "core/tensor/safetensors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/rpc/temporary_folder.h"

namespace attnprune::cli {
namespace {

using ::testing::HasSubstr;

TensorInfo Info(const std::string& name, const std::vector<Index>& shape,
                const std::string& bytes) {
  return {.name = name, .dtype = DType::kF16, .shape = shape, .bytes = bytes, .file = {}};
}

TEST(UnpackMask, ReadsTheLowestBitFirst) {
  EXPECT_EQ(*UnpackMask(std::string("\x05\x02", 2), 10), std::string("\1\0\1\0\0\0\0\0\0\1", 10));
  EXPECT_EQ(UnpackMask("\x05", 10).status().code(), absl::StatusCode::kDataLoss);
}

TEST(WritePruned, ReplacesTheWeightsAndCopiesEverythingElse) {
  const TemporaryFolder folder;
  const std::string q(8, 'q'), other(4, 'o'), zeros(8, '\0');
  const std::string in = folder.path() + "/in.safetensors";
  const std::string out = folder.path() + "/new/out.safetensors";
  ASSERT_TRUE(
      WriteSafetensors(in, {Info("q", {2, 2}, q), Info("other", {2}, other)}, {{"format", "pt"}})
          .ok());
  const PrunedTensor pruned{
      .name = "q", .dtype = DType::kF16, .shape = {2, 2}, .weights = zeros, .kept = "\1\1\1\1"};
  const auto files = WritePruned({pruned}, in, out);
  ASSERT_TRUE(files.ok()) << files.status();
  const auto file = SafetensorsFile::Open(out);
  ASSERT_TRUE(file.ok());
  EXPECT_EQ((*file->Find("q"))->bytes, absl::Span<const char>(zeros));
  EXPECT_EQ((*file->Find("q"))->dtype, DType::kF16);
  EXPECT_EQ((*file->Find("other"))->bytes, absl::Span<const char>(other));
  EXPECT_EQ(file->metadata().at("format"), "pt");
}

TEST(WritePruned, RefusesAFileThatHasChanged) {
  const TemporaryFolder folder;
  const std::string in = folder.path() + "/in.safetensors";
  const std::string q(8, 'q');
  ASSERT_TRUE(WriteSafetensors(in, {Info("q", {4, 1}, q)}).ok());
  const PrunedTensor pruned{
      .name = "q", .dtype = DType::kF16, .shape = {2, 2}, .weights = q, .kept = {}};
  const absl::Status status =
      WritePruned({pruned}, in, folder.path() + "/out.safetensors").status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("no longer the one that was pruned"));
}

TEST(WithMethod, KeepsALabelFromLeavingItsPlaceInThePath) {
  EXPECT_EQ(WithMethod("out/{method}/w", "../../etc"), "out/_.._.._etc/w");
  EXPECT_EQ(WithMethod("{method}", ".."), "_..");
  EXPECT_EQ(WithMethod("{method}", "/tmp/x"), "_tmp_x");
  EXPECT_EQ(WithMethod("out/{method}", ""), "out/_");
  EXPECT_EQ(WithMethod("{method}.npz", std::string("a\0b\n", 4)), "a_b_.npz");
}

TEST(WithMethod, FillsThePlaceholder) {
  EXPECT_EQ(WithMethod("out/{method}.safetensors", "gd#2"), "out/gd#2.safetensors");
  EXPECT_EQ(WithMethod("{method}", "wanda+refit"), "wanda+refit");
}

TEST(SplitFileAndName, SplitsAfterTheFilesEnding) {
  using Pair = std::pair<std::string, std::string>;
  EXPECT_EQ(SplitFileAndName("c:/x.safetensors:a:b"), Pair("c:/x.safetensors", "a:b"));
  EXPECT_EQ(SplitFileAndName("x.safetensors"), Pair("x.safetensors", ""));
  EXPECT_EQ(SplitFileAndName("x.npy"), Pair("x.npy", ""));
}

TEST(ParseMethodFlag, ReadsNameAndParameters) {
  const auto method = ParseMethodFlag("gd:lambda=0.05,steps=100");
  ASSERT_TRUE(method.ok());
  EXPECT_EQ(method->name(), "gd");
  EXPECT_EQ(method->parameters().at("lambda"), 0.05);
  EXPECT_EQ(method->parameters().at("steps"), 100);
  for (const char* bad : {"", ":a=1", "gd:", "gd:a", "gd:a=", "gd:a=x", "gd:=1", "gd:a=1,a=2"}) {
    EXPECT_FALSE(ParseMethodFlag(bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace attnprune::cli
