#include <cstdint>
#include <string>
#include <vector>

#include "core/io/safetensors.h"
#include "tests/core/io/invalid.h"
#include "tests/core/tensor/tensor_test_util.h"

namespace attnprune {
namespace {

using ::testing::ElementsAre;

absl::StatusOr<ParsedSafetensors> ParseImage(const std::string& image) {
  return ParseSafetensors(Bytes(image), "f.safetensors");
}

// Two tensors and metadata, of the form every test below varies.
const char kHeader[] = R"({"__metadata__":{"format":"pt"},)"
                       R"("a":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},)"
                       R"("b":{"dtype":"U8","shape":[3],"data_offsets":[8,11]}})";

std::string GoodImage() { return Image(kHeader, LittleEndian(1.5f) + LittleEndian(-2.0f) + "xyz"); }

TEST(ParseSafetensors, ReadsTensorsAndMetadata) {
  const std::string image = GoodImage();
  const auto parsed = ParseImage(image);
  ASSERT_THAT(parsed, Succeeds());
  EXPECT_THAT(parsed->names(), ElementsAre("a", "b"));
  EXPECT_EQ(parsed->metadata().at("format"), "pt");
  const TensorInfo& b = **parsed->Find("b");
  EXPECT_EQ(b.dtype, DType::kU8);
  EXPECT_THAT(b.shape, ElementsAre(3));
  EXPECT_THAT(b.bytes, ElementsAre('x', 'y', 'z'));
  EXPECT_THAT(parsed->ReadMatrix("a")->flat(), ElementsAre(1.5f, -2.0f));
}

TEST(ParseSafetensors, KnowsPackedElementsByTheirBits) {
  const std::string image = Image(R"({"a":{"dtype":"F4","shape":[2,3],"data_offsets":[0,3]},)"
                                  R"("b":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[3,6]},)"
                                  R"("c":{"dtype":"C64","shape":[1],"data_offsets":[6,14]}})",
                                  "0123456789abcd");
  const auto parsed = ParseImage(image);
  ASSERT_THAT(parsed, Succeeds());
  EXPECT_THAT((*parsed->Find("b"))->bytes, ElementsAre('3', '4', '5'));
  EXPECT_THAT(parsed->ReadMatrix("a"), Fails(kInvalid, "dtype must be F64, F32, F16 or BF16"));
}

TEST(ParseSafetensors, SaysWhatStandsInItsPlace) {
  const std::pair<std::string, const char*> rows[] = {
      {"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"},
      {"<!doctype html><html></html>", "HTML page"},
      {"\xEF\xBB\xBF <HTML><body></body>", "HTML page"},
      {"PK\x03\x04 archive/data.pkl", "safe_serialization=True"},
      {"GGUF\x03 and much more", "GGUF"},
  };
  for (const auto& [bytes, phrase] : rows) {
    EXPECT_THAT(ParseImage(bytes).status().message(), ::testing::HasSubstr(phrase)) << bytes;
  }
  EXPECT_EQ(ParseImage(rows[0].first).status().code(), absl::StatusCode::kNotFound);
}

TEST(ParseSafetensors, CopiesNoTensorBytes) {
  const std::string image = GoodImage();
  const auto parsed = ParseImage(image);
  ASSERT_THAT(parsed, Succeeds());
  EXPECT_EQ((*parsed->Find("b"))->bytes.data(), image.data() + image.size() - 3);
}

TEST(ParseSafetensors, ListsTensorsInTheOrderOfTheirBytes) {
  const std::string image = Image(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]},)"
                                  R"("b":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
                                  "01");
  const auto parsed = ParseImage(image);
  ASSERT_THAT(parsed, Succeeds());
  EXPECT_EQ(parsed->tensors()[0].name, "b");
  EXPECT_EQ(parsed->tensors()[1].name, "a");
}

TEST(ParseSafetensors, AcceptsWhatTheFormatAllows) {
  struct Row {
    const char* title;
    const char* header;
    std::string data;
  };
  const Row rows[] = {
      {"no tensors", "{}", ""},
      {"padding with spaces", "{}      ", ""},
      {"white space inside", "{\n\t}", ""},
      {"metadata only", R"({"__metadata__":{}})", ""},
      {"a scalar", R"({"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]}})", "1234"},
      {"no elements", R"({"a":{"dtype":"F32","shape":[0,7],"data_offsets":[0,0]}})", ""},
      {"no elements between others",
       R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},)"
       R"("b":{"dtype":"U8","shape":[0],"data_offsets":[2,2]},)"
       R"("c":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}})",
       "123"},
      {"keys in another order", R"({"a":{"data_offsets":[0,1],"shape":[1],"dtype":"I8"}})", "1"},
      {"an empty name", R"({"":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "1"},
      {"a name with escapes", R"({"\u00e9\n":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
       "1"},
      {"many dimensions", R"({"a":{"dtype":"U8","shape":[1,1,1,1,1,1],"data_offsets":[0,1]}})",
       "1"},
  };
  for (const Row& row : rows) {
    EXPECT_THAT(ParseImage(Image(row.header, row.data)), Succeeds()) << row.title;
  }
}

