#include "examples/pruned_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <utility>

#include "core/tensor/safetensors.h"

namespace attnprune {
namespace {

constexpr char kQuery[] = "model.layers.1.self_attn.q_proj.weight";
constexpr char kKey[] = "model.layers.1.self_attn.k_proj.weight";

// Layer 1 of the model that the demo prunes, stored as F16.
HfLayer TinyLlamaLayer() {
  absl::StatusOr<HfLayer> layer = LoadHfLayer(ATTNPRUNE_TINY_LLAMA, 1);
  EXPECT_TRUE(layer.ok()) << layer.status();
  return *std::move(layer);
}

// Prunes every third weight and adds to the others what F16 cannot hold.
PrunedMatrix EveryThird(const char* name, const Matrix& dense) {
  PrunedMatrix pruned{.name = name,
                      .mask = BitMask(dense.rows(), dense.cols(), /*kept=*/true),
                      .weights = dense.Clone()};
  for (Index i = 0; i < dense.size(); ++i) {
    float& weight = pruned.weights.flat()[static_cast<size_t>(i)];
    weight *= 1.0f + 1e-6f;
    if (i % 3 != 0) continue;
    pruned.mask.Prune(i);
    weight = 0;
  }
  return pruned;
}

PruneResult Pruned(const HfLayer& layer) {
  PruneResult result;
  result.matrices.push_back(EveryThird("w_q", layer.weights.w_q));
  result.matrices.push_back(EveryThird("w_k", layer.weights.w_k));
  return result;
}

// A folder of its own for each test.
std::string OutputFolder() {
  const std::string folder = std::string(testing::TempDir()) + "/pruned_files_test-" +
                             testing::UnitTest::GetInstance()->current_test_info()->name();
  EXPECT_TRUE(MakeFolder(folder).ok());
  return folder;
}

SafetensorsFile OpenFile(const std::string& path) {
  absl::StatusOr<SafetensorsFile> file = SafetensorsFile::Open(path);
  EXPECT_TRUE(file.ok()) << file.status();
  return *std::move(file);
}

TEST(RoundToStoredTypes, GivesWhatWillBeReadBack) {
  const HfLayer layer = TinyLlamaLayer();
  PruneResult result = Pruned(layer);
  ASSERT_TRUE(RoundToStoredTypes(layer, &result).ok());
  // 1e-6 is far below half a step of F16, 2^-12 relatively, so that the kept weights come back.
  for (Index i = 0; i < layer.weights.w_q.size(); ++i) {
    const auto at = static_cast<size_t>(i);
    const float expected = i % 3 == 0 ? 0.0f : layer.weights.w_q.flat()[at];
    ASSERT_EQ(result.matrices[0].weights.flat()[at], expected) << "entry " << i;
  }
}

TEST(WritePrunedFiles, ReplacesThePrunedWeightsAndNothingElse) {
  const HfLayer layer = TinyLlamaLayer();
  PruneResult result = Pruned(layer);
  ASSERT_TRUE(RoundToStoredTypes(layer, &result).ok());
  const std::string folder = OutputFolder();
  const absl::Status status = WritePrunedFiles(layer, result, folder);
  ASSERT_TRUE(status.ok()) << status;

  const SafetensorsFile before = OpenFile(std::string(ATTNPRUNE_TINY_LLAMA) + "/model.safetensors");
  const SafetensorsFile after = OpenFile(folder + "/model.safetensors");
  EXPECT_EQ(after.names(), before.names());
  EXPECT_EQ(after.metadata(), before.metadata());
  for (const TensorInfo& tensor : before.tensors()) {
    const TensorInfo& written = **after.Find(tensor.name);
    EXPECT_EQ(written.dtype, tensor.dtype) << tensor.name;
    EXPECT_EQ(written.shape, tensor.shape) << tensor.name;
    const bool pruned = tensor.name == kQuery || tensor.name == kKey;
    EXPECT_EQ(written.bytes == tensor.bytes, !pruned) << tensor.name;
  }
  EXPECT_EQ(after.ReadMatrix(kQuery)->flat(), result.matrices[0].weights.flat());
  EXPECT_EQ(after.ReadMatrix(kKey)->flat(), result.matrices[1].weights.flat());
}

TEST(WritePrunedFiles, WritesAMaskOfOneByteAnEntryUnderTheWeightsName) {
  const HfLayer layer = TinyLlamaLayer();
  const std::string folder = OutputFolder();
  ASSERT_TRUE(WritePrunedFiles(layer, Pruned(layer), folder).ok());
  const SafetensorsFile masks = OpenFile(folder + "/masks.safetensors");
  EXPECT_THAT(masks.names(), testing::ElementsAre(kKey, kQuery));
  const TensorInfo& mask = **masks.Find(kKey);
  EXPECT_EQ(mask.dtype, DType::kBool);
  EXPECT_THAT(mask.shape, testing::ElementsAre(64, 128));
  for (size_t i = 0; i < mask.bytes.size(); ++i) ASSERT_EQ(mask.bytes[i], i % 3 == 0 ? 0 : 1) << i;
}

TEST(WritePrunedFiles, RefusesAMatrixThatTheLayerDoesNotHave) {
  const HfLayer layer = TinyLlamaLayer();
  PruneResult result = Pruned(layer);
  result.matrices[1].name = "w";
  EXPECT_EQ(WritePrunedFiles(layer, result, OutputFolder()).code(), absl::StatusCode::kInternal);
}

TEST(MakeFolder, NamesTheFolderThatCannotBeMade) {
  EXPECT_EQ(MakeFolder("/dev/null/x").message(),
            "cannot make the folder /dev/null/x: Not a directory");
}

}  // namespace
}  // namespace attnprune
