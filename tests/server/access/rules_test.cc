// The table itself; that it has every RPC and route is for tests/server/grpc/access_table_test.cc.
#include "server/access/rules.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace attnprune::access {
namespace {

TEST(Rules, SayEachActionOnce) {
  std::set<std::string> actions;
  for (const Rule& rule : Rules()) {
    EXPECT_TRUE(actions.insert(std::string(rule.action)).second) << rule.action;
  }
}

TEST(Rules, OpenNothingThatIsNotThere) {
  for (const Role role : {Role::kReader, Role::kSubmitter, Role::kAdmin}) {
    for (const char* const action : {"", "getjob", "Job", "GetJob ", "DropDatabase"}) {
      EXPECT_FALSE(IsOpen(action));
      EXPECT_TRUE(absl::IsPermissionDenied(Authorize({"t", role, ""}, action))) << action;
    }
  }
}

TEST(Rules, LetEachRoleDoWhatALesserOneMay) {
  for (const Rule& rule : Rules()) {
    bool allowed = false;
    for (const Role role : {Role::kReader, Role::kSubmitter, Role::kAdmin}) {
      const bool now = Authorize({"t", role, ""}, rule.action).ok();
      EXPECT_TRUE(now || !allowed) << rule.action;
      allowed = now;
    }
    EXPECT_TRUE(allowed) << rule.action;
  }
}

TEST(Sees, ItsOwnTenantAndAnAdminAll) {
  EXPECT_TRUE(Sees({"a", Role::kReader, ""}, "a"));
  EXPECT_FALSE(Sees({"a", Role::kSubmitter, ""}, "b"));
  EXPECT_FALSE(Sees({"a", Role::kSubmitter, ""}, "")) << "what was there before there were tokens";
  EXPECT_TRUE(Sees({"a", Role::kAdmin, ""}, "b"));
  EXPECT_TRUE(Sees({"a", Role::kAdmin, ""}, ""));
}

}  // namespace
}  // namespace attnprune::access
