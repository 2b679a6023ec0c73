// The page's files, as the HTTP port serves them.
#include "server/web/assets.h"

#include <array>
#include <string>

#include "absl/strings/match.h"
#include "absl/types/optional.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/server/http/unzip.h"

namespace attnprune::web {
namespace {

using ::testing::HasSubstr;
using ::testing::Pair;

constexpr std::array<EmbeddedFile, 2> kFiles = {
    {{"index.html", "<!doctype html>"}, {"js/app.js", "////////////////////////////////////////"}}};

TEST(Assets, ServesTheIndexAtTheRoot) {
  const Assets assets(kFiles);
  http::Request request;
  request.path = "/";
  const absl::optional<http::Response> response = assets.Find(request);
  ASSERT_TRUE(response.has_value());
  EXPECT_EQ(response->content_type, "text/html; charset=utf-8");
  EXPECT_EQ(*response->body, "<!doctype html>");
}

TEST(Assets, CompressesForWhoTakesItAndOnlyIfItHelps) {
  const Assets assets(kFiles);
  http::Request request;
  request.path = "/js/app.js";
  EXPECT_EQ(*assets.Find(request)->body, kFiles[1].bytes);
  request.accept_encoding = "gzip";
  EXPECT_EQ(http::Unzip(*assets.Find(request)->body), kFiles[1].bytes);
  EXPECT_THAT(assets.Find(request)->headers, ::testing::Contains(Pair("Content-Encoding", "gzip")));
  request.path = "/";
  EXPECT_EQ(*assets.Find(request)->body, "<!doctype html>");
}

TEST(Assets, SendsNothingAgainToWhoHasIt) {
  const Assets assets(kFiles);
  http::Request request;
  request.path = "/js/app.js";
  const absl::optional<http::Response> first = assets.Find(request);
  for (const auto& [name, value] : first->headers) {
    if (name == "ETag") request.if_none_match = value;
  }
  ASSERT_FALSE(request.if_none_match.empty());
  EXPECT_EQ(assets.Find(request)->status, 304);
  EXPECT_EQ(assets.Find(request)->body, nullptr);
}

TEST(Assets, KnowsNoOtherPaths) {
  const Assets assets(kFiles);
  for (const char* path : {"/nothing", "/../etc/passwd", "/js/", "/INDEX.html"}) {
    http::Request request;
    request.path = path;
    EXPECT_FALSE(assets.Find(request).has_value()) << path;
  }
}

TEST(Assets, PutsTheFilesThatAPageIncludesIntoIt) {
  const std::array<EmbeddedFile, 4> files = {
      {{"index.html", "<a>\n<!--include v/one.html-->\n<!-- c --><!--include v/two.html--><b>"},
       {"v/one.html", "1"},
       {"v/two.html", "2"},
       {"js/a.js", "// <!--include v/one.html-->"}}};
  const Assets assets(files);
  const auto body = [&](const char* path) {
    http::Request request;
    request.path = path;
    return *assets.Find(request)->body;
  };
  EXPECT_EQ(body("/"), "<a>\n1\n<!-- c -->2<b>");
  EXPECT_EQ(body("/v/one.html"), "1");
  EXPECT_EQ(body("/js/a.js"), "// <!--include v/one.html-->");
}

TEST(Assets, LeavesOutWhatIsNotThereToBeIncluded) {
  const std::array<EmbeddedFile, 1> files = {
      {{"index.html", "a<!--include none.html-->b<!--include"}}};
  http::Request request;
  request.path = "/";
  EXPECT_EQ(*Assets(files).Find(request)->body, "ab<!--include");
}

TEST(EmbeddedFiles, HaveThePage) {
  const Assets assets(EmbeddedFiles());
  http::Request request;
  request.path = "/";
  const absl::optional<http::Response> page = assets.Find(request);
  ASSERT_TRUE(page.has_value());
  EXPECT_THAT(*page->body, HasSubstr("<title>"));
  EXPECT_THAT(*page->body, HasSubstr("<template id=\"job-view\">"));
  EXPECT_THAT(*page->body, ::testing::Not(HasSubstr("<!--include")));
  for (const EmbeddedFile& file : EmbeddedFiles()) {
    if (!absl::StartsWith(file.path, "views/")) continue;
    EXPECT_THAT(*page->body, HasSubstr(std::string(file.bytes))) << file.path;
  }
}

}  // namespace
}  // namespace attnprune::web
