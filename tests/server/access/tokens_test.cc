// Tokens, and the file that says whose they are.
#include "server/access/tokens.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <set>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tests/server/queue/test_places.h"

namespace attnprune::access {
namespace {

using attnprune::testing::ReadAll;
using attnprune::testing::ScratchFolder;
using attnprune::testing::WriteAll;
using ::testing::HasSubstr;
using ::testing::MatchesRegex;
using ::testing::Not;

const std::string& kHash = *new std::string(64, 'a');

std::string WhyRefused(const std::string& text) {
  return std::string(TokenTable::Parse(text).status().message());
}

TEST(Tokens, AreOf256BitsInBase64urlAndNeverTheSame) {
  std::set<std::string> seen;
  for (int i = 0; i < 100; ++i) {
    const std::string token = *NewToken();
    EXPECT_THAT(token, MatchesRegex("atp_[A-Za-z0-9_-]{43}"));
    EXPECT_TRUE(seen.insert(token).second);
  }
}

TEST(TokenTable, FindsWhoseATokenIs) {
  const std::string token = *NewToken();
  const Caller ci{.tenant = "vision-2", .role = Role::kSubmitter, .name = "ci"};
  const std::string text =
      absl::StrCat("# who may\n\n", *TokenLine(HashOfToken(token), ci), kHash, " ops admin\n");
  EXPECT_THAT(text, Not(HasSubstr(token)));
  const absl::StatusOr<TokenTable> table = TokenTable::Parse(text);
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ(table->size(), 2U);
  const Caller* const found = table->Find(HashOfToken(token));
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->tenant, "vision-2");
  EXPECT_EQ(found->role, Role::kSubmitter);
  EXPECT_EQ(found->name, "ci");
  EXPECT_EQ(table->Find(kHash)->name, "");
  EXPECT_EQ(table->Find(HashOfToken("atp_another")), nullptr);
  EXPECT_EQ(table->Find(HashOfToken("")), nullptr);
  EXPECT_EQ(table->Find(HashOfToken(std::string(1 << 20, 'x'))), nullptr) << "not even hashed";
}

TEST(TokenTable, RefusesALineByItsNumberAndRule) {
  const std::string good = absl::StrCat(kHash, " t reader\n");
  struct Row {
    std::string line, rule;
  };
  const Row rows[] = {
      {kHash, "HASH TENANT ROLE"},
      {kHash + " t", "HASH TENANT ROLE"},
      {kHash + "  t reader", "role must be"},
      {kHash + " t reader a b", "HASH TENANT ROLE"},
      {"abc t reader", "64 digits"},
      {std::string(64, 'A') + " t reader", "64 digits"},
      {std::string(63, 'b') + "g t reader", "64 digits"},
      {std::string(64, 'b') + " T reader", "tenant must be 1 to 63"},
      {std::string(64, 'b') + " a@b reader", "tenant must be 1 to 63"},
      {std::string(64, 'b') + " " + std::string(64, 't') + " reader", "tenant must be 1 to 63"},
      {std::string(64, 'b') + " t root", "role must be reader, submitter or admin"},
      {std::string(64, 'b') + " t Reader", "role must be"},
      {std::string(64, 'b') + " t reader ", "name must not be empty"},
      {std::string(64, 'b') + " t reader \x1b[2J", "name must be at most 63"},
      {std::string(64, 'b') + " t reader\r", "role must be"},
      {kHash + " other admin", "line 1 too"},
  };
  for (const Row& row : rows) {
    const std::string why = WhyRefused(good + row.line + "\n");
    EXPECT_THAT(why, HasSubstr("line 2: ")) << row.line;
    EXPECT_THAT(why, HasSubstr(row.rule)) << row.line;
  }
  EXPECT_THAT(WhyRefused(std::string(kMaxTokenFileBytes + 1, '#')), HasSubstr("at most"));
}

TEST(TokenTable, DoesNotRepeatATokenThatWasPutWhereItsHashBelongs) {
  const std::string token = *NewToken();
  EXPECT_THAT(WhyRefused(token + " t reader\n"), Not(HasSubstr(token.substr(4))));
}

TEST(TokenFile, IsMadeForItsOwnerOnlyAndKeepsWhatItHad) {
  const ScratchFolder folder;
  const std::string path = folder / "tokens";
  ASSERT_TRUE(AppendToTokenFile(path, kHash + " a reader\n").ok());
  struct stat facts;
  ASSERT_EQ(stat(path.c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 07777, 0600U);
  ASSERT_EQ(chmod(path.c_str(), 0640), 0);
  const std::string second = std::string(64, 'b') + " b admin root\n";
  ASSERT_TRUE(AppendToTokenFile(path, second).ok());
  EXPECT_EQ(ReadAll(path), kHash + " a reader\n" + second);
  ASSERT_EQ(stat(path.c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 07777, 0640U) << "as the operator has set it";
}

TEST(TokenFile, IsLeftAloneWhereItWouldNotBeOne) {
  const ScratchFolder folder;
  const std::string path = folder / "notes";
  WriteAll(path, "buy milk");
  const absl::Status status = AppendToTokenFile(path, kHash + " a reader\n");
  EXPECT_THAT(std::string(status.message()), HasSubstr("line 1"));
  EXPECT_EQ(ReadAll(path), "buy milk");
}

TEST(TokenFile, EndsALineThatHasNoEnd) {
  const ScratchFolder folder;
  const std::string path = folder / "tokens";
  WriteAll(path, "# by hand");
  ASSERT_TRUE(AppendToTokenFile(path, kHash + " a reader\n").ok());
  EXPECT_EQ(ReadAll(path), "# by hand\n" + kHash + " a reader\n");
}

}  // namespace
}  // namespace attnprune::access
