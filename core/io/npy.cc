#include "core/io/npy.h"

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "core/base/status_macros.h"
#include "core/io/known_content.h"
#include "core/io/mapped_file.h"
#include "core/io/messages.h"
#include "core/io/tensor_source.h"

namespace attnprune {
namespace {

constexpr absl::string_view kMagic = "\x93NUMPY";
constexpr size_t kVersionEnd = 8;  // magic and version

struct NpyHeader {
  absl::optional<std::string> descr;
  absl::optional<bool> fortran_order;
  absl::optional<std::vector<Index>> shape;
};

// Reads the Python dict literal from left to right.
class LiteralReader {
 public:
  explicit LiteralReader(absl::string_view text) : text_(text) {}

  absl::StatusOr<NpyHeader> ReadHeader() {
    NpyHeader header;
    ATTNPRUNE_RETURN_IF_ERROR(Expect('{'));
    while (!Accept('}')) {
      ATTNPRUNE_RETURN_IF_ERROR(ReadPair(&header));
      if (Accept(',')) continue;
      ATTNPRUNE_RETURN_IF_ERROR(Expect('}'));
      break;
    }
    SkipSpaces();
    if (!text_.empty()) return Unexpected("the end of the header");
    return header;
  }

 private:
  absl::Status ReadPair(NpyHeader* header) {
    ATTNPRUNE_ASSIGN_OR_RETURN(const std::string key, ReadString());
    ATTNPRUNE_RETURN_IF_ERROR(Expect(':'));
    if (key == "descr") return Store(key, ReadString(), &header->descr);
    if (key == "fortran_order") return Store(key, ReadBool(), &header->fortran_order);
    if (key == "shape") return Store(key, ReadShape(), &header->shape);
    return Refuse("key ", Quoted(key), " is unknown");
  }

  template <typename T>
  absl::Status Store(absl::string_view key, absl::StatusOr<T> value, absl::optional<T>* slot) {
    if (!value.ok()) return Annotate(value.status(), key);
    if (slot->has_value()) return Refuse("key ", Quoted(key), " appears twice");
    *slot = *std::move(value);
    return absl::OkStatus();
  }

  absl::StatusOr<std::string> ReadString() {
    SkipSpaces();
    if (text_.empty() || (text_[0] != '\'' && text_[0] != '"')) return Unexpected("a string");
    const size_t end = text_.find(text_[0], 1);
    if (end == absl::string_view::npos) return Refuse("header must close every string");
    const std::string value(text_.substr(1, end - 1));
    if (value.find('\\') != std::string::npos) {
      return Refuse("string must have no escapes, got ", Quoted(value));
    }
    text_.remove_prefix(end + 1);
    return value;
  }

  absl::StatusOr<bool> ReadBool() {
    const absl::string_view word = ReadWhile(absl::ascii_isalpha);
    if (word == "True") return true;
    if (word == "False") return false;
    return Refuse("must be True or False, got ", Quoted(word));
  }

  // "()", "(3,)", "(3, 4)", "(3, 4,)"
  absl::StatusOr<std::vector<Index>> ReadShape() {
    std::vector<Index> shape;
    bool comma = true;  // "(3)" is a number, not a tuple
    ATTNPRUNE_RETURN_IF_ERROR(Expect('('));
    while (!Accept(')')) {
      if (!comma) return Unexpected("',' or ')'");
      ATTNPRUNE_ASSIGN_OR_RETURN(const Index dimension, ReadDimension());
      shape.push_back(dimension);
      comma = Accept(',');
    }
    if (shape.size() == 1 && !comma) return Refuse("must be a tuple, got a number in parentheses");
    return shape;
  }

  absl::StatusOr<Index> ReadDimension() {
    const absl::string_view digits = ReadWhile(absl::ascii_isdigit);
    if (digits.empty()) return Unexpected("a non-negative integer");
    int64_t value = 0;
    if (!absl::SimpleAtoi(digits, &value)) {
      return Refuse("dimension must be below 2^63, got ", Quoted(digits));
    }
    return value;
  }

  absl::string_view ReadWhile(bool (*belongs)(unsigned char)) {
    SkipSpaces();
    size_t end = 0;
    while (end < text_.size() && belongs(static_cast<unsigned char>(text_[end]))) ++end;
    const absl::string_view word = text_.substr(0, end);
    text_.remove_prefix(end);
    return word;
  }

  bool Accept(char c) {
    SkipSpaces();
    if (text_.empty() || text_[0] != c) return false;
    text_.remove_prefix(1);
    return true;
  }

