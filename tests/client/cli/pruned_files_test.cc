#include "client/cli/files/pruned_files.h"

#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "client/cli/files/job_tensors.h"
#include "client/cli/files/save_results.h"
#include "client/cli/flags/job_flags.h"
#include "core/io/safetensors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/api/temporary_folder.h"

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
  const auto files = WritePruned({pruned}, "gd", in, out, [] { return false; });
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
      WritePruned({pruned}, "gd", in, folder.path() + "/out.safetensors", [] {
        return false;
      }).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr("no longer the one that was pruned"));
}

// Two shards and a config: asked before each file and before they are put in place.
TEST(WritePruned, StoppedAtAnyMomentLeavesTheOldCheckpointWhole) {
  const TemporaryFolder folder;
  const std::string in = folder.path() + "/in", out = folder.path() + "/out", q(8, 'q');
  std::filesystem::create_directory(in);
  ASSERT_TRUE(WriteSafetensors(in + "/a.safetensors", {Info("q", {2, 2}, q)}).ok());
  ASSERT_TRUE(WriteSafetensors(in + "/b.safetensors", {Info("k", {2, 2}, q)}).ok());
  std::ofstream(in + "/model.safetensors.index.json")
      << R"({"weight_map": {"q": "a.safetensors", "k": "b.safetensors"}})";
  const PrunedTensor pruned{.name = "q",
                            .dtype = DType::kF16,
                            .shape = {2, 2},
                            .weights = std::string(8, '\0'),
                            .kept = {}};
  std::filesystem::create_directory(out);
  std::ofstream(out + "/a.safetensors") << "old";
  const auto contents = [&out] {
    std::map<std::string, std::string> files;
    for (const auto& entry : std::filesystem::directory_iterator(out)) {
      std::ifstream file(entry.path());
      files[entry.path().filename()] = std::string(std::istreambuf_iterator<char>(file), {});
    }
    return files;
  };
  int looks = 0;
  for (int stop_at = 1;; ++stop_at) {
    looks = 0;
    const auto files = WritePruned({pruned}, "gd", in, out, [&] { return ++looks == stop_at; });
    if (files.ok()) break;
    EXPECT_EQ(files.status().code(), absl::StatusCode::kCancelled) << files.status();
    EXPECT_EQ(contents(), (std::map<std::string, std::string>{{"a.safetensors", "old"}}));
  }
  EXPECT_EQ(looks, 5) << "at the beginning, before each of three files, and before their places";
  EXPECT_EQ(contents().size(), 3u);
  const auto file = SafetensorsFile::Open(out + "/a.safetensors");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file->Find("q"))->bytes, absl::Span<const char>(pruned.weights));
}

void Put(const std::string& path, const std::string& text) {
  std::filesystem::create_directories(std::filesystem::path(path).parent_path());
  std::ofstream(path) << text;
}

PrunedTensor Zeros(const std::string& name) {
  return {.name = name,
          .dtype = DType::kF16,
          .shape = {2, 2},
          .weights = std::string(8, '\0'),
          .kept = {}};
}

TEST(WritePruned, TakesAlongAllThatIsNotWeightsAndNamesTheRest) {
  const TemporaryFolder folder;
  const std::string in = folder.path() + "/in", out = in + "/pruned", q(8, 'q');
  for (const char* file :
       {"config.json", "LICENSE", "x.tiktoken", "code.py", "sub/a/b.jinja", ".git/HEAD", ".cache/x",
        "pytorch_model.bin", "pytorch_model.bin.index.json", "onnx/model.onnx", "old/config.json",
        "old/model.safetensors", "pruned/README.md"}) {
    Put(in + "/" + file, file);
  }
  ASSERT_TRUE(WriteSafetensors(in + "/blob", {Info("q", {2, 2}, q)}).ok());
  std::filesystem::create_symlink(in + "/blob", in + "/model.safetensors");
  std::filesystem::create_symlink(in + "/LICENSE", in + "/NOTICE");
  const auto written = WritePruned({Zeros("q")}, "gd", in, out, [] { return false; });
  ASSERT_TRUE(written.ok()) << written.status();
  for (const char* file :
       {"config.json", "LICENSE", "x.tiktoken", "code.py", "sub/a/b.jinja", "NOTICE"}) {
    std::ifstream copy(out + "/" + file);
    const std::string text(std::istreambuf_iterator<char>(copy), {});
    EXPECT_EQ(text, file == std::string("NOTICE") ? "LICENSE" : file);
    EXPECT_FALSE(std::filesystem::is_symlink(out + "/" + file));
  }
  for (const char* file : {".git", ".cache", "pytorch_model.bin", "onnx/model.onnx", "old",
                           "pruned", "pytorch_model.bin.index.json"}) {
    EXPECT_FALSE(std::filesystem::exists(out + "/" + file)) << file;
  }
  ASSERT_EQ(written->notes.size(), 1u);
  EXPECT_THAT(written->notes[0],
              HasSubstr("old/, onnx/model.onnx, pytorch_model.bin, pytorch_model.bin.index.json"));
  EXPECT_TRUE(SafetensorsFile::Open(out + "/model.safetensors").ok());
}

TEST(WritePruned, MakesOneFileOfTensorsInTwoShardsWhereAFileIsNamed) {
  const TemporaryFolder folder;
  const std::string in = folder.path() + "/in", out = folder.path() + "/x.safetensors";
  std::filesystem::create_directory(in);
  const std::string q(8, 'q');
  ASSERT_TRUE(WriteSafetensors(in + "/a.safetensors", {Info("q", {2, 2}, q)}).ok());
  ASSERT_TRUE(WriteSafetensors(in + "/b.safetensors", {Info("k", {2, 2}, q)}).ok());
  Put(in + "/model.safetensors.index.json",
      R"({"weight_map": {"q": "a.safetensors", "k": "b.safetensors"}})");
  const auto written = WritePruned({Zeros("q"), Zeros("k")}, "gd", in, out, [] { return false; });
  ASSERT_TRUE(written.ok()) << written.status();
  ASSERT_EQ(written->notes.size(), 1u);
  EXPECT_THAT(written->notes[0], HasSubstr("the pruned tensors only, as they come from 2 files"));
  const auto file = SafetensorsFile::Open(out);
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ(file->names(), (std::vector<std::string>{"k", "q"}));
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
