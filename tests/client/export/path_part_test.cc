#include "client/export/path_part.h"

#include "gtest/gtest.h"

namespace attnprune::exporting {
namespace {

TEST(PathPart, LeavesTheLabelsThatServersGive) {
  for (const char* label : {"gd", "gd#2", "wanda+refit", "a.b-c_d"}) {
    EXPECT_EQ(PathPart(label), label);
  }
}

TEST(PathPart, NeverLeadsOutOfItsFolder) {
  EXPECT_EQ(PathPart(""), "_");
  EXPECT_EQ(PathPart("."), "_.");
  EXPECT_EQ(PathPart(".."), "_..");
  EXPECT_EQ(PathPart("../../etc"), "_.._.._etc");
  EXPECT_EQ(PathPart("/etc/passwd"), "_etc_passwd");
  EXPECT_EQ(PathPart(absl::string_view("a\0b\n", 4)), "a_b_");
  EXPECT_EQ(PathPart("é"), "__") << "a byte each";
}

}  // namespace
}  // namespace attnprune::exporting