  absl::Status Expect(char c) {
    return Accept(c) ? absl::OkStatus() : Unexpected(absl::StrCat("'", std::string(1, c), "'"));
  }

  absl::Status Unexpected(absl::string_view wanted) const {
    if (text_.empty()) return Refuse("expected ", wanted, ", got the end of the header");
    return Refuse("expected ", wanted, ", got ", Quoted(text_.substr(0, 20)));
  }

  void SkipSpaces() {
    while (!text_.empty() && text_[0] == ' ') text_.remove_prefix(1);
  }

  absl::string_view text_;
};

// Takes `size` bytes from the front of *bytes as a little-endian number.
absl::StatusOr<size_t> TakeLength(absl::Span<const char>* bytes, size_t size) {
  if (bytes->size() < size) return Refuse("file ends within the header length");
  uint32_t length = 0;
  std::memcpy(&length, bytes->data(), size);
  bytes->remove_prefix(size);
  return length;
}

// Takes magic, version and header from the front of *bytes and returns the header's text.
absl::StatusOr<absl::string_view> TakeHeader(absl::Span<const char>* bytes) {
  const absl::string_view text(bytes->data(), bytes->size());
  if (text.substr(0, kMagic.size()) != kMagic) {
    ATTNPRUNE_RETURN_IF_ERROR(CheckKnownContent(text));
    return Refuse("file must begin with \\x93NUMPY");
  }
  if (text.size() < kVersionEnd) return Refuse("file ends within the version");
  const int major = static_cast<unsigned char>(text[6]),
            minor = static_cast<unsigned char>(text[7]);
  if (major < 1 || major > 3 || minor != 0) {
    return Refuse("version must be 1.0, 2.0 or 3.0, got ", major, ".", minor);
  }
  bytes->remove_prefix(kVersionEnd);
  ATTNPRUNE_ASSIGN_OR_RETURN(const size_t length,
                             TakeLength(bytes, major == 1 ? sizeof(uint16_t) : sizeof(uint32_t)));
  if (length > bytes->size()) {
    return Refuse("header length must fit in the file, got ", length, " with ", bytes->size(),
                  " bytes left");
  }
  const absl::string_view header(bytes->data(), length);
  bytes->remove_prefix(length);
  return header;
}

absl::StatusOr<NpyHeader> ParseNpyHeader(absl::string_view text) {
  if (text.empty() || text.back() != '\n') return Refuse("header must end with a line break");
  text.remove_suffix(1);
  ATTNPRUNE_ASSIGN_OR_RETURN(NpyHeader header, LiteralReader(text).ReadHeader());
  if (!header.descr.has_value()) return Refuse("key 'descr' is missing");
  if (!header.fortran_order.has_value()) return Refuse("key 'fortran_order' is missing");
  if (!header.shape.has_value()) return Refuse("key 'shape' is missing");
  return header;
}

absl::StatusOr<DType> ParseDescr(absl::string_view descr) {
  const absl::string_view order = descr.substr(0, 1);
  if (order == ">") return Refuse("descr ", Quoted(descr), ": big-endian data is not supported");
  if (order == "<" || order == "=" || order == "|") {
    const absl::string_view kind = descr.substr(1);
    if (kind == "f8") return DType::kF64;
    if (kind == "f4") return DType::kF32;
    if (kind == "f2") return DType::kF16;
  }
  return Refuse("descr must be '<f8', '<f4' or '<f2', got ", Quoted(descr));
}

// values: the elements in Fortran order, that is with the first index running fastest.
Matrix ToCOrder(const Matrix& values, absl::Span<const Index> shape) {
  const Index rank = static_cast<Index>(shape.size());
  const Index n0 = rank == 3 ? shape[0] : 1;
  const Index n1 = rank >= 2 ? shape[shape.size() - 2] : 1;
  const Index n2 = shape.back();
  Matrix out(values.rows(), values.cols());
  for (Index i = 0; i < n0; ++i) {
    for (Index j = 0; j < n1; ++j) {
      for (Index k = 0; k < n2; ++k) {
        out(i * n1 + j, k) = values.data()[i + n0 * (j + n1 * k)];
      }
    }
  }
  return out;
}

absl::Status CheckSize(Index expected, size_t actual, DType dtype, absl::Span<const Index> shape) {
  if (static_cast<size_t>(expected) == actual) return absl::OkStatus();
  return Refuse("shape ", ShapeString(shape), " of ", ToString(dtype), " takes ", expected,
                " bytes, but ", actual, " follow the header");
}

absl::StatusOr<DType> ParseIntegerDescr(absl::string_view descr) {
  constexpr struct {
    absl::string_view kind;
    DType dtype;
  } kKinds[] = {{"i8", DType::kI64}, {"i4", DType::kI32}, {"i2", DType::kI16},
                {"i1", DType::kI8},  {"u8", DType::kU64}, {"u4", DType::kU32},
                {"u2", DType::kU16}, {"u1", DType::kU8},  {"b1", DType::kBool}};
  const absl::string_view order = descr.substr(0, 1);
  if (order == ">") return Refuse("descr ", Quoted(descr), ": big-endian data is not supported");
  if (order == "<" || order == "=" || order == "|") {
    for (const auto& known : kKinds) {
      if (descr.substr(1) == known.kind) return known.dtype;
    }
  }
  return Refuse("descr must be of whole numbers, such as '<i8' or '<i4', got ", Quoted(descr));
}

absl::StatusOr<NpyIntegers> ParseIntegers(absl::Span<const char> bytes) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const absl::string_view text, TakeHeader(&bytes));
  ATTNPRUNE_ASSIGN_OR_RETURN(const NpyHeader header, ParseNpyHeader(text));
  NpyIntegers array;
  array.shape = *header.shape;
  ATTNPRUNE_ASSIGN_OR_RETURN(array.dtype, ParseIntegerDescr(*header.descr));
  if (array.shape.empty() || array.shape.size() > 2) {
    return Refuse("shape must have 1 or 2 dimensions, got ", ShapeString(array.shape));
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(const Index size, ByteSize(array.dtype, array.shape));
  ATTNPRUNE_RETURN_IF_ERROR(CheckSize(size, bytes.size(), array.dtype, array.shape));
  ATTNPRUNE_ASSIGN_OR_RETURN(array.values, ToIntegers(array.dtype, bytes));
  if (!*header.fortran_order || array.shape.size() == 1) return array;
  std::vector<int64_t> by_rows;
  for (Index i = 0; i < array.shape[0]; ++i) {
    for (Index j = 0; j < array.shape[1]; ++j) {
      by_rows.push_back(array.values[static_cast<size_t>(i + j * array.shape[0])]);
    }
  }
  array.values = std::move(by_rows);
  return array;
}

absl::StatusOr<NpyArray> Parse(absl::Span<const char> bytes) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const absl::string_view text, TakeHeader(&bytes));
  ATTNPRUNE_ASSIGN_OR_RETURN(const NpyHeader header, ParseNpyHeader(text));
  NpyArray array;
  array.shape = *header.shape;
  ATTNPRUNE_ASSIGN_OR_RETURN(array.dtype, ParseDescr(*header.descr));
  if (array.shape.empty() || array.shape.size() > 3) {
    return Refuse("shape must have 1 to 3 dimensions, got ", ShapeString(array.shape));
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(const Index size, ByteSize(array.dtype, array.shape));
  ATTNPRUNE_RETURN_IF_ERROR(CheckSize(size, bytes.size(), array.dtype, array.shape));
  Index rows = 1;
  for (size_t i = 0; i + 1 < array.shape.size(); ++i) rows *= array.shape[i];
  array.values = Matrix(rows, array.shape.back());
  ATTNPRUNE_RETURN_IF_ERROR(ToFloat32(array.dtype, bytes, array.values.flat()));
  if (*header.fortran_order) array.values = ToCOrder(array.values, array.shape);
  return array;
}

}  // namespace

absl::StatusOr<NpyArray> ParseNpy(absl::Span<const char> bytes, absl::string_view label) {
  absl::StatusOr<NpyArray> array = Parse(bytes);
  if (!array.ok()) return Annotate(array.status(), label);
  return array;
}

absl::StatusOr<NpyArray> ReadNpy(const std::string& path) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  absl::StatusOr<NpyArray> array = ParseNpy(file.bytes(), path);
  ATTNPRUNE_RETURN_IF_ERROR(CheckMapped(file.bytes()));
  return array;
}

absl::StatusOr<NpyIntegers> ParseNpyIntegers(absl::Span<const char> bytes,
                                             absl::string_view label) {
  absl::StatusOr<NpyIntegers> array = ParseIntegers(bytes);
  if (!array.ok()) return Annotate(array.status(), label);
  return array;
}

absl::StatusOr<NpyIntegers> ReadNpyIntegers(const std::string& path) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(path));
  absl::StatusOr<NpyIntegers> array = ParseNpyIntegers(file.bytes(), path);
  ATTNPRUNE_RETURN_IF_ERROR(CheckMapped(file.bytes()));
  return array;
}

}  // namespace attnprune