TEST(ParseSafetensors, KnowsEveryDType) {
  for (const char* name : {"BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "I16", "U16", "F16", "BF16",
                           "I32", "U32", "F32", "F64", "I64", "U64"}) {
    const std::string size = std::to_string(2 * SizeOf(*ParseDType(name)));
    const std::string header = R"({"a":{"dtype":")" + std::string(name) +
                               R"(","shape":[2],"data_offsets":[0,)" + size + "]}}";
    const std::string image = Image(header, std::string(std::stoul(size), '\0'));
    const auto parsed = ParseImage(image);
    ASSERT_THAT(parsed, Succeeds()) << name;
    EXPECT_EQ(ToString(parsed->tensors()[0].dtype), name);
  }
}

struct Malformed {
  const char* title;
  std::string image;
  const char* phrase;  // in the message
};

std::ostream& operator<<(std::ostream& os, const Malformed& row) { return os << row.title; }

// One tensor 'a' whose entry is given, over 8 bytes of data.
std::string WithEntry(const std::string& entry) {
  return Image(R"({"a":)" + entry + "}", "12345678");
}

std::string WithShape(const std::string& shape) {
  return WithEntry(R"({"dtype":"F32","shape":)" + shape + R"(,"data_offsets":[0,8]})");
}

std::string WithOffsets(const std::string& offsets) {
  return WithEntry(R"({"dtype":"F32","shape":[2],"data_offsets":)" + offsets + "}");
}

// Two tensors of bytes at these offsets, over 8 bytes of data.
std::string WithTwo(int begin_a, int end_a, int begin_b, int end_b) {
  const auto entry = [](int begin, int end) {
    return R"({"dtype":"U8","shape":[)" + std::to_string(end - begin) + R"(],"data_offsets":[)" +
           std::to_string(begin) + "," + std::to_string(end) + "]}";
  };
  return Image(R"({"a":)" + entry(begin_a, end_a) + R"(,"b":)" + entry(begin_b, end_b) + "}",
               "12345678");
}

