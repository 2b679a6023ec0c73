// Files that another program wrote.
#include <filesystem>

#include "core/io/checkpoint.h"
#include "tests/core/tensor/tensor_test_util.h"
#include "tests/support/paths.h"

namespace attnprune {
namespace {

using ::testing::ElementsAre;
using ::testing::SizeIs;

const std::string kGolden = TestData("/golden/");
const std::string kTinyLlama = TinyLlama();

TEST(GoldenFiles, AllOpenAndReadAsDoubles) {
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(kGolden)) {
    if (entry.path().extension() != ".safetensors") continue;
    ++files;
    const auto file = SafetensorsFile::Open(entry.path().string());
    ASSERT_THAT(file, Succeeds());
    for (const TensorInfo& tensor : file->tensors()) {
      const auto values = ToDoubles(tensor);
      ASSERT_THAT(values, Succeeds());
      EXPECT_EQ(values->size() * SizeOf(tensor.dtype), tensor.bytes.size());
    }
  }
  EXPECT_GE(files, 11);
}

TEST(GoldenFiles, HaveTheShapesAndMetadataTheyWereMadeWith) {
  const auto file = SafetensorsFile::Open(kGolden + "baselines.safetensors");
  ASSERT_THAT(file, Succeeds());
  EXPECT_THAT((*file->Find("w"))->shape, ElementsAre(12, 16));
  EXPECT_THAT((*file->Find("x"))->shape, ElementsAre(64, 16));
  EXPECT_EQ(file->metadata().at("percdamp"), "0.01");
}

TEST(GoldenFiles, AnAttentionMatrixHasRowsThatSumToOne) {
  const auto file = SafetensorsFile::Open(kGolden + "fused_full.safetensors");
  ASSERT_THAT(file, Succeeds());
  const auto attention = file->ReadMatrix("attention.0");
  ASSERT_THAT(attention, Succeeds());
  for (Index i = 0; i < attention->rows(); ++i) {
    double sum = 0;
    for (Index j = 0; j < attention->cols(); ++j) sum += static_cast<double>((*attention)(i, j));
    EXPECT_NEAR(sum, 1.0, 7 * 0x1p-25);  // 7 entries below 1, each rounded to 24 bits
  }
}

TEST(TinyLlama, OpensAsACheckpoint) {
  const auto checkpoint = Checkpoint::Open(kTinyLlama);
  ASSERT_THAT(checkpoint, Succeeds());
  EXPECT_THAT(checkpoint->names(), SizeIs(38));
  const auto q = checkpoint->ReadMatrix("model.layers.3.self_attn.q_proj.weight");
  const auto k = checkpoint->ReadMatrix("model.layers.3.self_attn.k_proj.weight");
  ASSERT_THAT(q, Succeeds());
  ASSERT_THAT(k, Succeeds());
  EXPECT_THAT((std::vector<Index>{q->rows(), q->cols(), k->rows(), k->cols()}),
              ElementsAre(128, 128, 64, 128));
  EXPECT_THAT(*checkpoint->ReadVector("model.layers.0.input_layernorm.weight"), SizeIs(128));
}

TEST(TinyLlama, HasCalibrationStacks) {
  const auto file = SafetensorsFile::Open(kTinyLlama + "/calibration.safetensors");
  ASSERT_THAT(file, Succeeds());
  const auto stack = ToStack(**file->Find("model.layers.0.self_attn.input"));
  ASSERT_THAT(stack, Succeeds());
  EXPECT_EQ(stack->count, 16);
  EXPECT_EQ(stack->length, 128);
  EXPECT_EQ(stack->rows.cols(), 128);
}

// Half to float to half: the same file comes out.
TEST(TinyLlama, SurvivesConversionToFloat32AndBack) {
  const auto file = SafetensorsFile::Open(kTinyLlama + "/model.safetensors");
  ASSERT_THAT(file, Succeeds());
  for (const TensorInfo& tensor : file->tensors()) {
    std::vector<float> values(tensor.bytes.size() / SizeOf(tensor.dtype));
    std::vector<char> back(tensor.bytes.size());
    ASSERT_THAT(ToFloat32(tensor.dtype, tensor.bytes, absl::MakeSpan(values)), Succeeds());
    ASSERT_THAT(FromFloat32(values, tensor.dtype, absl::MakeSpan(back)), Succeeds());
    EXPECT_EQ(absl::Span<const char>(back), tensor.bytes) << tensor.name;
  }
}

}  // namespace
}  // namespace attnprune
