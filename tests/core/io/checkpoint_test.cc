#include "core/io/checkpoint.h"

#include <utility>

#include "tests/core/io/invalid.h"
#include "tests/core/tensor/tensor_test_util.h"

namespace attnprune {
namespace {

using ::testing::ElementsAre;

// Writes a file of tensors with these names, each of two bytes: its name's first letter twice.
void WriteShard(const std::string& path, const std::vector<std::string>& names) {
  std::vector<std::string> bytes;
  for (const std::string& name : names) bytes.push_back(std::string(2, name[0]));
  std::vector<TensorInfo> tensors;
  for (size_t i = 0; i < names.size(); ++i) {
    tensors.push_back({names[i], DType::kU8, {2}, Bytes(bytes[i]), ""});
  }
  ASSERT_THAT(WriteSafetensors(path, tensors), Succeeds());
}

// Two shards, "1" with a and b, "2" with c, and an index.
class ShardedCheckpoint : public ::testing::Test {
 protected:
  ShardedCheckpoint() {
    WriteShard(folder_.File("1.safetensors"), {"a", "b"});
    WriteShard(folder_.File("2.safetensors"), {"c"});
    WriteIndex(R"({"metadata": {"total_size": 6}, "weight_map": )"
               R"({"a": "1.safetensors", "b": "1.safetensors", "c": "2.safetensors"}})");
  }
  std::string Index() const { return folder_.File("model.safetensors.index.json"); }
  void WriteIndex(const std::string& json) const { WriteAll(Index(), json); }

