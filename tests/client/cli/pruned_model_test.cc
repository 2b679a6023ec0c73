#include "client/cli/files/pruned_model.h"

#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "client/cli/files/bitmask_format.h"
#include "client/cli/files/save_run.h"
#include "core/io/safetensors.h"
#include "core/io/sha256.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/api/temporary_folder.h"

namespace attnprune::cli {
namespace {

using ::testing::HasSubstr;

constexpr char kIndex[] = R"({"weight_map": {"k": "b.safetensors", "q": "a.safetensors"}})";

const auto kGoOn = [] { return false; };

std::string ReadAll(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

std::map<std::string, std::string> FilesIn(const std::string& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    files[entry.path().filename()] = ReadAll(entry.path());
  }
  return files;
}

// A model of two shards, of which a run has pruned q, (3, 3) in float16: entries 0, 4 and 8 stay.
class PrunedModel : public ::testing::Test {
 protected:
  PrunedModel() {
    std::filesystem::create_directory(in_);
    Write("a.safetensors", {Info("q", {3, 3}, dense_), Info("bias", {2}, other_)});
    Write("b.safetensors", {Info("k", {2}, other_)});
    std::ofstream(in_ + "/model.safetensors.index.json") << kIndex;
    std::ofstream(in_ + "/config.json") << "{}";
    for (const size_t kept : {0, 4, 8}) pruned_.replace(2 * kept, 2, dense_.substr(2 * kept, 2));
    run_.set_name("runs/r-1");
    run_.mutable_method()->set_name("wanda");
    v1::PrunedTensor& tensor = *run_.add_results()->add_tensors();
    tensor.set_name("q");
    tensor.set_size(9);
    tensor.set_pruned(6);
    tensor.mutable_weights()->add_shape(3);
    tensor.mutable_weights()->add_shape(3);
    tensor.mutable_weights()->set_sha256(Store(pruned_));
    tensor.mutable_mask()->set_sha256(Store(std::string("\x11\x01", 2)));
  }

  static TensorInfo Info(const std::string& name, const std::vector<Index>& shape,
                         const std::string& bytes) {
    return {.name = name, .dtype = DType::kF16, .shape = shape, .bytes = bytes, .file = {}};
  }
  void Write(const std::string& shard, const std::vector<TensorInfo>& tensors) const {
    ASSERT_TRUE(WriteSafetensors(in_ + "/" + shard, tensors, {{"format", "pt"}}).ok());
  }
  std::string Store(const std::string& bytes) {
    const std::string digest = Sha256Of(bytes);
    store_[digest] = bytes;
    return digest;
  }
  absl::Status WriteModel(const std::string& output, ModelFormat format) {
    const auto fetch = [this](const std::string& sha256) -> absl::StatusOr<std::string> {
      if (!store_.contains(sha256)) return absl::NotFoundError("no such tensor");
      return store_.at(sha256);
    };
    return WriteRunModel(run_, in_, output, format, {{"report.md", "told"}}, fetch, kGoOn).status();
  }

  const TemporaryFolder folder_;
  const std::string in_ = folder_.path() + "/in", out_ = folder_.path() + "/out";
  const std::string dense_ = "aabbccddeeffgghhii", other_ = "xxyy";
  std::string pruned_ = std::string(18, '\0');
  v1::Run run_;
  std::map<std::string, std::string> store_;
};

TEST_F(PrunedModel, DenseHasThePrunedTensorsInTheirPlacesAndTheReport) {
  ASSERT_TRUE(WriteModel(out_, ModelFormat::kDense).ok());
  const auto file = SafetensorsFile::Open(out_ + "/a.safetensors");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file->Find("q"))->bytes, absl::Span<const char>(pruned_));
  EXPECT_EQ((*file->Find("q"))->shape, (std::vector<Index>{3, 3}));
  EXPECT_EQ((*file->Find("bias"))->bytes, absl::Span<const char>(other_));
  EXPECT_EQ(file->metadata().at("format"), "pt");
  const auto files = FilesIn(out_);
  EXPECT_EQ(files.at("b.safetensors"), ReadAll(in_ + "/b.safetensors"));
  EXPECT_EQ(files.at("model.safetensors.index.json"), kIndex);
  EXPECT_EQ(files.at("report.md"), "told");
  EXPECT_EQ(files.size(), 5u);
}