std::vector<Malformed> MalformedImages() {
  return {
      {"an empty file", "", "f.safetensors: a safetensors file has at least 8 bytes, got 0"},
      {"seven bytes", "1234567", "at least 8 bytes, got 7"},
      {"a header longer than allowed", LittleEndian<uint64_t>(100'000'001) + "{}",
       "header length must be at most 100000000, got 100000001"},
      {"a header length near 2^64", LittleEndian<uint64_t>(~uint64_t{0}) + "{}",
       "header length must be at most 100000000, got 18446744073709551615"},
      {"a header longer than the file", LittleEndian<uint64_t>(3) + "{}",
       "header length must fit in the file, got 3 with 2 bytes left"},
      {"no header", LittleEndian<uint64_t>(0), "header must begin with '{', got ''"},
      {"a space before the header", Image(" {}", ""), "header must begin with '{', got ' '"},
      {"an array", Image("[]", ""), "header must begin with '{', got '['"},
      {"a byte order mark", Image("\xEF\xBB\xBF{}", ""), "header must begin with '{'"},
      {"padding with line breaks", Image("{}\n", ""), "header must end with '}' and then spaces"},
      {"padding with zeros", Image(std::string("{}\0\0", 4), ""), "header must end with '}'"},
      {"a zero inside", Image(std::string("{}\0}", 4), ""), "a NUL byte at 2"},
      {"two objects", Image("{}{}", ""), "header: not valid JSON in UTF-8 at byte"},
      {"an unclosed object", Image(R"({"a":{})", ""), "header: not valid JSON"},
      {"a trailing comma", Image(R"({"__metadata__":{},})", ""), "header: not valid JSON"},
      {"bad UTF-8 in a name", Image("{\"\xFF\":{}}", ""), "header: not valid JSON in UTF-8"},
      {"a lone surrogate", Image(R"({"\ud800":{}})", ""), "header: not valid JSON"},
      {"a tensor twice",
       Image(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
             R"("a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
             "1"),
       "header: key 'a' appears twice in one object"},
      {"a key of an entry twice",
       WithEntry(R"({"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]})"),
       "key 'dtype' appears twice"},
      {"metadata twice", Image(R"({"__metadata__":{},"__metadata__":{}})", ""),
       "key '__metadata__' appears twice"},
      {"a metadata key twice", Image(R"({"__metadata__":{"k":"1","k":"2"}})", ""),
       "key 'k' appears twice"},
      {"deep nesting", WithShape("[[2]]"), "header: nested deeper than 3 levels"},
      {"metadata that is no object", Image(R"({"__metadata__":"x"})", ""),
       "__metadata__: must be an object, got string"},
      {"a metadata value that is no string", Image(R"({"__metadata__":{"k":1}})", ""),
       "__metadata__: value of 'k' must be a string, got number"},
      {"a null metadata value", Image(R"({"__metadata__":{"k":null}})", ""), "got null"},
      {"an entry that is no object", WithEntry("[]"), "tensor 'a': entry must be an object"},
      {"no dtype", WithEntry(R"({"shape":[2],"data_offsets":[0,8]})"),
       "tensor 'a': key 'dtype' is missing"},
      {"no shape", WithEntry(R"({"dtype":"F32","data_offsets":[0,8]})"), "key 'shape' is missing"},
      {"no offsets", WithEntry(R"({"dtype":"F32","shape":[2]})"), "key 'data_offsets' is missing"},
      {"a key too many", WithEntry(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1})"),
       "tensor 'a': key 'x' is unknown"},
      {"an unknown dtype", WithEntry(R"({"dtype":"F33","shape":[2],"data_offsets":[0,8]})"),
       "tensor 'a': dtype 'F33' is unknown"},
      {"a dtype in small letters", WithEntry(R"({"dtype":"f32","shape":[2],"data_offsets":[0,8]})"),
       "dtype 'f32' is unknown"},
      {"a dtype that is no string", WithEntry(R"({"dtype":32,"shape":[2],"data_offsets":[0,8]})"),
       "dtype must be a string, got number"},
      {"three elements of four bits",
       WithEntry(R"({"dtype":"F4","shape":[3],"data_offsets":[0,8]})"),
       "shape [3] of F4 must take whole bytes, got 12 bits"},
      {"a shape that is no array", WithShape("2"), "shape must be an array, got number"},
      {"a fractional dimension", WithShape("[1.5]"), "integers in [0, 2^63), got '1.5'"},
      {"a dimension written as a float", WithShape("[2.0]"), "integers in [0, 2^63), got '2.0'"},
      {"a dimension with an exponent", WithShape("[2e0]"), "integers in [0, 2^63), got '2.0'"},
      {"a negative dimension", WithShape("[-2]"), "integers in [0, 2^63), got '-2'"},
      {"minus zero", WithShape("[-0]"), "integers in [0, 2^63)"},
      {"a dimension of 2^63", WithShape("[9223372036854775808]"),
       "integers in [0, 2^63), got '9223372036854775808'"},
      {"a dimension of 2^64", WithShape("[18446744073709551616]"), "integers in [0, 2^63)"},
      {"a dimension that is a string", WithShape("[\"2\"]"), "integers in [0, 2^63)"},
      {"a dimension that is true", WithShape("[true,2]"), "integers in [0, 2^63), got 'true'"},
      {"a product that wraps to the right size", WithShape("[9223372036854775807,2]"),
       "of F32 overflows 63 bits of bytes"},
      {"2^61 elements of four bytes", WithShape("[2305843009213693952]"), "overflows 63 bits"},
      {"a product of 2^64", WithShape("[4294967296,4294967296]"), "overflows 63 bits"},
      {"an overflow hidden by a zero", WithShape("[9223372036854775807,2,0]"), "overflows 63 bits"},
      {"too few bytes", WithShape("[3]"),
       "shape [3] of F32 takes 12 bytes, but data_offsets hold 8"},
      {"too many bytes", WithShape("[1]"),
       "shape [1] of F32 takes 4 bytes, but data_offsets hold 8"},
      {"one offset", WithOffsets("[0]"), "data_offsets must be [begin, end], got [0]"},
      {"three offsets", WithOffsets("[0,8,8]"), "data_offsets must be [begin, end], got [0, 8, 8]"},
      {"a negative offset", WithOffsets("[-8,0]"), "data_offsets must hold integers"},
      {"a fractional offset", WithOffsets("[0,8.0]"), "data_offsets must hold integers"},
      {"an end before its begin", WithOffsets("[8,0]"),
       "tensor 'a': data_offsets must have begin <= end, got [8, 0]"},
      {"an end behind the file", WithOffsets("[0,16]"),
       "tensor 'a': data_offsets must end within the 8 bytes of data, got [0, 16]"},
      {"a begin behind the file", WithOffsets("[16,24]"), "must end within the 8 bytes"},
      {"an overlap", WithTwo(0, 5, 4, 8), "tensor 'b': overlaps tensor 'a': begins at 4, before 5"},
      {"the same bytes twice", WithTwo(0, 8, 0, 8), "tensor 'b': overlaps tensor 'a'"},
      {"an empty tensor inside another", WithTwo(0, 8, 4, 4), "tensor 'b': overlaps tensor 'a'"},
      {"a gap", WithTwo(0, 4, 5, 8),
       "tensor 'b': leaves a gap: begins at 5, but no tensor holds bytes 4 to 5"},
      {"a gap before the first", WithTwo(1, 4, 4, 8), "tensor 'a': leaves a gap: begins at 1"},
      {"trailing bytes", WithTwo(0, 4, 4, 7),
       "trailing bytes: the tensors hold 7 bytes of data, the file has 8"},
      {"trailing bytes and no tensors", Image("{}", "x"), "trailing bytes"},
  };
}

