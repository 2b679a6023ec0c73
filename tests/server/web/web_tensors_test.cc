// Tensors listed over HTTP; and what an upload's errors name.
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/server/http/http_client.h"
#include "tests/server/web/web_fixture.h"

namespace attnprune::web {
namespace {

using http::HttpClient;
using http::Received;
using Json = nlohmann::json;

using ::testing::HasSubstr;

TEST(WebUpload, ErrorsQuoteAValueAsItWasSent) {
  Web web;
  HttpClient client(web.port());
  const Received received = client.Ask(
      "PUT", "/api/v1/uploads/u?sizeBytes=4&dtype=F32&sha256=header.size_bytes", "", "abcd");
  EXPECT_THAT(received.body, HasSubstr("sha256 must be 64 lower-case hexadecimal digits, got "
                                       "'header.size_bytes'"));
}

TEST(WebUpload, SaysWhereABrokenUploadGoesOnInWordsOfHttp) {
  const std::string bytes = SomeBytes(4000);
  Web web;
  HttpClient client(web.port());
  const Received part = client.Ask("PUT", UploadUrl(bytes, "u"), "", bytes.substr(0, 1000));
  EXPECT_EQ(FieldOf(part), "body");
  EXPECT_THAT(part.body, HasSubstr("body must have sizeBytes = 4000 bytes in all, got 1000"));
  HttpClient next(web.port());
  const Received wrong = next.Ask("PUT", UploadUrl(bytes, "u", 500), "", bytes.substr(500));
  EXPECT_EQ(FieldOf(wrong), "offset");
  EXPECT_THAT(wrong.body, HasSubstr("\"offset must be 1000, where the upload stands"));
}

TEST(WebTensors, AreListedWithPagesAndRulesAsOtherLists) {
  Web web;
  const v1::Job job = web.Create();
  HttpClient client(web.port());
  const std::string bytes = SomeBytes(4000);
  ASSERT_EQ(client.Ask("PUT", UploadUrl(bytes, "loose"), "", bytes.substr(0, 8)).status, 400);
  HttpClient lists(web.port());
  const Json first = Json::parse(lists.Get("/api/v1/tensors?pageSize=5").body);
  ASSERT_EQ(first["tensors"].size(), 5U);
  EXPECT_EQ(first["tensors"][0]["uploadId"], "loose");
  EXPECT_EQ(first["tensors"][0]["committedBytes"], "8");
  EXPECT_EQ(first["tensors"][1]["usedBy"], job.name());
  const std::string more = absl::StrCat("/api/v1/tensors?page_size=5&pageToken=",
                                        first["nextPageToken"].get<std::string>());
  const Json second = Json::parse(lists.Get(more).body);
  EXPECT_EQ(second["tensors"].size(), 3U);
  EXPECT_EQ(second["nextPageToken"], "");
  EXPECT_EQ(Json::parse(lists.Get("/api/v1/tensors?unused=true").body)["tensors"].size(), 1U);
  for (const auto& [query, field] :
       std::vector<std::pair<std::string, std::string>>{{"pageSize=2000", "page_size"},
                                                        {"pageSize=x", "pageSize"},
                                                        {"pageToken=x", "page_token"},
                                                        {"pageToken=t0%ff", "page_token"},
                                                        {"unused=maybe", "unused"},
                                                        {"states=RUNNING", "states"}}) {
    EXPECT_EQ(FieldOf(lists.Get("/api/v1/tensors?" + query)), field) << query;
  }
}

}  // namespace
}  // namespace attnprune::web
