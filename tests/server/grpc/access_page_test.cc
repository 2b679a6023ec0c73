// The page's login.
#include <gmock/gmock.h>

#include <string>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "tests/server/grpc/access_world.h"

namespace attnprune::rpc {
namespace {

using http::Received;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

std::string CookieFrom(const Received& login) {
  const std::string& set = login.headers.at("set-cookie");
  return "Cookie: " + set.substr(0, set.find(';')) + "\r\n";
}

Received LogIn(AccessWorld& world, const std::string& who, const std::string& headers = "") {
  return world.Ask("", "POST", "/api/v1/session", headers,
                   absl::StrCat(R"({"token": ")", world.TokenOf(who), R"("})"));
}

TEST(AccessPage, LogsInWithACookieThatNoScriptCanRead) {
  AccessWorld world;
  const Received login = LogIn(world, "mine-submitter");
  ASSERT_EQ(login.status, 200) << login.body;
  EXPECT_THAT(login.headers.at("set-cookie"), HasSubstr("; Path=/; HttpOnly; SameSite=Strict"));
  EXPECT_THAT(login.headers.at("set-cookie"), Not(HasSubstr(world.TokenOf("mine-submitter"))));
  EXPECT_EQ(nlohmann::json::parse(login.body)["tenant"], "mine");
  const std::string name = world.AddJob("mine");
  const std::string cookie = CookieFrom(login);
  EXPECT_EQ(world.Ask("", "GET", "/api/v1/" + name, cookie).status, 200);
  EXPECT_EQ(world.Ask("", "GET", "/api/v1/" + world.AddJob("other"), cookie).status, 404);
  EXPECT_EQ(world.Ask("", "GET", "/metrics", cookie).status, 403);
  const Received who = world.Ask("", "GET", "/api/v1/session", cookie);
  EXPECT_EQ(nlohmann::json::parse(who.body)["role"], "submitter");
  EXPECT_EQ(world.Ask("", "GET", "/api/v1/session").status, 401);
}

TEST(AccessPage, APostByACookieNeedsAnOriginThatIsOurs) {
  AccessWorld world;
  const std::string cookie = CookieFrom(LogIn(world, "mine-submitter"));
  const std::string url = absl::StrCat("/api/v1/", world.AddJob("mine"), ":cancel");
  EXPECT_EQ(world.Ask("", "POST", url, cookie).status, 403);
  EXPECT_EQ(world.Ask("", "POST", url, cookie + "Origin: http://evil.example\r\n").status, 403);
  EXPECT_EQ(world.Ask("", "POST", url, cookie + "Origin: http://localhost\r\n").status, 200);
}

TEST(AccessPage, WhatElseChangesSomethingByACookieNeedsItToo) {
  AccessWorld world;
  const std::string cookie = CookieFrom(LogIn(world, "mine-submitter"));
  const std::string job = absl::StrCat("/api/v1/", world.AddEnded("mine"));
  const std::string ours = cookie + "Origin: http://localhost\r\n";
  EXPECT_EQ(world.Ask("", "DELETE", job, cookie).status, 403);
  EXPECT_EQ(world.Ask("", "PUT", "/api/v1/uploads/u", cookie, "x").status, 403);
  EXPECT_EQ(world.Ask("", "POST", "/api/v1/jobs", cookie, "{}").status, 403);
  EXPECT_EQ(world.Ask("", "GET", job, ours).status, 200) << "it is still there";
  EXPECT_EQ(world.Ask("", "DELETE", job, ours).status, 200);
}

TEST(AccessPage, ASessionEndsWithItsLogoutAndWithItsToken) {
  AccessWorld world;
  const std::string first = CookieFrom(LogIn(world, "mine-reader"));
  const std::string second = CookieFrom(LogIn(world, "mine-reader"));
  EXPECT_EQ(world.Ask("", "POST", "/api/v1/session:end", first).status, 200);
  EXPECT_EQ(world.Ask("", "GET", "/api/v1/jobs", first).status, 401);
  EXPECT_EQ(world.Ask("", "GET", "/api/v1/jobs", second).status, 200);
  world.Revoke("mine-reader");
  EXPECT_EQ(world.Ask("", "GET", "/api/v1/jobs", second).status, 401);
}

TEST(AccessPage, RefusesALoginThatIsNone) {
  AccessWorld world;
  EXPECT_EQ(LogIn(world, "wrong").status, 401);
  EXPECT_EQ(LogIn(world, "wrong").headers.count("set-cookie"), 0U);
  EXPECT_EQ(LogIn(world, "mine-reader", "Origin: http://evil.example\r\n").status, 403);
  for (const char* const body : {"", "[]", "{}", R"({"token": 1})", R"({"token": "a", "b": 1})"}) {
    EXPECT_EQ(world.Ask("", "POST", "/api/v1/session", "", body).status, 400) << body;
  }
  for (const char* const cookie : {"attnprune_session=", "attnprune_session=x", "attnprune_session",
                                   "=", ";;", "attnprune_session=a; attnprune_session=b"}) {
    EXPECT_EQ(world.Ask("", "GET", "/api/v1/jobs", absl::StrCat("Cookie: ", cookie, "\r\n")).status,
              401);
  }
  const std::string as_cookie = absl::StrCat("Cookie: attnprune_session=", world.TokenOf("admin"));
  EXPECT_EQ(world.Ask("", "GET", "/api/v1/jobs", as_cookie + "\r\n").status, 401)
      << "a token is no session";
}

}  // namespace
}  // namespace attnprune::rpc