  TemporaryFolder folder_;
};

TEST_F(ShardedCheckpoint, FindsTensorsAcrossShards) {
  const auto checkpoint = Checkpoint::Open(folder_.path());
  ASSERT_THAT(checkpoint, Succeeds());
  EXPECT_THAT(checkpoint->names(), ElementsAre("a", "b", "c"));
  EXPECT_THAT((*checkpoint->Find("c"))->bytes, ElementsAre('c', 'c'));
  EXPECT_EQ(*checkpoint->ShardOf("b"), folder_.File("1.safetensors"));
  EXPECT_EQ(*checkpoint->ShardOf("c"), folder_.File("2.safetensors"));
  EXPECT_THAT(checkpoint->shards(),
              ElementsAre(folder_.File("1.safetensors"), folder_.File("2.safetensors")));
}

TEST_F(ShardedCheckpoint, OpensByTheIndexItself) {
  const auto checkpoint = Checkpoint::Open(Index());
  ASSERT_THAT(checkpoint, Succeeds());
  EXPECT_TRUE(checkpoint->Contains("a"));
  EXPECT_FALSE(checkpoint->Contains("d"));
}

TEST_F(ShardedCheckpoint, OpensAFolderWithASlashAtItsEnd) {
  EXPECT_THAT(Checkpoint::Open(folder_.path() + "/"), Succeeds());
}

TEST_F(ShardedCheckpoint, KeepsWhatItFoundWhenMoved) {
  auto checkpoint = Checkpoint::Open(folder_.path());
  ASSERT_THAT(checkpoint, Succeeds());
  const TensorInfo* found = *checkpoint->Find("c");
  const Checkpoint moved = *std::move(checkpoint);
  EXPECT_EQ(*moved.Find("c"), found);
  EXPECT_THAT(found->bytes, ElementsAre('c', 'c'));
}

TEST_F(ShardedCheckpoint, NamesTheIndexWhenATensorIsMissing) {
  const auto checkpoint = Checkpoint::Open(folder_.path());
  ASSERT_THAT(checkpoint, Succeeds());
  EXPECT_THAT(checkpoint->Find("nothing"),
              Fails(absl::StatusCode::kNotFound, Index() + ": no tensor 'nothing' among its 3"));
  EXPECT_THAT(checkpoint->ShardOf("nothing"), Fails(absl::StatusCode::kNotFound));
}

TEST_F(ShardedCheckpoint, LeavesOutTensorsThatTheIndexDoesNotList) {
  WriteIndex(R"({"weight_map": {"a": "1.safetensors"}})");
  const auto checkpoint = Checkpoint::Open(folder_.path());
  ASSERT_THAT(checkpoint, Succeeds());
  EXPECT_THAT(checkpoint->names(), ElementsAre("a"));
}

TEST_F(ShardedCheckpoint, MissesAShardOnlyOnceATensorOfItIsAskedFor) {
  WriteIndex(R"({"weight_map": {"a": "1.safetensors", "x": "3.safetensors"}})");
  const auto checkpoint = Checkpoint::Open(folder_.path());
  ASSERT_THAT(checkpoint, Succeeds());
  EXPECT_THAT(checkpoint->Find("a"), Succeeds());
  EXPECT_TRUE(checkpoint->Contains("x"));
  EXPECT_THAT(checkpoint->names(), ElementsAre("a", "x"));
  EXPECT_THAT(checkpoint->shards(),
              ElementsAre(folder_.File("1.safetensors"), folder_.File("3.safetensors")));
  EXPECT_THAT(checkpoint->Find("x"), Fails(absl::StatusCode::kNotFound,
                                           "weight_map: tensor 'x': shard '3.safetensors': "));
  EXPECT_THAT(checkpoint->ShardOf("x"),
              Fails(absl::StatusCode::kNotFound,
                    folder_.File("3.safetensors") + ": cannot open: No such file"));
}

TEST_F(ShardedCheckpoint, TakesAGitLfsPointerForAMissingShard) {
  WriteAll(folder_.File("2.safetensors"), "version https://git-lfs.github.com/spec/v1\n");
  const auto checkpoint = Checkpoint::Open(folder_.path());
  ASSERT_THAT(checkpoint, Succeeds());
  EXPECT_THAT(checkpoint->Find("b"), Succeeds());
  EXPECT_THAT(checkpoint->Find("c"), Fails(absl::StatusCode::kNotFound, "git lfs pull"));
}

TEST(Checkpoint, SaysHowToConvertAFolderOfPyTorchsWeights) {
  const TemporaryFolder folder;
  WriteAll(folder.File("pytorch_model.bin"), "PK");
  EXPECT_THAT(Checkpoint::Open(folder.path()),
              Fails(absl::StatusCode::kNotFound, "it has pytorch_model.bin, of PyTorch: convert"));
}

TEST_F(ShardedCheckpoint, RefusesACorruptShard) {
  WriteAll(folder_.File("2.safetensors"), "broken");
  EXPECT_THAT(Checkpoint::Open(folder_.path()),
              Fails(kInvalid, "tensor 'c': shard '2.safetensors'"));
  EXPECT_THAT(Checkpoint::Open(folder_.path()), Fails(kInvalid, "at least 8 bytes, got 6"));
}

TEST_F(ShardedCheckpoint, RefusesATensorThatItsShardDoesNotHold) {
  WriteIndex(R"({"weight_map": {"a": "1.safetensors", "c": "1.safetensors"}})");
  EXPECT_THAT(
      Checkpoint::Open(folder_.path()),
      Fails(kInvalid, Index() + ": weight_map: tensor 'c': shard '1.safetensors' does not hold"));
}

TEST_F(ShardedCheckpoint, RefusesATensorInTwoShards) {
  WriteShard(folder_.File("2.safetensors"), {"a", "c"});
  EXPECT_THAT(
      Checkpoint::Open(folder_.path()),
      Fails(kInvalid, Index() + ": tensor 'a': must be in one shard only, is in " +
                          folder_.File("1.safetensors") + " and " + folder_.File("2.safetensors")));
}

TEST_F(ShardedCheckpoint, RefusesMalformedIndexes) {
  const std::pair<const char*, const char*> rows[] = {
      {"", "JSON is empty"},
      {"[]", "JSON must be an object"},
      {"{", "not valid JSON"},
      {"{}", "key 'weight_map' must be there and hold an object"},
      {R"({"weight_map": []})", "key 'weight_map' must be there and hold an object"},
      {R"({"weight_map": {"a": 1}})", "tensor 'a': shard must be a string, got number"},
      {R"({"weight_map": {"a": "1.safetensors", "a": "1.safetensors"}})", "key 'a' appears twice"},
      {R"({"weight_map": {}, "weight_map": {}})", "key 'weight_map' appears twice"},
      {R"({"weight_map": {"a": ""}})", "shard must be the plain name of a file"},
      {R"({"weight_map": {"a": ".."}})", "shard must be the plain name of a file"},
      {R"({"weight_map": {"a": "../1.safetensors"}})", "got '../1.safetensors'"},
      {R"({"weight_map": {"a": "/etc/passwd"}})", "got '/etc/passwd'"},
      {R"({"weight_map": {"a": "x/1.safetensors"}})", "got 'x/1.safetensors'"},
      {R"({"weight_map": {"a": "1.safetensors\u0000"}})", "got '1.safetensors\\000'"},
  };
  for (const auto& [json, phrase] : rows) {
    WriteIndex(json);
    EXPECT_THAT(Checkpoint::Open(folder_.path()), Fails(kInvalid, phrase)) << json;
    EXPECT_THAT(Checkpoint::Open(folder_.path()), Fails(kInvalid, Index() + ": ")) << json;
  }
}

TEST(SingleFileCheckpoint, OpensByFileAndByFolder) {
  const TemporaryFolder folder;
  WriteShard(folder.File("model.safetensors"), {"a"});
  for (const std::string& path : {folder.path(), folder.File("model.safetensors")}) {
    const auto checkpoint = Checkpoint::Open(path);
    ASSERT_THAT(checkpoint, Succeeds());
    EXPECT_EQ(*checkpoint->ShardOf("a"), folder.File("model.safetensors"));
  }
}

TEST(SingleFileCheckpoint, TakesTheFileBeforeTheIndex) {
  const TemporaryFolder folder;
  WriteShard(folder.File("model.safetensors"), {"a"});
  WriteAll(folder.File("model.safetensors.index.json"), "not read");
  EXPECT_THAT(Checkpoint::Open(folder.path()), Succeeds());
}

TEST(SingleFileCheckpoint, SaysWhatAFolderLacks) {
  const TemporaryFolder folder;
  EXPECT_THAT(Checkpoint::Open(folder.path()),
              Fails(absl::StatusCode::kNotFound,
                    folder.path() + ": folder holds neither model.safetensors nor"));
  EXPECT_THAT(Checkpoint::Open(folder.File("gone")), Fails(absl::StatusCode::kNotFound));
}

}  // namespace
}  // namespace attnprune