// The last training counts.
TEST_F(PrunedModel, HasTheWeightsThatItsTrainingsLeave) {
  const auto add = [this](v1::Trained& trained, const std::string& bytes) {
    v1::TensorRef& weights = *trained.add_weights();
    weights.set_name("q");
    weights.set_sha256(Store(bytes));
  };
  const auto written = [this](const std::string& out) {
    EXPECT_TRUE(WriteModel(folder_.path() + out, ModelFormat::kDense).ok());
    const auto file = SafetensorsFile::Open(folder_.path() + out + "/a.safetensors");
    const absl::Span<const char> bytes = (*file->Find("q"))->bytes;
    return std::string(bytes.begin(), bytes.end());
  };
  std::string reconstructed = pruned_, distilled = pruned_;
  reconstructed[0] = 'r';
  distilled[0] = 'd';
  add(*run_.add_results()->mutable_reconstructed(), reconstructed);
  EXPECT_EQ(written("/reconstructed"), reconstructed);
  run_.add_results()->mutable_distilled()->set_steps(3);  // none better than the start
  EXPECT_EQ(written("/start"), reconstructed);
  add(*run_.mutable_results(2)->mutable_distilled(), distilled);
  EXPECT_EQ(written("/distilled"), distilled);
}

TEST_F(PrunedModel, BitmaskHasABitAnEntryAndTheKeptValues) {
  ASSERT_TRUE(WriteModel(out_, ModelFormat::kBitmask).ok());
  const auto file = SafetensorsFile::Open(out_ + "/a.safetensors");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_FALSE(file->Contains("q"));
  EXPECT_EQ((*file->Find("q.bitmask"))->bytes, absl::Span<const char>("\x11\x01", 2));
  EXPECT_EQ((*file->Find("q.values"))->bytes, absl::Span<const char>("aaeeii", 6));
  EXPECT_EQ((*file->Find("q.values"))->dtype, DType::kF16);
  EXPECT_EQ(file->metadata().at(kFormatKey), kBitmaskFormat);
  EXPECT_EQ(file->metadata().at(kShapesKey), R"({"q":[3,3]})");
}

TEST_F(PrunedModel, UnpackingGivesEveryFileOfTheDenseFolderBitForBit) {
  const std::string packed = folder_.path() + "/packed", unpacked = folder_.path() + "/unpacked";
  ASSERT_TRUE(WriteModel(out_, ModelFormat::kDense).ok());
  ASSERT_TRUE(WriteModel(packed, ModelFormat::kBitmask).ok());
  const auto written = UnpackModel(packed, unpacked, kGoOn);
  ASSERT_TRUE(written.ok()) << written.status();
  EXPECT_EQ(FilesIn(unpacked), FilesIn(out_));
}

TEST_F(PrunedModel, UnpackingRefusesAFolderThatIsDense) {
  EXPECT_THAT(std::string(UnpackModel(in_, out_, kGoOn).status().message()),
              HasSubstr("no shard is in the format of --format bitmask"));
  EXPECT_FALSE(std::filesystem::exists(out_));
}

