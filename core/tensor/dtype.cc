#include "core/tensor/dtype.h"

#include <Eigen/Core>
#include <bit>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <limits>

#include "absl/strings/str_cat.h"

namespace attnprune {
namespace {

static_assert(std::endian::native == std::endian::little);
static_assert(std::numeric_limits<float>::is_iec559 && std::numeric_limits<double>::is_iec559);

struct DTypeFacts {
  DType dtype;
  absl::string_view name;
  size_t bits;
};

constexpr DTypeFacts kFacts[] = {
    {DType::kF4, "F4", 4},
    {DType::kF6E2M3, "F6_E2M3", 6},
    {DType::kF6E3M2, "F6_E3M2", 6},
    {DType::kBool, "BOOL", 8},
    {DType::kU8, "U8", 8},
    {DType::kI8, "I8", 8},
    {DType::kF8E5M2, "F8_E5M2", 8},
    {DType::kF8E4M3, "F8_E4M3", 8},
    {DType::kF8E8M0, "F8_E8M0", 8},
    {DType::kF8E4M3Fnuz, "F8_E4M3FNUZ", 8},
    {DType::kF8E5M2Fnuz, "F8_E5M2FNUZ", 8},
    {DType::kI16, "I16", 16},
    {DType::kU16, "U16", 16},
    {DType::kF16, "F16", 16},
    {DType::kBF16, "BF16", 16},
    {DType::kI32, "I32", 32},
    {DType::kU32, "U32", 32},
    {DType::kF32, "F32", 32},
    {DType::kF64, "F64", 64},
    {DType::kI64, "I64", 64},
    {DType::kU64, "U64", 64},
    {DType::kC64, "C64", 64},
};

constexpr bool FactsAreInEnumOrder() {
  for (size_t i = 0; i < std::size(kFacts); ++i) {
    if (static_cast<size_t>(kFacts[i].dtype) != i) return false;
  }
  return std::size(kFacts) == static_cast<size_t>(DType::kC64) + 1;
}
static_assert(FactsAreInEnumOrder());

const DTypeFacts& FactsOf(DType dtype) { return kFacts[static_cast<size_t>(dtype)]; }

template <typename Stored, typename Value>
void Widen(absl::Span<const char> bytes, absl::Span<Value> out) {
  for (size_t i = 0; i < out.size(); ++i) {
    Stored stored;
    std::memcpy(&stored, bytes.data() + i * sizeof(Stored), sizeof(Stored));
    out[i] = static_cast<Value>(stored);
  }
}

template <typename Stored>
void Narrow(absl::Span<const float> values, absl::Span<char> bytes) {
  for (size_t i = 0; i < values.size(); ++i) {
    const Stored stored = static_cast<Stored>(values[i]);
    std::memcpy(bytes.data() + i * sizeof(Stored), &stored, sizeof(Stored));
  }
}

// Calls visit with a value of the C++ type that stands for dtype.
template <typename Visitor>
absl::Status VisitFloatType(DType dtype, Visitor visit) {
  switch (dtype) {
    case DType::kF64:
      visit(double{});
      return absl::OkStatus();
    case DType::kF32:
      visit(float{});
      return absl::OkStatus();
    case DType::kF16:
      visit(Eigen::half{});
      return absl::OkStatus();
    case DType::kBF16:
      visit(Eigen::bfloat16{});
      return absl::OkStatus();
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("dtype must be F64, F32, F16 or BF16, got ", ToString(dtype)));
  }
}

absl::Status CheckSizes(DType dtype, size_t bytes, size_t count) {
  if (absl::Status floats = VisitFloatType(dtype, [](auto) {}); !floats.ok()) return floats;
  if (bytes / SizeOf(dtype) == count && bytes % SizeOf(dtype) == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(bytes, " bytes are not ", count, " elements of ", ToString(dtype)));
}

template <typename Stored>
std::vector<int64_t> WidenIntegers(absl::Span<const char> bytes) {
  std::vector<int64_t> values(bytes.size() / sizeof(Stored));
  for (size_t i = 0; i < values.size(); ++i) {
    Stored stored;
    std::memcpy(&stored, bytes.data() + i * sizeof(Stored), sizeof(Stored));
    values[i] = static_cast<int64_t>(stored);  // NOLINT(bugprone-signed-char-misuse): a number
  }
  return values;
}

template <typename Value>
absl::Status ToFloats(DType dtype, absl::Span<const char> bytes, absl::Span<Value> out) {
  if (absl::Status sizes = CheckSizes(dtype, bytes.size(), out.size()); !sizes.ok()) return sizes;
  return VisitFloatType(dtype, [&](auto type) { Widen<decltype(type)>(bytes, out); });
}

}  // namespace

size_t BitsOf(DType dtype) { return FactsOf(dtype).bits; }

size_t SizeOf(DType dtype) { return (BitsOf(dtype) + 7) / 8; }

absl::string_view ToString(DType dtype) { return FactsOf(dtype).name; }

absl::optional<DType> ParseDType(absl::string_view name) {
  for (const DTypeFacts& facts : kFacts) {
    if (facts.name == name) return facts.dtype;
  }
  return absl::nullopt;
}

bool IsConvertible(DType dtype) {
  return VisitFloatType(dtype, [](auto) {}).ok();
}

absl::Status ToFloat32(DType dtype, absl::Span<const char> bytes, absl::Span<float> out) {
  return ToFloats(dtype, bytes, out);
}

absl::Status ToFloat64(DType dtype, absl::Span<const char> bytes, absl::Span<double> out) {
  return ToFloats(dtype, bytes, out);
}

absl::StatusOr<std::vector<int64_t>> ToIntegers(DType dtype, absl::Span<const char> bytes) {
  if (bytes.size() % SizeOf(dtype) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("bytes must be whole elements of ", ToString(dtype), ", got ", bytes.size()));
  }
  switch (dtype) {
    case DType::kBool:
    case DType::kU8:
      return WidenIntegers<uint8_t>(bytes);
    case DType::kI8:
      return WidenIntegers<int8_t>(bytes);
    case DType::kI16:
      return WidenIntegers<int16_t>(bytes);
    case DType::kU16:
      return WidenIntegers<uint16_t>(bytes);
    case DType::kI32:
      return WidenIntegers<int32_t>(bytes);
    case DType::kU32:
      return WidenIntegers<uint32_t>(bytes);
    case DType::kI64:
      return WidenIntegers<int64_t>(bytes);
    case DType::kU64: {
      std::vector<int64_t> values = WidenIntegers<uint64_t>(bytes);
      for (const int64_t value : values) {
        if (value >= 0) continue;
        return absl::InvalidArgumentError(
            absl::StrCat("whole numbers must be below 2^63, got ", static_cast<uint64_t>(value)));
      }
      return values;
    }
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("dtype must be of whole numbers, got ", ToString(dtype)));
  }
}

absl::Status FromFloat32(absl::Span<const float> values, DType dtype, absl::Span<char> bytes) {
  if (absl::Status sizes = CheckSizes(dtype, bytes.size(), values.size()); !sizes.ok()) {
    return sizes;
  }
  return VisitFloatType(dtype, [&](auto type) { Narrow<decltype(type)>(values, bytes); });
}

}  // namespace attnprune
