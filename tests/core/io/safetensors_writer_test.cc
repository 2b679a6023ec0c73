#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "core/io/safetensors.h"
#include "tests/core/io/invalid.h"
#include "tests/core/tensor/tensor_test_util.h"

namespace attnprune {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TensorInfo TensorWith(const std::string& name, DType dtype, std::vector<Index> shape,
                      const std::string& bytes) {
  return {name, dtype, std::move(shape), Bytes(bytes), ""};
}

// Sixteen bytes, all different.
const std::string kBytes = "0123456789abcdef";

TEST(SerializeSafetensors, WritesTheseBytes) {
  const std::string one = kBytes.substr(0, 4);
  const auto image = SerializeSafetensors({TensorWith("w", DType::kF32, {1}, one)}, {{"k", "v"}});
  ASSERT_THAT(image, Succeeds());
  const std::string header =
      R"({"__metadata__":{"k":"v"},"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})";
  const std::string padding((8 - header.size() % 8) % 8, ' ');
  EXPECT_EQ(*image, Image(header + padding, "0123"));
}

TEST(SerializeSafetensors, EveryDTypeComesBackFromTheReader) {
  std::vector<TensorInfo> tensors;
  for (int i = 0; i <= static_cast<int>(DType::kC64); ++i) {
    const DType dtype = static_cast<DType>(i);
    const size_t in_row = 64 / BitsOf(dtype);
    tensors.push_back({std::string(ToString(dtype)),
                       dtype,
                       {2, static_cast<Index>(in_row)},
                       Bytes(kBytes).subspan(0, 2 * in_row * BitsOf(dtype) / 8),
                       ""});
  }
  const auto image = SerializeSafetensors(tensors);
  ASSERT_THAT(image, Succeeds());
  const auto parsed = ParseSafetensors(Bytes(*image), "f");
  ASSERT_THAT(parsed, Succeeds());
  EXPECT_EQ(parsed->tensors().size(), tensors.size());
  for (const TensorInfo& written : tensors) {
    const auto read = parsed->Find(written.name);
    ASSERT_THAT(read, Succeeds());
    EXPECT_EQ((*read)->dtype, written.dtype);
    EXPECT_EQ((*read)->shape, written.shape);
    EXPECT_EQ((*read)->bytes, written.bytes);
  }
}

TEST(SerializeSafetensors, ScalarsAndEmptyTensorsComeBack) {
  const std::string one = kBytes.substr(0, 8);
  const auto image = SerializeSafetensors(
      {TensorWith("scalar", DType::kF64, {}, one), TensorWith("none", DType::kF32, {0, 5}, "")});
  ASSERT_THAT(image, Succeeds());
  const auto parsed = ParseSafetensors(Bytes(*image), "f");
  ASSERT_THAT(parsed, Succeeds());
  EXPECT_THAT((*parsed->Find("scalar"))->shape, IsEmpty());
  EXPECT_THAT((*parsed->Find("none"))->shape, ElementsAre(0, 5));
}

TEST(SerializeSafetensors, NoTensorsAtAllIsAFileToo) {
  const auto image = SerializeSafetensors({});
  ASSERT_THAT(image, Succeeds());
  EXPECT_EQ(*image, Image("{}      ", ""));
}

TEST(SerializeSafetensors, NamesAndMetadataComeBackWhateverTheyHold) {
  const std::string odd("\"\\/\b\n\x01\x7f\xC3\xA9\xF0\x9F\x98\x80\0z", 15);
  const auto image =
      SerializeSafetensors({TensorWith(odd, DType::kU8, {16}, kBytes)}, {{odd, odd}});
  ASSERT_THAT(image, Succeeds());
  const auto parsed = ParseSafetensors(Bytes(*image), "f");
  ASSERT_THAT(parsed, Succeeds());
  EXPECT_TRUE(parsed->Contains(odd));
  EXPECT_EQ(parsed->metadata().at(odd), odd);
}

TEST(SerializeSafetensors, AlignsEveryTensorToItsElements) {
  const std::string three = kBytes.substr(0, 3), eight = kBytes.substr(0, 8);
  const auto image = SerializeSafetensors({TensorWith("a", DType::kU8, {3}, three),
                                           TensorWith("z", DType::kF64, {1}, eight),
                                           TensorWith("b", DType::kF16, {4}, eight)});
  ASSERT_THAT(image, Succeeds());
  const auto parsed = ParseSafetensors(Bytes(*image), "f");
  ASSERT_THAT(parsed, Succeeds());
  for (const TensorInfo& tensor : parsed->tensors()) {
    EXPECT_EQ((tensor.bytes.data() - image->data()) % static_cast<Index>(SizeOf(tensor.dtype)), 0)
        << tensor.name;
  }
}

TEST(SerializeSafetensors, GivesTheSameBytesWhateverTheOrder) {
  const TensorInfo a = TensorWith("a", DType::kF32, {4}, kBytes);
  const TensorInfo b = TensorWith("b", DType::kF64, {2}, kBytes);
  const TensorInfo c = TensorWith("c", DType::kF32, {2, 2}, kBytes);
  EXPECT_EQ(*SerializeSafetensors({a, b, c}), *SerializeSafetensors({c, b, a}));
}

TEST(SerializeSafetensors, RefusesTwoTensorsOfOneName) {
  const TensorInfo a = TensorWith("a", DType::kF32, {4}, kBytes);
  const TensorInfo other = TensorWith("a", DType::kU8, {16}, kBytes);
  EXPECT_THAT(SerializeSafetensors({a, other}),
              Fails(kInvalid, "tensor 'a': two tensors have this name"));
}

