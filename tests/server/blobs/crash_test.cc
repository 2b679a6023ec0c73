// What a killed server leaves: copies of the folder at every step, children killed at random
// moments, and files as a power loss can leave them.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

#include "tests/server/blobs/store_fixture.h"

namespace attnprune {
namespace {

constexpr size_t kChunk = 64 << 10;

class CrashTest : public StoreTest {
 protected:
  using Report = std::function<void()>;

  // Lets a child work until it has reported `reports` times, then kills it; by then it may have
  // gone on for three reports more, but no further. Returns the reports that it sent.
  int KillAfter(int reports, const std::function<void(const Report&)>& work) {
    store_ = nullptr;
    int to_parent[2], to_child[2];
    if (pipe(to_parent) != 0 || pipe(to_child) != 0) std::abort();
    const pid_t child = fork();
    if (child == 0) {
      close(to_parent[0]);
      close(to_child[1]);
      work([&] {
        char leave;
        if (write(to_parent[1], "r", 1) != 1 || read(to_child[0], &leave, 1) != 1) _exit(1);
      });
      _exit(0);
    }
    close(to_parent[1]);
    close(to_child[0]);
    const std::string leave(static_cast<size_t>(reports) + 3, 'l');
    EXPECT_EQ(write(to_child[1], leave.data(), leave.size()), static_cast<ssize_t>(leave.size()));
    int reported = 0;
    char report;
    while (reported < reports && read(to_parent[0], &report, 1) == 1) ++reported;
    kill(child, SIGKILL);
    while (read(to_parent[0], &report, 1) == 1) ++reported;
    int status = 0;
    waitpid(child, &status, 0);
    EXPECT_TRUE(WIFSIGNALED(status) || WEXITSTATUS(status) == 0) << WEXITSTATUS(status);
    close(to_parent[0]);
    close(to_child[1]);
    Reopen();
    return reported;
  }

