#include "core/io/npy.h"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "tests/core/io/invalid.h"
#include "tests/core/tensor/tensor_test_util.h"

namespace attnprune {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// A version 1.0 image with that dict and those bytes.
std::string Npy(const std::string& dict, const std::string& data) {
  const std::string header = dict + "\n";
  return "\x93NUMPY" + std::string("\1\0", 2) + LittleEndian(static_cast<uint16_t>(header.size())) +
         header + data;
}

std::string Dict(const std::string& descr, const std::string& order, const std::string& shape) {
  return "{'descr': '" + descr + "', 'fortran_order': " + order + ", 'shape': " + shape + ", }";
}

// Floats 0, 1, 2, ...
std::string Floats(int count) {
  std::string bytes;
  for (int i = 0; i < count; ++i) bytes += LittleEndian(static_cast<float>(i));
  return bytes;
}

absl::StatusOr<NpyArray> Parse(const std::string& image) { return ParseNpy(Bytes(image), "x.npy"); }

TEST(ParseNpy, ReadsAMatrixInCOrder) {
  const auto array = Parse(Npy(Dict("<f4", "False", "(2, 3)"), Floats(6)));
  ASSERT_THAT(array, Succeeds());
  EXPECT_THAT(array->shape, ElementsAre(2, 3));
  EXPECT_EQ(array->dtype, DType::kF32);
  EXPECT_EQ(array->values.rows(), 2);
  EXPECT_THAT(array->values.flat(), ElementsAre(0, 1, 2, 3, 4, 5));
}

TEST(ParseNpy, TurnsAFortranMatrixRound) {
  const auto array = Parse(Npy(Dict("<f4", "True", "(2, 3)"), Floats(6)));
  ASSERT_THAT(array, Succeeds());
  EXPECT_THAT(array->values.flat(), ElementsAre(0, 2, 4, 1, 3, 5));
}

// numpy.arange(12).reshape((2, 3, 2), order='F').ravel()
TEST(ParseNpy, TurnsAFortranStackRound) {
  const auto array = Parse(Npy(Dict("<f4", "True", "(2, 3, 2)"), Floats(12)));
  ASSERT_THAT(array, Succeeds());
  EXPECT_EQ(array->values.rows(), 6);
  EXPECT_EQ(array->values.cols(), 2);
  EXPECT_THAT(array->values.flat(), ElementsAre(0, 6, 2, 8, 4, 10, 1, 7, 3, 9, 5, 11));
}

TEST(ParseNpy, ReadsAVectorInEitherOrder) {
  for (const char* order : {"False", "True"}) {
    const auto array = Parse(Npy(Dict("<f4", order, "(3,)"), Floats(3)));
    ASSERT_THAT(array, Succeeds());
    EXPECT_THAT(array->shape, ElementsAre(3));
    EXPECT_THAT(array->values.flat(), ElementsAre(0, 1, 2));
  }
}

TEST(ParseNpy, ConvertsDoublesAndHalves) {
  const auto doubles = Parse(Npy(Dict("<f8", "False", "(1,)"), LittleEndian(0.1)));
  ASSERT_THAT(doubles, Succeeds());
  EXPECT_THAT(doubles->values.flat(), ElementsAre(0.1f));
  const auto halves = Parse(Npy(Dict("<f2", "False", "(1,)"), LittleEndian<uint16_t>(0xC000)));
  ASSERT_THAT(halves, Succeeds());
  EXPECT_EQ(halves->dtype, DType::kF16);
  EXPECT_THAT(halves->values.flat(), ElementsAre(-2.0f));
}

TEST(ParseNpy, TakesNativeOrderForLittleEndian) {
  for (const char* descr : {"=f4", "|f4"}) {
    EXPECT_THAT(Parse(Npy(Dict(descr, "False", "(1,)"), Floats(1))), Succeeds()) << descr;
  }
}

TEST(ParseNpy, ReadsVersions2And3) {
  const std::string header = Dict("<f4", "False", "(2,)") + "   \n";
  for (const char major : {'\2', '\3'}) {
    const std::string image = "\x93NUMPY" + std::string({major, '\0'}) +
                              LittleEndian(static_cast<uint32_t>(header.size())) + header +
                              Floats(2);
    const auto array = Parse(image);
    ASSERT_THAT(array, Succeeds());
    EXPECT_THAT(array->values.flat(), ElementsAre(0, 1));
  }
}

TEST(ParseNpy, TakesTheLiteralAsPythonWould) {
  const char* dicts[] = {
      "{'shape': (2, 1), 'fortran_order': False, 'descr': '<f4'}",
      "{ \"descr\" : \"<f4\" , 'fortran_order':False,'shape':(2,1,),}    ",
      "  {'descr':'<f4','fortran_order':False,'shape':( 2 , 1 )}",
  };
  for (const char* dict : dicts) EXPECT_THAT(Parse(Npy(dict, Floats(2))), Succeeds()) << dict;
}

TEST(ParseNpy, AllowsArraysWithoutElements) {
  const auto array = Parse(Npy(Dict("<f4", "True", "(0, 3)"), ""));
  ASSERT_THAT(array, Succeeds());
  EXPECT_THAT(array->values.flat(), IsEmpty());
}

TEST(ParseNpy, RefusesMalformedFilesNamingFileAndRule) {
  const std::string good = Dict("<f4", "False", "(2,)");
  const std::string longer = Dict("<f4", "False", "(4611686018427387904, 4)");
  const std::pair<std::string, const char*> rows[] = {
      {"", "file must begin with \\x93NUMPY"},
      {"\x93NUMPx" + std::string("\1\0\0\0", 4), "file must begin with"},
      {"\x93NUMPY\1", "file ends within the version"},
      {"\x93NUMPY" + std::string("\0\0\0\0", 4), "version must be 1.0, 2.0 or 3.0, got 0.0"},
      {"\x93NUMPY" + std::string("\4\0\0\0", 4), "got 4.0"},
      {"\x93NUMPY" + std::string("\1\1\0\0", 4), "got 1.1"},
      {"\x93NUMPY" + std::string("\1\0\0", 3), "file ends within the header length"},
      {"\x93NUMPY" + std::string("\2\0\0\0\0", 5), "file ends within the header length"},
      {"\x93NUMPY" + std::string("\1\0\5\0{}", 6), "got 5 with 2 bytes left"},
      {"\x93NUMPY" + std::string("\2\0\xff\xff\xff\xff{}", 8), "got 4294967295 with 2 bytes left"},
      {"\x93NUMPY" + std::string("\1\0\0\0", 4), "header must end with a line break"},
      {"\x93NUMPY" + std::string("\1\0\2\0{}", 6), "header must end with a line break"},
      {Npy("", ""), "expected '{', got the end of the header"},
      {Npy("[]", ""), "expected '{', got '[]'"},
      {Npy("{}", ""), "key 'descr' is missing"},
      {Npy("{'descr': '<f4'}", ""), "key 'fortran_order' is missing"},
      {Npy("{'descr': '<f4', 'fortran_order': False}", ""), "key 'shape' is missing"},
      {Npy("{'descr': '<f4', 'descr': '<f4'}", ""), "key 'descr' appears twice"},
      {Npy("{'x': 1}", ""), "key 'x' is unknown"},
      {Npy("{,}", ""), "expected a string, got ',}'"},
      {Npy("{'descr", ""), "must close every string"},
      {Npy("{'d\\x65scr': '<f4'}", ""), "must have no escapes"},
      {Npy("{'descr' '<f4'}", ""), "expected ':'"},
      {Npy("{'descr': '<f4' 'shape': ()}", ""), "expected '}'"},
      {Npy(good + "x", Floats(2)), "expected the end of the header, got 'x'"},
      {Npy(good + "\n", Floats(2)), "expected the end of the header"},
      {Npy(Dict("<f4", "false", "(2,)"), Floats(2)), "fortran_order: must be True or False"},
      {Npy(Dict("<f4", "0", "(2,)"), Floats(2)), "fortran_order: must be True or False"},
      {Npy(Dict(">f4", "False", "(2,)"), Floats(2)), "descr '>f4': big-endian data is not"},
      {Npy(Dict("<i4", "False", "(2,)"), Floats(2)), "must be '<f8', '<f4' or '<f2', got '<i4'"},
      {Npy(Dict("<f16", "False", "(2,)"), Floats(2)), "got '<f16'"},
      {Npy(Dict("f4", "False", "(2,)"), Floats(2)), "got 'f4'"},
      {Npy(Dict("", "False", "(2,)"), Floats(2)), "got ''"},
      {Npy("{'descr': [('a', '<f4')]}", ""), "descr: expected a string"},
      {Npy(Dict("<f4", "False", "()"), Floats(1)), "1 to 3 dimensions, got []"},
      {Npy(Dict("<f4", "False", "(1, 1, 1, 1)"), Floats(1)), "got [1, 1, 1, 1]"},
      {Npy(Dict("<f4", "False", "(2)"), Floats(2)), "shape: must be a tuple"},
      {Npy(Dict("<f4", "False", "2"), Floats(2)), "shape: expected '('"},
      {Npy(Dict("<f4", "False", "(2 1)"), Floats(2)), "shape: expected ',' or ')'"},
      {Npy(Dict("<f4", "False", "(,)"), Floats(2)), "shape: expected a non-negative integer"},
      {Npy(Dict("<f4", "False", "(-2,)"), Floats(2)), "shape: expected a non-negative integer"},
      {Npy(Dict("<f4", "False", "(2.0,)"), Floats(2)), "shape: expected ',' or ')'"},
      {Npy(Dict("<f4", "False", "(9223372036854775808,)"), ""), "below 2^63"},
      {Npy(longer, ""), "overflows 63 bits"},
      {Npy(good, Floats(1)), "shape [2] of F32 takes 8 bytes, but 4 follow the header"},
      {Npy(good, Floats(3)), "takes 8 bytes, but 12 follow the header"},
  };
  for (const auto& [image, phrase] : rows) {
    const auto array = Parse(image);
    EXPECT_THAT(array, Fails(kInvalid, phrase)) << phrase;
    EXPECT_THAT(array, Fails(kInvalid, "x.npy: ")) << phrase;
  }
}

TEST(ParseNpy, RefusesAFileCutAtAnyByte) {
  const std::string image = Npy(Dict("<f4", "True", "(2, 2)"), Floats(4));
  for (size_t size = 0; size < image.size(); ++size) {
    const std::vector<char> cut(image.begin(), image.begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_THAT(ParseNpy(cut, "f"), Fails(kInvalid)) << size;
  }
}

TEST(ParseNpy, SurvivesAnyChangedByte) {
  const std::string image = Npy(Dict("<f4", "True", "(2, 2)"), Floats(4));
  for (size_t at = 0; at < image.size() - 16; ++at) {
    for (int flip = 1; flip < 256; ++flip) {
      std::vector<char> changed(image.begin(), image.end());
      changed[at] = static_cast<char>(changed[at] ^ flip);
      const auto array = ParseNpy(changed, "f");
      if (!array.ok()) continue;
      ASSERT_LE(array->values.size(), 8) << at << " ^ " << flip;
    }
  }
}

TEST(ReadNpy, ReadsAFileAndNamesTheOneItCannot) {
  const TemporaryFolder folder;
  WriteAll(folder.File("x.npy"), Npy(Dict("<f4", "False", "(2,)"), Floats(2)));
  EXPECT_THAT(ReadNpy(folder.File("x.npy")), Succeeds());
  EXPECT_THAT(ReadNpy(folder.File("y.npy")),
              Fails(absl::StatusCode::kNotFound, folder.File("y.npy")));
}

}  // namespace
}  // namespace attnprune
