// The description of the HTTP API has every address, and nothing that is not there.
#include "server/web/openapi.h"

#include <set>
#include <string>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "server/http/route.h"
#include "tests/server/http/http_client.h"
#include "tests/server/web/web_fixture.h"

namespace attnprune::web {
namespace {

using Json = nlohmann::json;

TEST(OpenApi, HasEveryAddressOfTheServerAndNoOther) {
  std::multiset<std::string> there, described;
  for (const http::Address& address : http::Addresses()) {
    there.insert(
        absl::StrCat(absl::AsciiStrToLower(http::VerbName(address.verb)), " ", address.pattern));
  }
  const Json document = Json::parse(OpenApiJson());
  for (const auto& [path, verbs] : document["paths"].items()) {
    for (const auto& [verb, operation] : verbs.items()) described.insert(verb + " " + path);
  }
  EXPECT_EQ(described, there);
}

// Each route has an address but "other" and the page's files.
TEST(OpenApi, KnowsEveryRoute) {
  std::set<http::Route> routes;
  for (const http::Address& address : http::Addresses()) routes.insert(address.route);
  EXPECT_EQ(routes.size() + 2, http::kRouteNames.size());
}

void CollectReferences(const Json& value, std::set<std::string>* found) {
  if (value.is_object() && value.contains("$ref")) found->insert(value["$ref"].get<std::string>());
  if (!value.is_structured()) return;
  for (const Json& part : value) CollectReferences(part, found);
}

TEST(OpenApi, RefersToNoSchemaThatItHasNot) {
  const Json document = Json::parse(OpenApiJson());
  std::set<std::string> references;
  CollectReferences(document, &references);
  EXPECT_GT(references.size(), 50U);
  for (const std::string& reference : references) {
    EXPECT_TRUE(document.contains(Json::json_pointer(reference.substr(1)))) << reference;
  }
}

TEST(OpenApi, GivesEachOperationANameOfItsOwn) {
  std::multiset<std::string> names;
  const Json document = Json::parse(OpenApiJson());
  for (const Json& verbs : document["paths"]) {
    for (const Json& operation : verbs) names.insert(operation["operationId"].get<std::string>());
  }
  for (const std::string& name : names) EXPECT_EQ(names.count(name), 1U) << name;
}

TEST(OpenApi, SaysOfAFieldWhatItsProtoSays) {
  const Json document = Json::parse(OpenApiJson());
  const Json& schemas = document["components"]["schemas"];
  EXPECT_EQ(schemas["Job"]["properties"]["priority"]["description"],
            "-1000 to 1000; higher runs first; default 0");
  EXPECT_EQ(schemas["TensorRef"]["properties"]["sha256"]["description"],
            "64 lower-case hexadecimal digits. Required.");
  EXPECT_EQ(schemas["Job"]["properties"]["sparsity"].count("description"), 0U) << "it has none";
  EXPECT_EQ(schemas["TensorRef"]["description"],
            "A tensor of the server's store, by the SHA-256 of its raw bytes.");
  const auto dtypes = schemas["DType"]["description"].get<std::string>();
  EXPECT_THAT(dtypes, ::testing::StartsWith("Element type of a stored tensor;"));
  EXPECT_THAT(dtypes, ::testing::HasSubstr("\nI32: token ids only"));
  EXPECT_EQ(schemas["QkNorm"]["properties"]["kWeight"]["description"], "required") << "of its own";
}

TEST(OpenApi, IsServed) {
  Web web;
  http::HttpClient client(web.port());
  const http::Received received = client.Get("/api/v1/openapi.json");
  EXPECT_EQ(received.headers.at("content-type"), "application/json");
  EXPECT_EQ(received.body, OpenApiJson());
}

}  // namespace
}  // namespace attnprune::web
