#include "core/io/tensor_source.h"

#include <limits>

#include "core/io/safetensors.h"
#include "tests/core/io/invalid.h"
#include "tests/core/tensor/tensor_test_util.h"

namespace attnprune {
namespace {

using ::testing::ElementsAre;

// A source of one tensor 'x' of doubles 0, 1, 2, ...
class Doubles {
 public:
  explicit Doubles(std::vector<Index> shape) {
    Index count = 1;
    for (const Index n : shape) count *= n;
    for (Index i = 0; i < count; ++i) values_.push_back(static_cast<double>(i));
    image_ = *SerializeSafetensors({{"x", DType::kF64, shape, BytesOf(values_), ""}});
    source_ = *ParseSafetensors(Bytes(image_), "file");
  }
  Doubles(const Doubles&) = delete;
  Doubles& operator=(const Doubles&) = delete;
  const ParsedSafetensors* operator->() const { return &source_; }

 private:
  std::vector<double> values_;
  std::string image_;
  ParsedSafetensors source_;
};

TEST(ReadMatrix, KeepsRowsAndColumns) {
  const auto m = Doubles({2, 3})->ReadMatrix("x");
  ASSERT_THAT(m, Succeeds());
  EXPECT_EQ(m->rows(), 2);
  EXPECT_EQ(m->cols(), 3);
  EXPECT_THAT(m->flat(), ElementsAre(0, 1, 2, 3, 4, 5));
}

TEST(ReadMatrix, RefusesOtherRanks) {
  EXPECT_THAT(Doubles({6})->ReadMatrix("x"),
              Fails(kInvalid, "file: tensor 'x': shape must be (rows, columns), got [6]"));
  EXPECT_THAT(Doubles({1, 2, 3})->ReadMatrix("x"), Fails(kInvalid, "got [1, 2, 3]"));
  EXPECT_THAT(Doubles({})->ReadMatrix("x"), Fails(kInvalid, "got []"));
}

TEST(ReadVector, TakesRankOneOnly) {
  const auto v = Doubles({3})->ReadVector("x");
  ASSERT_THAT(v, Succeeds());
  EXPECT_THAT(*v, ElementsAre(0, 1, 2));
  EXPECT_THAT(Doubles({1, 3})->ReadVector("x"), Fails(kInvalid, "shape must be (length)"));
}

TEST(ToStack, PutsSequencesOneBelowTheOther) {
  const auto stack = ToStack(**Doubles({2, 3, 2})->Find("x"));
  ASSERT_THAT(stack, Succeeds());
  EXPECT_EQ(stack->count, 2);
  EXPECT_EQ(stack->length, 3);
  EXPECT_EQ(stack->rows.rows(), 6);
  EXPECT_EQ(stack->rows.cols(), 2);
  EXPECT_EQ(stack->rows(3, 1), 7);
}

TEST(ToStack, TakesAMatrixForOneSequence) {
  const auto stack = ToStack(**Doubles({3, 2})->Find("x"));
  ASSERT_THAT(stack, Succeeds());
  EXPECT_EQ(stack->count, 1);
  EXPECT_EQ(stack->length, 3);
  EXPECT_THAT(ToStack(**Doubles({3})->Find("x")), Fails(kInvalid, "must be (n, d) or (k, n, d)"));
}

TEST(ToDoubles, TakesAnyRank) {
  EXPECT_THAT(*ToDoubles(**Doubles({})->Find("x")), ElementsAre(0));
  EXPECT_THAT(*ToDoubles(**Doubles({2, 1, 2, 1})->Find("x")), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(*ToDoubles(**Doubles({0, 4})->Find("x")), ElementsAre());
}

TEST(TensorSource, RefusesIntegersNamingFileTensorAndDType) {
  const std::string bytes = "1234";
  const std::string image = *SerializeSafetensors({{"ids", DType::kU8, {2, 2}, Bytes(bytes), ""}});
  const ParsedSafetensors source = *ParseSafetensors(Bytes(image), "file");
  const char* expected = "file: tensor 'ids': dtype must be F64, F32, F16 or BF16, got U8";
  EXPECT_THAT(source.ReadMatrix("ids"), Fails(kInvalid, expected));
  EXPECT_THAT(ToStack(**source.Find("ids")), Fails(kInvalid, expected));
  EXPECT_THAT(ToDoubles(**source.Find("ids")), Fails(kInvalid, expected));
}

TEST(TensorSource, NamesTheFileAndTheTensorItDoesNotHave) {
  EXPECT_THAT(Doubles({1})->ReadMatrix("weights"),
              Fails(absl::StatusCode::kNotFound, "file: no tensor 'weights' among its 1"));
}

TEST(NoSuchTensor, SuggestsTheClosestNamesFirst) {
  const absl::Status status =
      NoSuchTensor("f", "layers.1.q_proj",
                   {"embed", "layers.1.q_proj.weight", "layers.1.k_proj", "layers.2.k_proj"});
  EXPECT_EQ(status.message(),
            "f: no tensor 'layers.1.q_proj' among its 4; closest: 'layers.1.k_proj', "
            "'layers.2.k_proj'");
}

TEST(NoSuchTensor, SuggestsNothingWhenNothingIsClose) {
  EXPECT_EQ(NoSuchTensor("f", "weight", {"embedding"}).message(),
            "f: no tensor 'weight' among its 1");
}

TEST(ByteSize, MultipliesAndNoticesOverflow) {
  constexpr Index kMax = std::numeric_limits<Index>::max();
  EXPECT_EQ(*ByteSize(DType::kF32, {2, 3}), 24);
  EXPECT_EQ(*ByteSize(DType::kF64, {}), 8);
  EXPECT_EQ(*ByteSize(DType::kU8, {kMax}), kMax);
  EXPECT_THAT(ByteSize(DType::kF16, {kMax}), Fails(kInvalid, "overflows 63 bits"));
}

}  // namespace
}  // namespace attnprune
