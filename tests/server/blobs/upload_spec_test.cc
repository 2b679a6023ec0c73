#include "server/blobs/upload_spec.h"

#include "tests/server/blobs/store_fixture.h"

namespace attnprune {
namespace {

UploadSpec Good() {
  return {.upload_id = "a", .sha256 = Sha256Of(std::string("x")), .size_bytes = 8, .dtype = "F32"};
}

TEST(Sha256, AgreesWithTheStandard) {
  EXPECT_EQ(Sha256Of(std::string("abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(Sha256Of({}), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

TEST(Sha256, OfPiecesIsThatOfTheWhole) {
  const std::string bytes = RandomBytes(200, 1);
  for (size_t cut = 0; cut <= bytes.size(); ++cut) {
    Sha256 hash;
    hash.Update(absl::MakeConstSpan(bytes).subspan(0, cut));
    hash.Update(absl::MakeConstSpan(bytes).subspan(cut));
    EXPECT_EQ(hash.Finish(), Sha256Of(bytes));
  }
}

TEST(UploadSpec, KeepsTheRules) { EXPECT_TRUE(CheckUploadSpec(Good()).ok()); }

TEST(UploadSpec, NamesTheFieldThatBreaksARule) {
  struct Row {
    const char* title;
    void (*spoil)(UploadSpec*);
    const char* field;
  };
  const Row rows[] = {
      {"no id", [](UploadSpec* s) { s->upload_id = ""; }, "header.upload_id"},
      {"a folder above", [](UploadSpec* s) { s->upload_id = "../x"; }, "header.upload_id"},
      {"a folder within", [](UploadSpec* s) { s->upload_id = "a/b"; }, "header.upload_id"},
      {"an absolute path", [](UploadSpec* s) { s->upload_id = "/etc/passwd"; }, "header.upload_id"},
      {"a zero byte", [](UploadSpec* s) { s->upload_id = std::string("a\0b", 3); },
       "header.upload_id"},
      {"a line end", [](UploadSpec* s) { s->upload_id = "a\n"; }, "header.upload_id"},
      {"129 characters", [](UploadSpec* s) { s->upload_id = std::string(129, 'a'); },
       "header.upload_id"},
      {"no digest", [](UploadSpec* s) { s->sha256 = ""; }, "header.sha256"},
      {"a short digest", [](UploadSpec* s) { s->sha256.pop_back(); }, "header.sha256"},
      {"a long digest", [](UploadSpec* s) { s->sha256 += "0"; }, "header.sha256"},
      {"capitals", [](UploadSpec* s) { s->sha256[5] = 'A'; }, "header.sha256"},
      {"a path as digest", [](UploadSpec* s) { s->sha256.replace(0, 3, "../"); }, "header.sha256"},
      {"no dtype", [](UploadSpec* s) { s->dtype = ""; }, "header.dtype"},
      {"a dtype that jobs do not take", [](UploadSpec* s) { s->dtype = "I64"; }, "header.dtype"},
      {"nothing", [](UploadSpec* s) { s->size_bytes = 0; }, "header.size_bytes"},
      {"less than nothing", [](UploadSpec* s) { s->size_bytes = -8; }, "header.size_bytes"},
      {"half a float", [](UploadSpec* s) { s->size_bytes = 6; }, "header.size_bytes"},
  };
  for (const Row& row : rows) {
    UploadSpec spec = Good();
    row.spoil(&spec);
    EXPECT_THAT(CheckUploadSpec(spec), Refuses(absl::StatusCode::kInvalidArgument, row.field))
        << row.title;
  }
}

TEST(UploadSpec, TakesIdsOfDotsAnd128Characters) {
  for (const std::string& id : {std::string("."), std::string(".."), std::string(128, 'z')}) {
    EXPECT_TRUE(IsUploadId(id)) << id;
  }
}

TEST(Sidecar, ComesBackAsItWas) { EXPECT_EQ(ParseSidecar("a", FormatSidecar(Good())), Good()); }

TEST(Sidecar, IsRefusedWhenTornAnywhere) {
  const std::string line = FormatSidecar(Good());
  for (size_t length = 0; length < line.size(); ++length) {
    EXPECT_EQ(ParseSidecar("a", line.substr(0, length)), absl::nullopt) << length;
  }
  EXPECT_EQ(ParseSidecar("a", line + "x"), absl::nullopt);
  EXPECT_EQ(ParseSidecar("a", "attnprune-upload-2" + line.substr(18)), absl::nullopt);
}

}  // namespace
}  // namespace attnprune