class MalformedSafetensors : public ::testing::TestWithParam<Malformed> {};

TEST_P(MalformedSafetensors, IsRefusedNamingFileAndRule) {
  const auto parsed = ParseImage(GetParam().image);
  EXPECT_THAT(parsed, Fails(kInvalid, GetParam().phrase));
  EXPECT_EQ(parsed.status().message().substr(0, 15), "f.safetensors: ");
}

INSTANTIATE_TEST_SUITE_P(All, MalformedSafetensors, ::testing::ValuesIn(MalformedImages()),
                         [](const auto& row) {
                           std::string name = row.param.title;
                           for (char& c : name) {
                             if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
                           }
                           return name;
                         });

// The parser reads a copy of exactly that size, so that ASan sees one byte too far.
std::vector<char> ExactCopy(const std::string& text, size_t size) {
  return {text.begin(), text.begin() + static_cast<std::ptrdiff_t>(size)};
}

TEST(ParseSafetensors, RefusesAFileCutAtAnyByte) {
  const std::string image = GoodImage();
  for (size_t size = 0; size < image.size(); ++size) {
    const std::vector<char> cut = ExactCopy(image, size);
    EXPECT_THAT(ParseSafetensors(cut, "f"), Fails(kInvalid)) << size;
  }
}

TEST(ParseSafetensors, RefusesAFileWithAByteTooMany) {
  EXPECT_THAT(ParseImage(GoodImage() + " "), Fails(kInvalid, "trailing bytes"));
}

// Some changes give another valid file (a letter of a name); none may read out of bounds.
TEST(ParseSafetensors, SurvivesAnyChangedHeaderByte) {
  const std::string image = GoodImage();
  int refused = 0, accepted = 0;
  for (size_t at = 0; at < 8 + std::strlen(kHeader); ++at) {
    for (int flip = 1; flip < 256; ++flip) {
      std::vector<char> changed = ExactCopy(image, image.size());
      changed[at] = static_cast<char>(changed[at] ^ flip);
      const auto parsed = ParseSafetensors(changed, "f");
      ++(parsed.ok() ? accepted : refused);
      if (!parsed.ok()) continue;
      size_t bytes = 0;
      for (const TensorInfo& tensor : parsed->tensors()) bytes += tensor.bytes.size();
      ASSERT_EQ(bytes, 11u) << at << " ^ " << flip;
    }
  }
  EXPECT_GT(refused, accepted);
  EXPECT_GT(accepted, 0);
}

TEST(ParseSafetensors, PrintsHostileNamesEscapedAndShort) {
  const std::string name(5000, 'n');
  const auto parsed = ParseImage(Image(R"({"\u001b[31m)" + name + R"(":1})", ""));
  EXPECT_THAT(parsed, Fails(kInvalid, "tensor '\\033[31mnnn"));
  EXPECT_LT(parsed.status().message().size(), 300u);
}

TEST(SafetensorsFile, ReadsTheFileAndMovesWithoutLosingWhatItFound) {
  const TemporaryFolder folder;
  WriteAll(folder.File("m.safetensors"), GoodImage());
  auto file = SafetensorsFile::Open(folder.File("m.safetensors"));
  ASSERT_THAT(file, Succeeds());
  const TensorInfo* found = *file->Find("b");
  const SafetensorsFile moved = *std::move(file);
  EXPECT_EQ(*moved.Find("b"), found);
  EXPECT_THAT(found->bytes, ElementsAre('x', 'y', 'z'));
  EXPECT_EQ(found->file, folder.File("m.safetensors"));
}

TEST(SafetensorsFile, NamesThePathOfAFileItRefuses) {
  const TemporaryFolder folder;
  WriteAll(folder.File("empty"), "");
  EXPECT_THAT(SafetensorsFile::Open(folder.File("empty")),
              Fails(kInvalid, folder.File("empty") + ": a safetensors file has at least 8 bytes"));
  EXPECT_THAT(SafetensorsFile::Open(folder.path()), Fails(kInvalid, "got a folder"));
  EXPECT_THAT(SafetensorsFile::Open(folder.File("missing")),
              Fails(absl::StatusCode::kNotFound, folder.File("missing")));
}

}  // namespace
}  // namespace attnprune
