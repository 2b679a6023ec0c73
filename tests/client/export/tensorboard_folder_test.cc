#include "client/export/tensorboard_folder.h"

#include <sys/resource.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>

#include "client/export/tf_record.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/export/events.h"
#include "tests/server/api/temporary_folder.h"

namespace attnprune::exporting {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;

std::string ReadFile(const fs::path& path) {
  std::ostringstream text;
  text << std::ifstream(path, std::ios::binary).rdbuf();
  return text.str();
}

// "version", "start 3", "4" a record; fails where a record is not what TfRecord makes.
std::vector<std::string> Records(const fs::path& path) {
  const std::string bytes = ReadFile(path);
  std::vector<std::string> records;
  for (size_t at = 0; at < bytes.size();) {
    const size_t size =
        static_cast<unsigned char>(bytes[at]) + 256u * static_cast<unsigned char>(bytes[at + 1]);
    const std::string data = bytes.substr(at + 12, size);
    EXPECT_EQ(bytes.substr(at, size + 16), TfRecord(data));
    tensorboard::Event event;
    EXPECT_TRUE(event.ParseFromString(data));
    const std::string step = std::to_string(event.step());
    records.push_back(event.has_session_log() ? "start " + step
                      : event.has_summary()   ? step
                                              : event.file_version());
    at += size + 16;
  }
  return records;
}

std::vector<std::string> NamesIn(const fs::path& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

class TensorBoard : public ::testing::Test {
 protected:
  TensorBoardFolder Of(const std::string& job) const { return {folder_.path(), job, "host"}; }
  fs::path Run(const std::string& name) const { return fs::path(folder_.path()) / name; }

  const TemporaryFolder folder_;
  const absl::Time now_ = absl::FromUnixSeconds(1764001000);
  const std::vector<v1::JobEvent> events_ = {ProgressAt("gd", 1), ProgressAt("gd", 2),
                                             ResultOf("gd", 2), ResultOf("wanda", 0)};
};

TEST_F(TensorBoard, HasARunWithOneFileForEachMethod) {
  const auto files = WriteTensorBoard(Of("jobs/a"), events_, now_);
  ASSERT_TRUE(files.ok()) << files.status();
  EXPECT_THAT(NamesIn(folder_.path()), ElementsAre("gd", "wanda"));
  const std::string name = "events.out.tfevents.1764001000.host.attnprune-a";
  EXPECT_THAT(NamesIn(Run("gd")), ElementsAre(name));
  EXPECT_THAT(Records(Run("gd") / name), ElementsAre("brain.Event:2", "start 0", "1", "2", "2"));
  EXPECT_THAT(Records(Run("wanda") / name), ElementsAre("brain.Event:2", "start 0", "0"));
  EXPECT_THAT(*files, ElementsAre((Run("gd") / name).string(), (Run("wanda") / name).string()));
}

TEST_F(TensorBoard, WrittenAgainForTheSameJobHasEveryPointOnce) {
  ASSERT_TRUE(WriteTensorBoard(Of("jobs/a"), events_, now_).ok());
  ASSERT_TRUE(WriteTensorBoard(Of("jobs/a"), events_, now_).ok());
  const std::string later = "events.out.tfevents.1764001001.host.attnprune-a";
  EXPECT_THAT(NamesIn(Run("gd")), ElementsAre(later))
      << "a later name, though no second has passed";
  EXPECT_THAT(Records(Run("gd") / later), ElementsAre("brain.Event:2", "start 0", "1", "2", "2"));
}

TEST_F(TensorBoard, RemovesWhatACrashLeftOfTheSameJob) {
  fs::create_directories(Run("gd"));
  std::ofstream(Run("gd") / "events.out.tfevents.5.host.attnprune-a.tmp-x1") << "half";
  ASSERT_TRUE(WriteTensorBoard(Of("jobs/a"), events_, now_).ok());
  EXPECT_EQ(NamesIn(Run("gd")).size(), 1u);
}

TEST_F(TensorBoard, RefusesARunThatIsAnotherJobsOrProgramsAndWritesNothing) {
  fs::create_directories(Run("wanda"));
  for (const char* name :
       {"events.out.tfevents.5.host", "events.out.tfevents.5.host.attnprune-b"}) {
    std::ofstream(Run("wanda") / name) << "theirs";
    const absl::Status status = WriteTensorBoard(Of("jobs/a"), events_, now_).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
    EXPECT_THAT(std::string(status.message()), HasSubstr((Run("wanda") / name).string()));
    EXPECT_FALSE(fs::exists(Run("gd")));
    EXPECT_FALSE(CheckRuns(Of("jobs/a"), {"wanda"}).ok());
    EXPECT_TRUE(CheckRuns(Of("jobs/a"), {"gd"}).ok());
    EXPECT_FALSE(CheckRuns(Of(""), {"wanda"}).ok());
    fs::remove(Run("wanda") / name);
  }
}

TEST_F(TensorBoard, LeavesFilesThatTensorBoardDoesNotRead) {
  fs::create_directories(Run("gd"));
  std::ofstream(Run("gd") / "notes.txt") << "mine";
  ASSERT_TRUE(WriteTensorBoard(Of("jobs/a"), events_, now_).ok());
  EXPECT_EQ(ReadFile(Run("gd") / "notes.txt"), "mine");
}

TEST_F(TensorBoard, KeepsLabelsInTheFolder) {
  ASSERT_TRUE(WriteTensorBoard(Of("jobs/../../x"), {ProgressAt("../../out", 1)}, now_).ok());
  EXPECT_THAT(NamesIn(folder_.path()), ElementsAre("_.._.._out"));
  EXPECT_THAT(NamesIn(Run("_.._.._out")), ElementsAre(EndsWith("attnprune-_.._.._x")));
}

TEST_F(TensorBoard, ShowsEachPointAsSoonAsItComes) {
  LiveTensorBoard live(Of("jobs/a"));
  const fs::path file = Run("gd") / "events.out.tfevents.1764001000.host.attnprune-a";
  ASSERT_TRUE(live.Add(ProgressAt("gd", 1), now_).ok());
  EXPECT_THAT(Records(file), ElementsAre("brain.Event:2", "start 0", "1"));
  ASSERT_TRUE(live.Add(ProgressAt("gd", 2), now_ + absl::Seconds(9)).ok());
  EXPECT_THAT(Records(file), ElementsAre("brain.Event:2", "start 0", "1", "2"));
  ASSERT_TRUE(live.Add(ProgressAt("gd", 2), now_ + absl::Seconds(9)).ok());
  EXPECT_THAT(Records(file), ElementsAre("brain.Event:2", "start 0", "1", "2", "start 2", "2"));
}

TEST_F(TensorBoard, LiveAndWrittenAtTheEndTakeEachOthersPlace) {
  ASSERT_TRUE(WriteTensorBoard(Of("jobs/a"), events_, now_).ok());
  LiveTensorBoard live(Of("jobs/a"));
  ASSERT_TRUE(live.Add(ProgressAt("gd", 1), now_).ok());
  EXPECT_THAT(NamesIn(Run("gd")), ElementsAre("events.out.tfevents.1764001001.host.attnprune-a"));
  ASSERT_TRUE(WriteTensorBoard(Of("jobs/a"), events_, now_).ok());
  EXPECT_THAT(NamesIn(Run("gd")), ElementsAre("events.out.tfevents.1764001002.host.attnprune-a"));
}

// A limit on the size of files stands for a full disk: write(2) fails after a part in both.
TEST_F(TensorBoard, NamesTheFileThatCannotGrowAndLeavesItWhole) {
  LiveTensorBoard live(Of("jobs/a"));
  ASSERT_TRUE(live.Add(ProgressAt("gd", 1), now_).ok());
  const fs::path file = Run("gd") / "events.out.tfevents.1764001000.host.attnprune-a";
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit before{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const rlimit small{.rlim_cur = fs::file_size(file) + 7, .rlim_max = before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const absl::Status status = live.Add(ProgressAt("gd", 2), now_);
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
  std::signal(SIGXFSZ, handler);
  EXPECT_THAT(std::string(status.message()), HasSubstr(file.string()));
  EXPECT_THAT(Records(file), ElementsAre("brain.Event:2", "start 0", "1"));
  ASSERT_TRUE(live.Add(ProgressAt("gd", 3), now_).ok()) << "there is room again";
  EXPECT_THAT(Records(file), ElementsAre("brain.Event:2", "start 0", "1", "3"));
}

TEST_F(TensorBoard, NamesTheFolderThatCannotBeMade) {
  std::ofstream(Run("gd")) << "a file";
  const absl::Status status = WriteTensorBoard(Of("jobs/a"), events_, now_).status();
  EXPECT_THAT(std::string(status.message()), HasSubstr(Run("gd").string()));
}

}  // namespace
}  // namespace attnprune::exporting
