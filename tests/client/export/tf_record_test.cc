#include "client/export/tf_record.h"

#include <string>

#include "absl/strings/escaping.h"
#include "gtest/gtest.h"

namespace attnprune::exporting {
namespace {

// A file that another program wrote: data.tfrecord of the npm package "tfrecord" 0.2.0, an Example
// with the features answer = 42, pi = 3.14 and name = "ABC".
constexpr char kForeignFile[] =
    "34000000000000005e33175c"
    "0a320a0f0a06616e7377657212051a03"
    "0a012a0a0e0a02706912081206"
    "0a04c3f548400a0f0a046e616d6512070a050a03414243"
    "f9516db6";

TEST(TfRecord, IsByteForByteWhatAnotherProgramWrites) {
  const std::string file = absl::HexStringToBytes(kForeignFile);
  ASSERT_EQ(file.size(), 12u + 0x34 + 4);
  EXPECT_EQ(absl::BytesToHexString(TfRecord(file.substr(12, 0x34))), kForeignFile);
}

// crc32c of eight zero bytes is 0x8C28B28A and of nothing 0.
TEST(TfRecord, OfNothingIsItsLengthAndTwoChecksums) {
  EXPECT_EQ(absl::BytesToHexString(TfRecord("")),
            "0000000000000000"
            "29039807"
            "d8ea82a2");
}

}  // namespace
}  // namespace attnprune::exporting
