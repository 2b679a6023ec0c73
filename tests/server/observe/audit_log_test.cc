#include "server/observe/audit_log.h"

#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/server/queue/test_places.h"

namespace attnprune {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::ScratchFolder;

FinishedRpc Call(const char* method) {
  FinishedRpc call{};
  call.method = method;
  call.job = "jobs/x";
  call.caller.peer = "127.0.0.1:40112";
  call.request.request_id = "order/66";
  call.code = absl::StatusCode::kOk;
  return call;
}

class AuditLogTest : public ::testing::Test {
 protected:
  std::unique_ptr<AuditLog> Open() {
    auto log = AuditLog::Open(path_, &lost_);
    EXPECT_TRUE(log.ok()) << log.status();
    return log.ok() ? *std::move(log) : nullptr;
  }

  // Of the file's lines, each of which must be an object or `torn`.
  static std::vector<std::string> Actions(const std::string& path, const std::string& torn = "") {
    std::vector<std::string> actions;
    const std::string text = testing::ReadAll(path);
    for (const absl::string_view line : absl::StrSplit(text, '\n', absl::SkipEmpty())) {
      if (line == torn) continue;
      actions.push_back(nlohmann::json::parse(line).at("action"));
    }
    return actions;
  }

  const ScratchFolder folder_;
  const std::string path_ = folder_ / "audit.log";
  Counter lost_;
};

TEST_F(AuditLogTest, SaysWhoChangedWhatFromWhereAndWithWhatOutcome) {
  FinishedRpc call = Call("DeleteJob");
  call.caller.who = "ann";
  call.caller.tenant = "vision";
  call.code = absl::StatusCode::kNotFound;
  Open()->OnRpc(call);
  const auto line = nlohmann::json::parse(testing::ReadAll(path_));
  const nlohmann::json expected = {{"time", line["time"]}, {"action", "DeleteJob"},
                                   {"code", "NOT_FOUND"},  {"via", "grpc"},
                                   {"who", "ann"},         {"tenant", "vision"},
                                   {"job", "jobs/x"},      {"peer", "127.0.0.1:40112"},
                                   {"tensor", ""},         {"request_id", "order/66"}};
  EXPECT_EQ(line, expected);
  EXPECT_THAT(std::string(line["time"]), ::testing::MatchesRegex("20..-..-..T..:..:......Z"));
}

TEST_F(AuditLogTest, HasChangesUploadsAndDownloadsAndNothingElse) {
  const auto log = Open();
  for (const char* method :
       {"CreateJob", "GetJob", "ListJobs", "CancelJob", "DeleteJob", "WatchJob", "GetServerInfo",
        "CreateRun", "GetRun", "ListRuns", "CancelRun", "ResumeRun", "DeleteRun", "UploadTensor",
        "FindMissingTensors", "QueryUpload", "DownloadTensor"}) {
    log->OnRpc(Call(method));
  }
  FinishedRpc tried = Call("CreateJob");
  tried.validate_only = true;
  log->OnRpc(tried);
  EXPECT_THAT(Actions(path_),
              ElementsAre("CreateJob", "CancelJob", "DeleteJob", "CreateRun", "CancelRun",
                          "ResumeRun", "DeleteRun", "UploadTensor", "DownloadTensor"));
}

TEST_F(AuditLogTest, HasOfHttpWhatChangesSomething) {
  const auto log = Open();
  FinishedHttpRequest call{};
  call.verb = "GET";
  call.path = "/api/v1/jobs/x";
  call.status = 200;
  log->OnHttpRequest(call);
  call.action = "CancelJob";
  call.job = "jobs/x";
  log->OnHttpRequest(call);
  const auto line = nlohmann::json::parse(testing::ReadAll(path_));
  EXPECT_EQ(line["action"], "CancelJob");
  EXPECT_EQ(line["code"], "200");
  EXPECT_EQ(line["via"], "http");
}

TEST_F(AuditLogTest, IsForItsOwnerAloneWhateverTheUmask) {
  const mode_t former = umask(0);
  Open();
  umask(former);
  struct stat facts;
  ASSERT_EQ(stat(path_.c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0777, 0600U);
}

TEST_F(AuditLogTest, RefusesALinkAndAPipe) {
  testing::WriteAll(folder_ / "elsewhere", "");
  std::filesystem::create_symlink(folder_ / "elsewhere", path_);
  EXPECT_THAT(std::string(AuditLog::Open(path_, &lost_).status().message()), HasSubstr(path_));
  EXPECT_THAT(testing::ReadAll(folder_ / "elsewhere"), IsEmpty());
  ASSERT_EQ(mkfifo((folder_ / "pipe").c_str(), 0600), 0);
  EXPECT_THAT(std::string(AuditLog::Open(folder_ / "pipe", &lost_).status().message()),
              HasSubstr("must be a regular file"));
}

TEST_F(AuditLogTest, GoesOnInTheFileAtItsPathWhenItIsReopened) {
  const auto log = Open();
  log->OnRpc(Call("CreateJob"));
  std::filesystem::rename(path_, folder_ / "audit.log.1");
  log->OnRpc(Call("CancelJob"));
  ASSERT_TRUE(log->Reopen().ok());
  log->OnRpc(Call("DeleteJob"));
  EXPECT_THAT(Actions(folder_ / "audit.log.1"), ElementsAre("CreateJob", "CancelJob"));
  EXPECT_THAT(Actions(path_), ElementsAre("DeleteJob"));
}

TEST_F(AuditLogTest, GoesOnInTheFileThatItHasWhereTheOtherCannotBeOpened) {
  const auto log = Open();
  std::filesystem::rename(path_, folder_ / "audit.log.1");
  std::filesystem::create_directory(path_);
  EXPECT_FALSE(log->Reopen().ok());
  log->OnRpc(Call("CreateJob"));
  EXPECT_THAT(Actions(folder_ / "audit.log.1"), ElementsAre("CreateJob"));
}

// Limits the size of files that this process writes, as a full disk does: part of a line fits.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    std::signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &former_);
    const rlimit limit = {bytes, former_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() { setrlimit(RLIMIT_FSIZE, &former_); }

 private:
  rlimit former_;
};

TEST_F(AuditLogTest, CountsWhatDoesNotFitAndBeginsANewLineBehindIt) {
  const auto log = Open();
  log->OnRpc(Call("CreateJob"));
  const std::string whole = testing::ReadAll(path_);
  {
    const FileSizeLimit limit(whole.size() + 10);
    log->OnRpc(Call("CancelJob"));
    log->OnRpc(Call("DeleteJob"));
    EXPECT_EQ(lost_.value(), 2);
  }
  log->OnRpc(Call("CreateRun"));
  EXPECT_EQ(lost_.value(), 2);
  EXPECT_THAT(Actions(path_, whole.substr(0, 10)), ElementsAre("CreateJob", "CreateRun"));
}

TEST_F(AuditLogTest, BeginsANewLineBehindHalfALineThatAKilledProcessLeft) {
  testing::WriteAll(path_, "{\"time\":");
  Open()->OnRpc(Call("CreateJob"));
  EXPECT_THAT(Actions(path_, "{\"time\":"), ElementsAre("CreateJob"));
}

}  // namespace
}  // namespace attnprune
