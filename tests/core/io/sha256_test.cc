#include "core/io/sha256.h"

#include <gtest/gtest.h>

namespace attnprune {
namespace {

TEST(Sha256, OfAbcIsTheStandardsExample) {  // FIPS 180-2
  EXPECT_EQ(Sha256Of(absl::Span<const char>("abc", 3)),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Sha256, OfAStreamIsThatOfItsBytes) {
  Sha256 hash;
  hash.Update(absl::Span<const char>("a", 1));
  hash.Update({});
  hash.Update(absl::Span<const char>("bc", 2));
  EXPECT_EQ(hash.Finish(), Sha256Of(absl::Span<const char>("abc", 3)));
}

}  // namespace
}  // namespace attnprune