TEST_F(PrunedModel, ATensorThatCannotBeFetchedLeavesNoModel) {
  run_.mutable_results(0)->mutable_tensors(0)->mutable_weights()->set_sha256("gone");
  EXPECT_EQ(WriteModel(out_, ModelFormat::kDense).code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(FilesIn(out_).empty());
}

TEST_F(PrunedModel, ATensorOfAnotherSizeIsRefused) {
  run_.mutable_results(0)->mutable_tensors(0)->mutable_weights()->set_sha256(Store("short"));
  EXPECT_THAT(std::string(WriteModel(out_, ModelFormat::kDense).message()),
              HasSubstr("must have 18 bytes, got 5"));
}

TEST_F(PrunedModel, CheckRunSourceNamesATensorThatHasChanged) {
  v1::TensorRef& ref = *run_.mutable_model()->add_tensors();
  ref.set_name("k");
  ref.set_sha256(Sha256Of(other_));
  EXPECT_TRUE(CheckRunSource(run_, in_).ok());
  ref.set_sha256(Sha256Of(dense_));
  EXPECT_THAT(std::string(CheckRunSource(run_, in_).message()),
              HasSubstr("tensor 'k' is not the one that runs/r-1 pruned"));
}

TEST_F(PrunedModel, MasksAreBooleansOfTheTensorsShape) {
  const auto fetch = [this](const std::string& sha256) -> absl::StatusOr<std::string> {
    return store_.at(sha256);
  };
  ASSERT_TRUE(WriteRunMasks(run_, out_ + "/masks.safetensors", fetch).ok());
  const auto file = SafetensorsFile::Open(out_ + "/masks.safetensors");
  ASSERT_TRUE(file.ok()) << file.status();
  EXPECT_EQ((*file->Find("q"))->dtype, DType::kBool);
  EXPECT_EQ((*file->Find("q"))->shape, (std::vector<Index>{3, 3}));
  EXPECT_EQ((*file->Find("q"))->bytes, absl::Span<const char>("\1\0\0\0\1\0\0\0\1", 9));
}

TEST_F(PrunedModel, AnOutputFolderMustBeNewOrEmptyAndNotTheModels) {
  EXPECT_TRUE(CheckOutputFolder(out_, in_, /*overwrite=*/false).ok());
  EXPECT_THAT(std::string(CheckOutputFolder(in_, in_, /*overwrite=*/true).message()),
              HasSubstr("--output must be another folder"));
  std::filesystem::create_directory(out_);
  EXPECT_TRUE(CheckOutputFolder(out_, in_, /*overwrite=*/false).ok());
  std::ofstream(out_ + "/notes") << "mine";
  EXPECT_THAT(std::string(CheckOutputFolder(out_, in_, /*overwrite=*/false).message()),
              HasSubstr("--overwrite"));
  EXPECT_TRUE(CheckOutputFolder(out_, in_, /*overwrite=*/true).ok());
  EXPECT_FALSE(CheckOutputFolder(out_ + "/notes", in_, /*overwrite=*/true).ok());
  EXPECT_FALSE(CheckOutputFolder("model.safetensors", in_, /*overwrite=*/true).ok());
}

TEST_F(PrunedModel, MasksMustNotTakeAFileOfTheModelOrOfTheText) {
  const std::string text = folder_.path() + "/corpus.txt";
  std::ofstream(text) << "words";
  RunPlaces places{.model = in_, .output = out_, .masks = folder_.path() + "/masks.safetensors"};
  EXPECT_TRUE(CheckRunPlaces({places}, {text}).ok());
  places.masks = text;
  EXPECT_THAT(std::string(CheckRunPlaces({places}, {text}).message()), HasSubstr("--save-mask"));
  places.masks = in_ + "/config.json";
  EXPECT_THAT(std::string(CheckRunPlaces({places}, {text}).message()), HasSubstr("--save-mask"));
}

TEST(KeptValues, RefusesAPrunedEntryThatIsNotZero) {
  BitMask mask(1, 2, /*kept=*/true);
  mask.Prune(1);
  EXPECT_EQ(*KeptValues(absl::Span<const char>("ab\0\0", 4), mask, 2), "ab");
  EXPECT_EQ(KeptValues(absl::Span<const char>("abcd", 4), mask, 2).status().code(),
            absl::StatusCode::kDataLoss);
  EXPECT_EQ(KeptValues(absl::Span<const char>("ab", 2), mask, 2).status().code(),
            absl::StatusCode::kDataLoss);
  EXPECT_EQ(*DenseValues(absl::Span<const char>("ab", 2), mask, 2), std::string("ab\0\0", 4));
  EXPECT_EQ(DenseValues(absl::Span<const char>("abcd", 4), mask, 2).status().code(),
            absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace attnprune::cli
