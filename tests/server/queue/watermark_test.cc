#include "server/queue/watermark.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <string>

#include "tests/server/queue/test_places.h"

namespace attnprune {
namespace {

using ::testing::HasSubstr;
using testing::ReadAll;
using testing::ScratchFolder;
using testing::WriteAll;

Watermark Mark(int64_t changes, int64_t accepted) { return {42, changes, accepted}; }

TEST(Watermark, IsReadBackAsItWasWrittenLast) {
  ScratchFolder folder;
  EXPECT_EQ(*WatermarkFile::Read(folder / "mark"), absl::nullopt);
  absl::StatusOr<WatermarkFile> file = WatermarkFile::Make(folder / "mark", Mark(0, 0));
  ASSERT_TRUE(file.ok()) << file.status();
  for (int changes = 1; changes <= 5; ++changes) {
    ASSERT_TRUE(file->Write(Mark(changes, changes / 2), Durability::kSynced).ok());
    EXPECT_EQ(*WatermarkFile::Read(folder / "mark"), Mark(changes, changes / 2));
  }
}

TEST(Watermark, TellsTheOneBeforeWhereAWriteWasCutShort) {
  ScratchFolder folder;
  absl::StatusOr<WatermarkFile> file = WatermarkFile::Make(folder / "mark", Mark(6, 3));
  ASSERT_TRUE(file->Write(Mark(7, 4), Durability::kWrittenBack).ok());
  ASSERT_TRUE(file->Write(Mark(8, 4), Durability::kWrittenBack).ok());
  std::string bytes = ReadAll(folder / "mark");
  for (size_t kept = 0; kept < 60; kept += 7) {
    WriteAll(folder / "mark",
             bytes.substr(0, kept) + std::string(128 - kept, '\0') + bytes.substr(128));
    const auto mark = WatermarkFile::Read(folder / "mark");
    ASSERT_TRUE(mark.ok()) << mark.status();
    EXPECT_TRUE(*mark == Mark(7, 4) || *mark == Mark(8, 4)) << kept;
  }
}

TEST(Watermark, ThatIsWhollyDamagedIsNoMark) {
  ScratchFolder folder;
  ASSERT_TRUE(WatermarkFile::Make(folder / "mark", Mark(6, 3)).ok());
  std::string bytes = ReadAll(folder / "mark");
  for (const size_t at : {size_t{25}, size_t{4096 + 25}}) bytes[at] ^= 1;
  WriteAll(folder / "mark", bytes);
  const absl::Status status = WatermarkFile::Read(folder / "mark").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
  EXPECT_THAT(std::string(status.message()), HasSubstr("neither of its lines is whole"));
}

TEST(Watermark, IsItsOwnersAlone) {
  ScratchFolder folder;
  const mode_t before = umask(0);
  ASSERT_TRUE(WatermarkFile::Make(folder / "mark", Mark(0, 0)).ok());
  umask(before);
  struct stat facts;
  ASSERT_EQ(stat((folder / "mark").c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0777, 0600u);
}

TEST(DescribeLoss, IsNothingWhereTheDatabaseHasAllOrMore) {
  EXPECT_EQ(DescribeLoss(Mark(7, 3), Mark(7, 3), "db"), absl::nullopt);
  EXPECT_EQ(DescribeLoss(Mark(7, 3), Mark(9, 4), "db"), absl::nullopt) << "a crash before the mark";
}

TEST(DescribeLoss, SaysHowManyJobsAreMissing) {
  EXPECT_THAT(*DescribeLoss(Mark(7, 3), Mark(2, 1), "db"),
              HasSubstr("db lacks its last 5 changes, among them 2 accepted jobs of 3"));
  EXPECT_THAT(*DescribeLoss(Mark(7, 3), Mark(6, 3), "db"), HasSubstr("0 accepted jobs of 3"));
  EXPECT_EQ(*DescribeLoss(Mark(7, 1), absl::nullopt, "db"),
            "db is missing, and with it 1 accepted job");
}

TEST(DescribeLoss, TellsAnotherDatabaseThatHasComeFurther) {
  const Watermark other = {43, 900, 300};
  EXPECT_THAT(*DescribeLoss(Mark(7, 3), other, "db"),
              HasSubstr("is not the one that this folder's"));
}

}  // namespace
}  // namespace attnprune