  // In the child: goes on with the upload where it stands, reporting each chunk.
  void GoOn(const UploadSpec& spec, const std::string& bytes, const Report& report) {
    Reopen();
    absl::StatusOr<std::unique_ptr<Upload>> upload =
        store_->StartUpload(spec, Committed(spec.upload_id));
    if (!upload.ok()) _exit(2);
    if ((*upload)->already_there()) return;
    while ((*upload)->received() < spec.size_bytes) {
      const absl::Span<const char> rest =
          absl::MakeConstSpan(bytes).subspan(static_cast<size_t>((*upload)->received()));
      if (!(*upload)->Append(rest.subspan(0, kChunk)).ok()) _exit(3);
      report();
    }
    if (!(*upload)->Finish().ok()) _exit(4);
  }
};

TEST_F(CrashTest, AKilledUploadLosesNothingThatWasAppended) {
  const unsigned seed = ::testing::UnitTest::GetInstance()->random_seed();
  std::mt19937 random(seed);
  SCOPED_TRACE(::testing::Message() << "--gtest_random_seed=" << seed);
  const std::string bytes = RandomBytes(150 * kChunk + 77, 1);
  const UploadSpec spec = SpecOf("a", bytes);
  int64_t appended = 0;
  int kills = 0;
  while (true) {
    const int reported = KillAfter(1 + static_cast<int>(random() % 20),
                                   [&](const Report& report) { GoOn(spec, bytes, report); });
    if (IsThere(spec.sha256)) break;
    ++kills;
    const int64_t committed = Committed("a");
    appended = std::min(appended + reported * static_cast<int64_t>(kChunk), spec.size_bytes);
    EXPECT_GE(committed, appended);
    EXPECT_LE(committed, appended + static_cast<int64_t>(kChunk));
    EXPECT_TRUE(ReadWhole(UploadsFolder() + "/a.data") == bytes.substr(0, committed));
    appended = committed;
  }
  EXPECT_GE(kills, 5);
  EXPECT_EQ(Stored(spec.sha256), bytes);
  EXPECT_TRUE(store_->Verify(spec.sha256).ok());
  EXPECT_EQ(FilesIn(UploadsFolder()), 0);
}

TEST_F(CrashTest, AKilledStoreKeepsWhatItSaidToHaveAndNoHalfTensors) {
  const unsigned seed = ::testing::UnitTest::GetInstance()->random_seed();
  std::mt19937 random(seed);
  SCOPED_TRACE(::testing::Message() << "--gtest_random_seed=" << seed);
  int stored = 0;  // tensors 0 .. stored - 1 were said to be there
  for (int round = 0; round < 10; ++round) {
    const int said = stored;
    stored += KillAfter(1 + static_cast<int>(random() % 8), [&](const Report& report) {
      Reopen();
      for (int i = said;; ++i) {
        const std::string bytes = RandomBytes(5000, static_cast<unsigned>(i));
        const bool ok =
            i % 2 == 0 ? store_->Put(bytes).ok() : UploadFrom(SpecOf("a", bytes), bytes, 0).ok();
        if (!ok) _exit(2);
        report();
      }
    });
    for (int i = 0; i < stored; ++i) {
      EXPECT_EQ(Stored(Sha256Of(RandomBytes(5000, static_cast<unsigned>(i)))).size(), 5000u);
    }
    for (const auto& entry :
         std::filesystem::recursive_directory_iterator(options_.folder + "/tensors/sha256")) {
      if (!entry.is_regular_file()) continue;
      EXPECT_TRUE(store_->Verify(entry.path().filename().string()).ok());
    }
  }
}

TEST_F(CrashTest, ACopyOfTheFolderTakenAtAnyStepCanGoOn) {
  const std::string bytes = RandomBytes(100, 1);
  const UploadSpec spec = SpecOf("a", bytes);
  std::vector<std::string> copies;
  const auto copy = [&] {
    copies.push_back(folder_.path() + "/copy" + std::to_string(copies.size()));
    std::filesystem::copy(options_.folder, copies.back(), std::filesystem::copy_options::recursive);
  };
  copy();
  {
    const std::unique_ptr<Upload> upload = Start(spec, 0);
    copy();
    for (size_t i = 0; i < 10; ++i) {
      ASSERT_TRUE(upload->Append(absl::MakeConstSpan(bytes).subspan(i * 10, 10), copy).ok());
    }
    ASSERT_TRUE(upload->Finish().ok());
    copy();
  }
  const int64_t committed[] = {0, 0, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 0};
  ASSERT_EQ(copies.size(), std::size(committed));
  for (size_t i = 0; i < copies.size(); ++i) {
    options_.folder = copies[i];
    Reopen();
    EXPECT_EQ(Committed("a"), committed[i]);
    EXPECT_TRUE(UploadFrom(spec, bytes, committed[i]).ok());
    EXPECT_EQ(Stored(spec.sha256), bytes);
  }
}

TEST_F(CrashTest, BetweenTheRenameAndTheRestLeavesTheTensorThere) {
  const std::string bytes = RandomBytes(100, 1);
  const UploadSpec spec = SpecOf("a", bytes);
  UploadPart(spec, bytes, 100);
  std::filesystem::create_directory(std::filesystem::path(BlobPath(spec.sha256)).parent_path());
  std::filesystem::rename(UploadsFolder() + "/a.data", BlobPath(spec.sha256));
  Reopen();
  EXPECT_TRUE(IsThere(spec.sha256));
  EXPECT_EQ(store_->Usage().blob_bytes, 100);
  EXPECT_EQ(Committed("a"), 0);
  EXPECT_EQ(FilesIn(UploadsFolder()), 0);
}

TEST_F(CrashTest, TellsTheLengthThatAPowerLossLeft) {
  const std::string bytes = RandomBytes(100, 1);
  const UploadSpec spec = SpecOf("a", bytes);
  UploadPart(spec, bytes, 60);
  WriteWhole(UploadsFolder() + "/a.data", bytes.substr(0, 33));
  Reopen();
  EXPECT_EQ(Committed("a"), 33);
  EXPECT_TRUE(UploadFrom(spec, bytes, 33).ok());
  EXPECT_EQ(Stored(spec.sha256), bytes);
}

TEST_F(CrashTest, NeverCountsZerosThatAPowerLossLeft) {
  const std::string bytes = RandomBytes(100, 1);
  const UploadSpec spec = SpecOf("a", bytes);
  UploadPart(spec, bytes, 60);
  WriteWhole(UploadsFolder() + "/a.data", bytes.substr(0, 33) + std::string(27, '\0'));
  Reopen();
  EXPECT_THAT(UploadFrom(spec, bytes, 60),
              Refuses(absl::StatusCode::kInvalidArgument, "header.sha256"));
  EXPECT_FALSE(IsThere(spec.sha256));
  EXPECT_EQ(Committed("a"), 0);
  EXPECT_TRUE(UploadFrom(spec, bytes, 0).ok());
}

TEST_F(CrashTest, ForgetsWhatCannotBeResumed) {
  const std::string bytes = RandomBytes(100, 1);
  const auto leave = [&](const char* id) { UploadPart(SpecOf(id, bytes), bytes, 60); };
  leave("torn-spec");
  leave("no-spec");
  leave("no-data");
  leave("too-long");
  leave("good");
  WriteWhole(UploadsFolder() + "/torn-spec.spec", "attnprune-upload-1 ab");
  std::filesystem::remove(UploadsFolder() + "/no-spec.spec");
  std::filesystem::remove(UploadsFolder() + "/no-data.data");
  WriteWhole(UploadsFolder() + "/too-long.data", bytes + "x");
  WriteWhole(UploadsFolder() + "/17.put", "half a result");
  Reopen();
  for (const char* id : {"torn-spec", "no-spec", "no-data", "too-long"}) {
    EXPECT_EQ(Committed(id), 0) << id;
    EXPECT_TRUE(absl::IsOutOfRange(store_->StartUpload(SpecOf(id, bytes), 60).status())) << id;
  }
  EXPECT_EQ(Committed("good"), 60);
  EXPECT_EQ(FilesIn(UploadsFolder()), 2);
}

}  // namespace
}  // namespace attnprune
