#include "core/io/sha256.h"

#include <gtest/gtest.h>

#include <string>

#include "core/io/background_sha256.h"

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

TEST(BackgroundSha256, IsThatOfItsBytesHoweverManyPieces) {
  for (const int pieces : {0, 1, 2, 100}) {
    std::string bytes;
    BackgroundSha256 hash;
    for (int i = 0; i < pieces; ++i) {
      const std::string piece(static_cast<size_t>(i) * 10, static_cast<char>(i));
      bytes += piece;
      hash.Update(piece);
    }
    EXPECT_EQ(hash.Finish(), Sha256Of(bytes)) << pieces;
  }
}

TEST(BackgroundSha256, IsLeftInItsMiddle) {
  BackgroundSha256 hash;
  for (int i = 0; i < 10; ++i) hash.Update(std::string(100'000, 'x'));
}

}  // namespace
}  // namespace attnprune
