// What the HTTP port takes, and from whom: the pure parts.
#include <string>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/http/access.h"
#include "server/http/compress.h"
#include "server/http/message.h"
#include "server/http/route.h"
#include "tests/server/http/unzip.h"

namespace attnprune::http {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Pair;

TEST(ParseTarget, DecodesPathAndQuery) {
  Request request;
  ASSERT_TRUE(
      ParseTarget("/api/v1/jobs?labels.team=a%26b+c&states=RUNNING&empty=&bare", &request).ok());
  EXPECT_EQ(request.path, "/api/v1/jobs");
  EXPECT_THAT(request.query, ElementsAre(Pair("labels.team", "a&b c"), Pair("states", "RUNNING"),
                                         Pair("empty", ""), Pair("bare", "")));
}

TEST(ParseTarget, RefusesWhatIsNoPath) {
  for (const char* target :
       {"", "*", "http://elsewhere/", "/%", "/%2", "/%zz", "/a?b=%", "/%00", "/a?b=%0a", "/\x01"}) {
    Request request;
    EXPECT_TRUE(absl::IsInvalidArgument(ParseTarget(target, &request))) << target;
  }
}

Request RequestOf(Verb verb, const std::string& host) {
  Request request;
  request.verb = verb;
  request.host = host;
  return request;
}

TEST(CheckAccess, TakesAddressesLocalhostAndGivenNamesAsHost) {
  const std::vector<std::string> names = {"attnprune"};
  for (const char* host :
       {"127.0.0.1:8080", "127.0.0.1", "10.0.3.7:8080", "[::1]:8080", "[fe80::1]", "localhost",
        "LOCALHOST:80", "page.localhost:1", "attnprune:8080", "AttnPrune"}) {
    EXPECT_TRUE(CheckAccess(names, RequestOf(Verb::kGet, host)).ok()) << host;
  }
}

TEST(CheckAccess, RefusesNamesThatOthersMayHavePointedHere) {
  for (const char* host : {"", "evil.example", "evil.example:8080", "localhost.evil.example",
                           "127.0.0.1.evil.example", "attnprune", "[::1", "::1.evil", "[::1]evil",
                           "[::1]:evil", "localhost:abc", "localhost:80:80", "localhost:80 "}) {
    const absl::Status status = CheckAccess({}, RequestOf(Verb::kGet, host));
    EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied) << host;
    EXPECT_THAT(std::string(status.message()), HasSubstr("--http-host")) << host;
  }
}

TEST(CheckAccess, TakesPostsOfThePageAndOfProgramsOnly) {
  struct Row {
    const char* origin;
    const char* site;
    bool allowed;
  };
  const Row rows[] = {
      {"", "", true},  // curl
      {"http://localhost:8080", "same-origin", true},
      {"http://localhost:8080", "", true},
      {"https://localhost:8080", "same-origin", true},  // behind a proxy with TLS
      {"http://localhost:9999", "same-site", false},
      {"http://localhost", "", false},
      {"http://evil.example", "cross-site", false},
      {"http://evil.example", "", false},
      {"null", "", false},
      {"", "cross-site", false},
      {"", "same-site", false},
  };
  for (const Row& row : rows) {
    for (const Verb verb : {Verb::kPost, Verb::kPut, Verb::kDelete, Verb::kOther}) {
      Request request = RequestOf(verb, "localhost:8080");
      request.origin = row.origin;
      request.fetch_site = row.site;
      EXPECT_EQ(CheckAccess({}, request).ok(), row.allowed) << row.origin << " " << row.site;
    }
  }
}

TEST(CheckAccess, LetsOtherSitesLinkHereAndNothingElse) {
  Request request = RequestOf(Verb::kGet, "localhost:8080");
  request.fetch_site = "cross-site";
  request.fetch_mode = "cors";
  EXPECT_FALSE(CheckAccess({}, request).ok());
  request.fetch_mode = "navigate";
  EXPECT_TRUE(CheckAccess({}, request).ok());
}

TEST(IsLoopbackHost, KnowsThisMachineFromOthers) {
  for (const char* host : {"127.0.0.1", "127.1.2.3", "localhost", "::1", "[::1]"}) {
    EXPECT_TRUE(IsLoopbackHost(host)) << host;
  }
  for (const char* host :
       {"0.0.0.0", "10.0.0.1", "::", "[::]", "fe80::1", "example.com", "127.x"}) {
    EXPECT_FALSE(IsLoopbackHost(host)) << host;
  }
}

TEST(PageUrl, IsOneThatABrowserTakes) {
  EXPECT_EQ(PageUrl("http", "127.0.0.1:8080"), "http://127.0.0.1:8080/");
  EXPECT_EQ(PageUrl("http", "::1:8080"), "http://[::1]:8080/");
  EXPECT_EQ(PageUrl("http", "[::1]:8080"), "http://[::1]:8080/");
  EXPECT_EQ(PageUrl("http", "box.example:80"), "http://box.example:80/");
  EXPECT_EQ(PageUrl("https", "127.0.0.1:8443"), "https://127.0.0.1:8443/");
  for (const char* all : {"*:8080", "0.0.0.0:8080", ":::8080", "[::]:8080"}) {
    EXPECT_EQ(PageUrl("http", all), "http://localhost:8080/") << all;
  }
}

