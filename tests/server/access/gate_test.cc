// Who is let in, by a file that changes.
#include "server/access/gate.h"

#include <gmock/gmock.h>
#include <malloc.h>
#include <sys/stat.h>

#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/server/queue/test_places.h"

namespace attnprune::access {
namespace {

using attnprune::testing::ScratchFolder;
using attnprune::testing::WriteAll;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

class GateTest : public ::testing::Test {
 protected:
  GateTest() { Write(LineOf("first", Role::kReader)); }

  static std::string LineOf(const std::string& token, Role role) {
    return *TokenLine(HashOfToken(token), {.tenant = "t", .role = role, .name = ""});
  }
  void Write(const std::string& text) const {
    WriteAll(path_, text);
    chmod(path_.c_str(), 0600);
  }
  std::unique_ptr<Gate> Open() {
    auto gate = Gate::Open({.token_file = path_,
                            .on_event = [this](absl::string_view event, const std::string& detail) {
                              events_.emplace_back(event);
                              detail_ = detail;
                            }});
    EXPECT_TRUE(gate.ok()) << gate.status();
    return *std::move(gate);
  }
  static absl::StatusCode CodeOf(const Gate& gate, const std::string& authorization,
                                 absl::string_view action = "GetJob") {
    return gate.Admit(action, authorization).status().code();
  }

  const ScratchFolder folder_;
  const std::string path_ = folder_ / "tokens";
  std::vector<std::string> events_;
  std::string detail_;
};

TEST_F(GateTest, WithoutAFileTakesEveryoneForAnAdminWithoutATenant) {
  const std::unique_ptr<Gate> gate = *Gate::Open({});
  for (const char* const authorization : {"", "Bearer x", "nonsense"}) {
    const absl::StatusOr<Caller> caller = gate->Admit("DeleteJob", authorization);
    ASSERT_TRUE(caller.ok());
    EXPECT_EQ(caller->tenant, "");
    EXPECT_EQ(caller->role, Role::kAdmin);
  }
  EXPECT_EQ(gate->Admit("NoSuchCall", "").status().code(), absl::StatusCode::kPermissionDenied);
}

TEST_F(GateTest, TellsNoWrongTokenFromAnother) {
  const std::unique_ptr<Gate> gate = Open();
  const absl::Status none = gate->Admit("GetJob", "").status();
  EXPECT_EQ(none.code(), absl::StatusCode::kUnauthenticated);
  for (const std::string authorization :
       {"Bearer ", "Bearer wrong", "Bearer first ", "bearer  first", "Basic first", "first",
        "Bearerfirst", "Bearer first,first"}) {
    EXPECT_EQ(gate->Admit("GetJob", authorization).status(), none) << authorization;
  }
  const std::string long_one = "Bearer " + std::string(1 << 20, 'x');
  EXPECT_EQ(gate->Admit("GetJob", long_one).status(), none);
  EXPECT_THAT(std::string(none.message()), Not(HasSubstr("first")));
  EXPECT_TRUE(gate->Admit("GetJob", "Bearer first").ok());
  EXPECT_TRUE(gate->Admit("GetJob", "bearer first").ok()) << "the scheme is in any case";
}

TEST_F(GateTest, KeepsNothingOfAHundredThousandWrongTokens) {
  const std::unique_ptr<Gate> gate = Open();
  const size_t before = mallinfo2().uordblks;
  for (int i = 0; i < 100'000; ++i) {
    ASSERT_EQ(CodeOf(*gate, absl::StrCat("Bearer atp_", i)), absl::StatusCode::kUnauthenticated);
  }
  EXPECT_LT(mallinfo2().uordblks, before + (64 << 10)) << "bytes";
}

TEST_F(GateTest, KnowsTheRole) {
  const std::unique_ptr<Gate> gate = Open();
  const absl::Status status = gate->Admit("CancelJob", "Bearer first").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kPermissionDenied);
  EXPECT_EQ(status.message(), "CancelJob needs the role submitter, the token's is reader");
}

TEST_F(GateTest, TakesAChangedFileAtTheNextCall) {
  const std::unique_ptr<Gate> gate = Open();
  Write(LineOf("second", Role::kAdmin));
  EXPECT_EQ(CodeOf(*gate, "Bearer first"), absl::StatusCode::kUnauthenticated) << "revoked";
  EXPECT_EQ(CodeOf(*gate, "Bearer second", "metrics"), absl::StatusCode::kOk);
  EXPECT_THAT(events_, ElementsAre("tokens.reload"));
  Write(LineOf("second", Role::kReader));
  EXPECT_EQ(CodeOf(*gate, "Bearer second", "metrics"), absl::StatusCode::kPermissionDenied);
}

TEST_F(GateTest, KeepsTheTokensOfBeforeWhereAChangedFileIsNone) {
  const std::unique_ptr<Gate> gate = Open();
  Write("nonsense\n");
  EXPECT_EQ(CodeOf(*gate, "Bearer first"), absl::StatusCode::kOk);
  EXPECT_EQ(CodeOf(*gate, "Bearer first"), absl::StatusCode::kOk);
  EXPECT_THAT(events_, ElementsAre("tokens.refused")) << "said once";
  EXPECT_THAT(detail_, HasSubstr("line 1"));
  std::remove(path_.c_str());
  EXPECT_EQ(CodeOf(*gate, "Bearer first"), absl::StatusCode::kOk);
  EXPECT_THAT(events_, ElementsAre("tokens.refused", "tokens.refused"));
  Write(LineOf("second", Role::kReader));
  EXPECT_EQ(CodeOf(*gate, "Bearer first"), absl::StatusCode::kUnauthenticated);
}

TEST_F(GateTest, SaysThatOthersCanReadTheFile) {
  chmod(path_.c_str(), 0644);
  Open();
  EXPECT_THAT(events_, ElementsAre("tokens.readable"));
}

TEST_F(GateTest, DoesNotOpenWithAFileThatIsNone) {
  Write("nonsense\n");
  const absl::Status bad = Gate::Open({.token_file = path_}).status();
  EXPECT_EQ(bad.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(bad.message()), HasSubstr(path_ + ": line 1: "));
  EXPECT_FALSE(Gate::Open({.token_file = folder_ / "missing"}).ok());
}

}  // namespace
}  // namespace attnprune::access