TEST(SerializeSafetensors, RefusesTextThatIsNotUtf8) {
  EXPECT_THAT(SerializeSafetensors({TensorWith("\xFFx", DType::kU8, {16}, kBytes)}),
              Fails(kInvalid, "text must be UTF-8"));
  EXPECT_THAT(SerializeSafetensors({}, {{"k", "\xC0\x80"}}), Fails(kInvalid, "text must be UTF-8"));
}

TEST(SerializeSafetensors, RefusesTheReservedName) {
  EXPECT_THAT(SerializeSafetensors({TensorWith("__metadata__", DType::kU8, {16}, kBytes)}),
              Fails(kInvalid, "tensor '__metadata__': the name is reserved"));
}

TEST(SerializeSafetensors, RefusesShapesThatDoNotFitTheBytes) {
  EXPECT_THAT(SerializeSafetensors({TensorWith("a", DType::kF32, {3}, kBytes)}),
              Fails(kInvalid, "tensor 'a': shape [3] of F32 takes 12 bytes, got 16"));
  EXPECT_THAT(SerializeSafetensors({TensorWith("a", DType::kU8, {-4, -4}, kBytes)}),
              Fails(kInvalid, "shape entries must be at least 0, got [-4, -4]"));
  constexpr Index kMax = std::numeric_limits<Index>::max();
  EXPECT_THAT(SerializeSafetensors({TensorWith("a", DType::kU8, {kMax, 3}, kBytes)}),
              Fails(kInvalid, "overflows 63 bits"));
}

TEST(SerializeSafetensors, RefusesAHeaderLongerThanTheReaderTakes) {
  SafetensorsMetadata metadata;
  metadata["k"].assign(kMaxSafetensorsHeader, 'x');
  EXPECT_THAT(SerializeSafetensors({}, metadata),
              Fails(kInvalid, "header length must be at most 100000000, got 1000000"));
}

TEST(WriteSafetensors, WritesWhatSerializeGives) {
  const TemporaryFolder folder;
  const std::vector<TensorInfo> tensors = {TensorWith("a", DType::kU8, {16}, kBytes),
                                           TensorWith("b", DType::kF64, {2}, kBytes)};
  ASSERT_THAT(WriteSafetensors(folder.File("f"), tensors, {{"k", "v"}}), Succeeds());
  EXPECT_EQ(ReadAll(folder.File("f")), *SerializeSafetensors(tensors, {{"k", "v"}}));
  EXPECT_THAT(folder.Files(), ElementsAre("f"));
}

TEST(WriteSafetensors, AMatrixComesBackBitForBit) {
  const TemporaryFolder folder;
  Matrix m(2, 3);
  m(0, 1) = 1.0f / 3;
  m(1, 2) = -0.0f;
  ASSERT_THAT(WriteSafetensors(folder.File("f"), {TensorOf("m", m)}), Succeeds());
  const auto file = SafetensorsFile::Open(folder.File("f"));
  ASSERT_THAT(file, Succeeds());
  const auto back = file->ReadMatrix("m");
  ASSERT_THAT(back, Succeeds());
  EXPECT_TRUE(SameShape(*back, m));
  EXPECT_EQ(std::memcmp(back->data(), m.data(), 6 * sizeof(float)), 0);
}

// The new file may be made from the old one's mapped bytes.
TEST(WriteSafetensors, MayReplaceTheFileItReadsFrom) {
  const TemporaryFolder folder;
  const std::string path = folder.File("f");
  ASSERT_THAT(WriteSafetensors(path, {TensorWith("a", DType::kU8, {16}, kBytes)}), Succeeds());
  const auto file = SafetensorsFile::Open(path);
  ASSERT_THAT(file, Succeeds());
  TensorInfo renamed = file->tensors()[0];
  renamed.name = "b";
  ASSERT_THAT(WriteSafetensors(path, {renamed}), Succeeds());
  EXPECT_EQ((*SafetensorsFile::Open(path)->Find("b"))->bytes, Bytes(kBytes));
}

TEST(WriteSafetensors, WritesTheSameFileOfBytesThatItAsksFor) {
  const TemporaryFolder folder;
  const TensorInfo known = TensorWith("a", DType::kU8, {16}, kBytes);
  ASSERT_THAT(WriteSafetensors(folder.File("known"), {known}), Succeeds());
  TensorInfo later = known;
  later.bytes = {nullptr, known.bytes.size()};
  const auto bytes_of = [&known](const TensorInfo&) -> absl::StatusOr<absl::Span<const char>> {
    return known.bytes;
  };
  ASSERT_THAT(WriteSafetensors(folder.File("asked"), {later}, {}, bytes_of), Succeeds());
  EXPECT_EQ(ReadAll(folder.File("asked")), ReadAll(folder.File("known")));
}

TEST(WriteSafetensors, RefusesBytesOfAnotherSize) {
  const TemporaryFolder folder;
  const TensorInfo tensor = TensorWith("a", DType::kU8, {16}, kBytes);
  const auto bytes_of = [](const TensorInfo& asked) -> absl::StatusOr<absl::Span<const char>> {
    return asked.bytes.subspan(1);
  };
  EXPECT_THAT(WriteSafetensors(folder.File("f"), {tensor}, {}, bytes_of),
              Fails(kInvalid, folder.File("f") + ": tensor 'a' must have 16 bytes, got 15"));
  EXPECT_THAT(folder.Files(), IsEmpty());
}

TEST(WriteSafetensors, WritesNothingWhenItRefuses) {
  const TemporaryFolder folder;
  EXPECT_THAT(WriteSafetensors(folder.File("f"), {TensorWith("a", DType::kF32, {3}, kBytes)}),
              Fails(kInvalid, folder.File("f") + ": tensor 'a': shape [3]"));
  EXPECT_THAT(folder.Files(), IsEmpty());
}

}  // namespace
}  // namespace attnprune
