#include "core/tensor/dtype.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "tests/core/tensor/tensor_test_util.h"

namespace attnprune {
namespace {

using ::testing::ElementsAre;

constexpr float kInf = std::numeric_limits<float>::infinity();

// What a 16-bit format is made of: 1 sign bit, exponent, mantissa.
struct Format {
  DType dtype;
  int mantissa_bits;
  int bias;
};

std::ostream& operator<<(std::ostream& os, const Format& f) { return os << ToString(f.dtype); }

// The value of a pattern by the definition of the format, in double.
double ValueOf(const Format& format, uint16_t pattern) {
  const int fraction_mask = (1 << format.mantissa_bits) - 1;
  const int exponent_mask = (1 << (15 - format.mantissa_bits)) - 1;
  const double sign = pattern >> 15 ? -1.0 : 1.0;
  const int exponent = (pattern >> format.mantissa_bits) & exponent_mask;
  const int fraction = pattern & fraction_mask;
  if (exponent == exponent_mask) {
    return sign * (fraction != 0 ? std::numeric_limits<double>::quiet_NaN()
                                 : std::numeric_limits<double>::infinity());
  }
  const int implicit = exponent == 0 ? 0 : 1 << format.mantissa_bits;
  const int scale = std::max(exponent, 1) - format.bias - format.mantissa_bits;
  return sign * std::ldexp(implicit + fraction, scale);
}

float Widened(DType dtype, uint16_t pattern) {
  char bytes[2];
  std::memcpy(bytes, &pattern, 2);
  float out = 0;
  EXPECT_THAT(ToFloat32(dtype, bytes, absl::MakeSpan(&out, 1)), Succeeds());
  return out;
}

uint16_t Narrowed(DType dtype, float value) {
  char bytes[2];
  EXPECT_THAT(FromFloat32({&value, 1}, dtype, bytes), Succeeds());
  uint16_t pattern;
  std::memcpy(&pattern, bytes, 2);
  return pattern;
}

float Rounded(double value) {
  float out = 0;
  EXPECT_THAT(ToFloat32(DType::kF64, Bytes(LittleEndian(value)), absl::MakeSpan(&out, 1)),
              Succeeds());
  return out;
}

class Float16Formats : public ::testing::TestWithParam<Format> {};

TEST_P(Float16Formats, EveryPatternWidensToItsValue) {
  for (uint32_t p = 0; p < 65536; ++p) {
    const uint16_t pattern = static_cast<uint16_t>(p);
    const double expected = ValueOf(GetParam(), pattern);
    const float got = Widened(GetParam().dtype, pattern);
    if (std::isnan(expected)) {
      ASSERT_TRUE(std::isnan(got)) << p;
    } else {
      ASSERT_EQ(got, expected) << p;
    }
    ASSERT_EQ(std::signbit(got), pattern >> 15 == 1) << p;
  }
}

TEST_P(Float16Formats, EveryPatternComesBackFromFloat32) {
  for (uint32_t p = 0; p < 65536; ++p) {
    const uint16_t pattern = static_cast<uint16_t>(p);
    const uint16_t back = Narrowed(GetParam().dtype, Widened(GetParam().dtype, pattern));
    if (std::isnan(ValueOf(GetParam(), pattern))) {
      ASSERT_TRUE(std::isnan(ValueOf(GetParam(), back))) << p;
      ASSERT_EQ(back >> 15, pattern >> 15) << p;
    } else {
      ASSERT_EQ(back, pattern) << p;
    }
  }
}

// Between each two neighbours, in the subnormals and up to the largest finite value: just below the
// middle goes down, just above goes up, the middle itself to the even pattern.
TEST_P(Float16Formats, RoundToNearestEvenBetweenAllNeighbours) {
  const uint16_t infinity = Narrowed(GetParam().dtype, kInf);
  for (uint16_t low = 0; low + 1 < infinity; ++low) {
    const uint16_t high = static_cast<uint16_t>(low + 1);
    const double middle = (ValueOf(GetParam(), low) + ValueOf(GetParam(), high)) / 2;
    const float half = static_cast<float>(middle);
    ASSERT_EQ(half, middle) << "both formats' middles are floats";
    ASSERT_EQ(Narrowed(GetParam().dtype, half), low % 2 == 0 ? low : high) << low;
    ASSERT_EQ(Narrowed(GetParam().dtype, std::nextafter(half, 0.0f)), low) << low;
    ASSERT_EQ(Narrowed(GetParam().dtype, std::nextafter(half, kInf)), high) << low;
    ASSERT_EQ(Narrowed(GetParam().dtype, -half), 0x8000 | (low % 2 == 0 ? low : high)) << low;
  }
}

TEST_P(Float16Formats, OverflowToInfinityFromHalfAStepAboveTheLargest) {
  const uint16_t infinity = Narrowed(GetParam().dtype, kInf);
  const uint16_t largest = static_cast<uint16_t>(infinity - 1);
  const double step =
      ValueOf(GetParam(), largest) - ValueOf(GetParam(), static_cast<uint16_t>(largest - 1));
  const float limit = static_cast<float>(ValueOf(GetParam(), largest) + step / 2);
  EXPECT_EQ(Narrowed(GetParam().dtype, std::nextafter(limit, 0.0f)), largest);
  EXPECT_EQ(Narrowed(GetParam().dtype, limit), infinity);
  EXPECT_EQ(Narrowed(GetParam().dtype, std::numeric_limits<float>::max()), infinity);
  EXPECT_EQ(Narrowed(GetParam().dtype, -limit), 0x8000 | infinity);
}

TEST_P(Float16Formats, UnderflowToZeroOfTheSameSign) {
  const double least = ValueOf(GetParam(), 1);
  EXPECT_EQ(Narrowed(GetParam().dtype, static_cast<float>(least / 2)), 0);
  EXPECT_EQ(Narrowed(GetParam().dtype, -0.0f), 0x8000);
}

// A payload in the low bits only must not vanish and leave infinity.
TEST_P(Float16Formats, NaNStaysNaNWhereverItsPayloadIs) {
  const uint16_t infinity = Narrowed(GetParam().dtype, kInf);
  for (int bit = 0; bit < 23; ++bit) {
    for (const uint32_t sign : {0u, 0x80000000u}) {
      const float nan = std::bit_cast<float>(sign | 0x7F800000u | (1u << bit));
      const uint16_t pattern = Narrowed(GetParam().dtype, nan);
      EXPECT_GT(pattern & 0x7FFF, infinity) << bit;
      EXPECT_EQ(pattern >> 15, sign >> 31) << bit;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, Float16Formats,
                         ::testing::Values(Format{DType::kF16, 10, 15},
                                           Format{DType::kBF16, 7, 127}),
                         [](const auto& row) { return std::string(ToString(row.param.dtype)); });

TEST(Float64, RoundsOnceToNearestEven) {
  const double one = 1, ulp = std::ldexp(1, -23);
  EXPECT_EQ(Rounded(one + ulp / 2), 1.0f);
  EXPECT_EQ(Rounded(one + ulp / 2 + std::ldexp(1, -52)), static_cast<float>(one + ulp));
  EXPECT_EQ(Rounded(one + 1.5 * ulp), static_cast<float>(one + 2 * ulp));
}

TEST(Float64, RoundsIntoSubnormalsAndOverflowsToInfinity) {
  const double least = std::ldexp(1, -149);
  EXPECT_EQ(Rounded(least), std::numeric_limits<float>::denorm_min());
  EXPECT_EQ(Rounded(least / 2), 0.0f);
  EXPECT_EQ(Rounded(least * 0.75), std::numeric_limits<float>::denorm_min());
  EXPECT_EQ(Rounded(3.4028235677973366e38), kInf);  // half a step above the largest float
  EXPECT_EQ(Rounded(3.4028235677973362e38), std::numeric_limits<float>::max());
  EXPECT_EQ(Rounded(-1e300), -kInf);
  EXPECT_TRUE(std::signbit(Rounded(-0.0)));
  EXPECT_TRUE(std::isnan(Rounded(std::nan(""))));
}

TEST(Float32, KeepsItsBits) {
  const std::vector<float> values = {1.5f, -0.0f, kInf, std::numeric_limits<float>::denorm_min()};
  std::vector<float> out(values.size());
  ASSERT_THAT(ToFloat32(DType::kF32, BytesOf(values), absl::MakeSpan(out)), Succeeds());
  EXPECT_EQ(std::memcmp(out.data(), values.data(), 4 * sizeof(float)), 0);
}

TEST(ToFloat64, KeepsEveryBitOfDoublesAndWidensTheRest) {
  double out = 0;
  const double third = 1.0 / 3;
  ASSERT_THAT(ToFloat64(DType::kF64, Bytes(LittleEndian(third)), absl::MakeSpan(&out, 1)),
              Succeeds());
  EXPECT_EQ(out, third);
  ASSERT_THAT(
      ToFloat64(DType::kF16, Bytes(LittleEndian<uint16_t>(0x3555)), absl::MakeSpan(&out, 1)),
      Succeeds());
  EXPECT_EQ(out, 0x1.554p-2);
}

TEST(FromFloat32, WritesDoublesExactly) {
  std::vector<char> bytes(16);
  ASSERT_THAT(FromFloat32({0.1f, -2.0f}, DType::kF64, absl::MakeSpan(bytes)), Succeeds());
  std::vector<double> back(2);
  ASSERT_THAT(ToFloat64(DType::kF64, bytes, absl::MakeSpan(back)), Succeeds());
  EXPECT_THAT(back, ElementsAre(static_cast<double>(0.1f), -2.0));
}

TEST(ToFloat32, ReadsFromAnyAddress) {
  for (size_t shift = 0; shift < 8; ++shift) {
    std::string bytes(shift, 'x');
    bytes += LittleEndian(2.5) + LittleEndian(-4.0);
    std::vector<float> out(2);
    ASSERT_THAT(ToFloat32(DType::kF64, Bytes(bytes).subspan(shift), absl::MakeSpan(out)),
                Succeeds());
    EXPECT_THAT(out, ElementsAre(2.5f, -4.0f));
  }
}

TEST(ToFloat32, RefusesWhatIsNoFloatByName) {
  float out = 0;
  EXPECT_THAT(
      ToFloat32(DType::kI64, Bytes(LittleEndian<int64_t>(1)), absl::MakeSpan(&out, 1)),
      Fails(absl::StatusCode::kInvalidArgument, "dtype must be F64, F32, F16 or BF16, got I64"));
  EXPECT_FALSE(IsConvertible(DType::kF8E4M3));
  EXPECT_TRUE(IsConvertible(DType::kBF16));
}

TEST(ToFloat32, RefusesBytesThatAreNotThatManyElements) {
  std::vector<float> out(2);
  EXPECT_THAT(ToFloat32(DType::kF32, Bytes("1234567"), absl::MakeSpan(out)),
              Fails(absl::StatusCode::kInvalidArgument, "7 bytes are not 2 elements of F32"));
  EXPECT_THAT(ToFloat32(DType::kF32, Bytes("123456789"), absl::MakeSpan(out)),
              Fails(absl::StatusCode::kInvalidArgument, "9 bytes"));
}

TEST(DType, HasTheNamesAndSizesOfTheFormat) {
  const std::vector<std::pair<std::string, size_t>> expected = {
      {"F4", 4},          {"F6_E2M3", 6}, {"F6_E3M2", 6}, {"BOOL", 8},    {"U8", 8},
      {"I8", 8},          {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8}, {"F8_E4M3FNUZ", 8},
      {"F8_E5M2FNUZ", 8}, {"I16", 16},    {"U16", 16},    {"F16", 16},    {"BF16", 16},
      {"I32", 32},        {"U32", 32},    {"F32", 32},    {"F64", 64},    {"I64", 64},
      {"U64", 64},        {"C64", 64}};
  for (const auto& [name, bits] : expected) {
    const absl::optional<DType> dtype = ParseDType(name);
    ASSERT_TRUE(dtype.has_value()) << name;
    EXPECT_EQ(BitsOf(*dtype), bits) << name;
    EXPECT_EQ(SizeOf(*dtype), std::max<size_t>(bits / 8, 1)) << name;
    EXPECT_EQ(ToString(*dtype), name);
  }
}

TEST(DType, KnowsNoOtherName) {
  for (const char* name : {"", "f32", "F32 ", "F5", "FLOAT", "F320"}) {
    EXPECT_FALSE(ParseDType(name).has_value()) << name;
  }
}

}  // namespace
}  // namespace attnprune