TEST(MatchRoute, KnowsEveryAddress) {
  struct Row {
    Verb verb;
    const char* path;
    Route route;
    const char* id;
    const char* index;
  };
  using enum Verb;
  const Row rows[] = {
      {kGet, "/", Route::kPage, "", ""},
      {kGet, "/app.js", Route::kPage, "", ""},
      {kGet, "/metrics", Route::kMetrics, "", ""},
      {kGet, "/healthz", Route::kHealth, "", ""},
      {kGet, "/api/v1/openapi.json", Route::kOpenApi, "", ""},
      {kGet, "/api/v1/server", Route::kServer, "", ""},
      {kHead, "/api/v1/jobs", Route::kJobs, "", ""},
      {kPost, "/api/v1/jobs", Route::kCreateJob, "", ""},
      {kGet, "/api/v1/jobs/a-1", Route::kJob, "a-1", ""},
      {kDelete, "/api/v1/jobs/a-1", Route::kDeleteJob, "a-1", ""},
      {kPost, "/api/v1/jobs/a-1:cancel", Route::kCancel, "a-1", ""},
      {kGet, "/api/v1/jobs/a-1/events", Route::kEvents, "a-1", ""},
      {kGet, "/api/v1/jobs/a-1/results/2/density", Route::kDensity, "a-1", "2"},
      {kGet, "/api/v1/jobs/a-1/results/2/files", Route::kJobFiles, "a-1", "2"},
      {kGet, "/api/v1/jobs/a-1/results", Route::kOther, "", ""},
      {kGet, "/api/v1/jobs/a-1/results/2/other", Route::kOther, "", ""},
      {kGet, "/api/v1/jobs/", Route::kOther, "", ""},
      {kGet, "/api/v1/runs", Route::kRuns, "", ""},
      {kPost, "/api/v1/runs", Route::kCreateRun, "", ""},
      {kGet, "/api/v1/runs/r-1", Route::kRun, "r-1", ""},
      {kDelete, "/api/v1/runs/r-1", Route::kDeleteRun, "r-1", ""},
      {kPost, "/api/v1/runs/r-1:cancel", Route::kCancelRun, "r-1", ""},
      {kPost, "/api/v1/runs/r-1:resume", Route::kResumeRun, "r-1", ""},
      {kGet, "/api/v1/runs/r-1/events", Route::kEvents, "r-1", ""},
      {kGet, "/api/v1/runs/r-1/results/0/files", Route::kRunFiles, "r-1", "0"},
      {kGet, "/api/v1/runs/r-1/results", Route::kOther, "", ""},
      {kPost, "/api/v1/tensors:findMissing", Route::kMissing, "", ""},
      {kGet, "/api/v1/tensors/ab12", Route::kTensor, "ab12", ""},
      {kPut, "/api/v1/uploads/u.1", Route::kUpload, "u.1", ""},
      {kGet, "/api/v1/uploads/u.1", Route::kQueryUpload, "u.1", ""},
      {kGet, "/api/v2/jobs", Route::kOther, "", ""},
      {kGet, "/api/", Route::kOther, "", ""},
  };
  for (const Row& row : rows) {
    const RouteMatch match = MatchRoute(row.verb, row.path);
    EXPECT_EQ(match.route, row.route) << row.path;
    EXPECT_EQ(match.id, row.id) << row.path;
    EXPECT_EQ(match.index, row.index) << row.path;
    EXPECT_TRUE(match.takes_verb) << row.path;
  }
}

TEST(MatchRoute, SaysWhatAnAddressTakes) {
  EXPECT_FALSE(MatchRoute(Verb::kPut, "/api/v1/jobs").takes_verb);
  EXPECT_FALSE(MatchRoute(Verb::kHead, "/api/v1/jobs/a/events").takes_verb);
  EXPECT_FALSE(MatchRoute(Verb::kPost, "/app.js").takes_verb);
  EXPECT_EQ(AllowedVerbs("/api/v1/jobs/a"), "GET, HEAD, DELETE");
  EXPECT_EQ(AllowedVerbs("/api/v1/jobs/a/events"), "GET");
  EXPECT_EQ(AllowedVerbs("/api/v1/session"), "GET, HEAD, POST");
  EXPECT_EQ(AllowedVerbs("/app.js"), "GET, HEAD");
}

TEST(MatchRoute, NamesTheRpcThatAnAnswerTakesTheNotesOf) {
  EXPECT_EQ(MatchRoute(Verb::kDelete, "/api/v1/jobs/a").action, "DeleteJob");
  EXPECT_EQ(MatchRoute(Verb::kGet, "/api/v1/tensors/a").action, "DownloadTensor");
  EXPECT_EQ(MatchRoute(Verb::kHead, "/api/v1/tensors/a").action, "");
  EXPECT_EQ(MatchRoute(Verb::kGet, "/api/v1/jobs/a:cancel").action, "");
  EXPECT_EQ(MatchRoute(Verb::kGet, "/api/v1/jobs").action, "");
}

TEST(Gzip, ComesBackAsItWas) {
  for (const std::string& text : {std::string(), std::string("a"), std::string(100'000, 'x')}) {
    for (const int level : {1, 9}) EXPECT_EQ(Unzip(Gzip(text, level)), text);
  }
}

TEST(TakesGzip, ReadsAcceptEncoding) {
  for (const char* header : {"gzip", "deflate, gzip;q=0.5, br", "GZIP ; q=1"}) {
    EXPECT_TRUE(TakesGzip(header)) << header;
  }
  for (const char* header : {"", "br", "gzip;q=0", "gzip;q=x", "notgzip"}) {
    EXPECT_FALSE(TakesGzip(header)) << header;
  }
}

}  // namespace
}  // namespace attnprune::http
