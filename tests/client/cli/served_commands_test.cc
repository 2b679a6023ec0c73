// The commands that ask a server.
#include <algorithm>
#include <memory>
#include <string>

#include "absl/strings/str_cat.h"
#include "core/io/safetensors.h"
#include "gmock/gmock.h"
#include "server/server.h"
#include "tests/client/cli/command_line.h"

namespace attnprune::cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

// With a server of the test's own.
class ServedCommandLine : public CommandLine {
 protected:
  void SetUp() override {
    ServerOptions options;
    options.listen = "127.0.0.1:0";
    options.data_dir = data_.path();
    options.threads_per_job = 1;
    absl::StatusOr<std::unique_ptr<Server>> server = Server::Start(options);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
  }

  Outcome Run(const std::string& line) const {
    return Attnprune(absl::StrCat(line, " --server ", server_->address()), dir());
  }

 private:
  const TemporaryFolder data_;
  std::unique_ptr<Server> server_;
};

TEST_F(ServedCommandLine, ManagesJobsOnAServer) {
  EXPECT_EQ(Run("health").out, "serving\n");
  EXPECT_THAT(Run("info").out, AllOf(HasSubstr("magnitude"), HasSubstr("draws no random numbers")));
  const Outcome valid = Run(absl::StrCat("submit --validate-only", kJob, "--method gd"));
  EXPECT_EQ(valid.code, 0) << valid.err;
  EXPECT_THAT(valid.out, HasSubstr("memory"));
  EXPECT_EQ(Run("list").out,
            "job  state  model  layer  at work  done  left  best  methods  priority  created\n");

  const Outcome submitted = Run(absl::StrCat("submit", kJob, "--method magnitude"));
  ASSERT_EQ(submitted.code, 0) << submitted.err;
  EXPECT_THAT(submitted.out, StartsWith("jobs/"));
  const std::string name = submitted.out.substr(0, submitted.out.size() - 1);
  const Outcome watched = Run("watch --json " + name);
  EXPECT_EQ(watched.code, 0) << watched.err;
  EXPECT_THAT(watched.out, HasSubstr("\"terminal\""));
  EXPECT_THAT(Run("get " + name).out, HasSubstr("succeeded"));
  EXPECT_THAT(Run("list --state succeeded").out, HasSubstr(name));
  const Outcome fetched = Run("fetch " + name + " --method magnitude --output DIR/f.safetensors");
  EXPECT_EQ(fetched.code, 0) << fetched.err;
  EXPECT_TRUE(SafetensorsFile::Open(dir() + "/f.safetensors")->Contains("w_q"));
  const Outcome none = Run("fetch " + name + " --method ste --output DIR/g.safetensors");
  EXPECT_EQ(none.code, 1);
  EXPECT_EQ(none.err, absl::StrCat("attnprune: ", name,
                                   " has no result of method ste; there is: magnitude\n"));

  const Outcome slow = Run(absl::StrCat("submit", kJob, "--method gd:steps=1000000"));
  const std::string slow_name = slow.out.substr(0, slow.out.size() - 1);
  EXPECT_EQ(Run("delete " + slow_name).code, 4) << "it has not ended";
  EXPECT_EQ(Run("cancel " + slow_name).code, 0);
  EXPECT_EQ(Run("watch " + slow_name).code, 1);
  EXPECT_EQ(Run("delete " + slow_name).code, 0);
  EXPECT_EQ(Run("get " + slow_name).code, 4);
}

TEST_F(ServedCommandLine, ListsTheTensorsOfAServer) {
  EXPECT_EQ(Run("list --tensors").out, "sha256  name  dtype  shape  size  used by  as  time\n");
  const Outcome submitted = Run(absl::StrCat("submit", kJob, "--method magnitude"));
  ASSERT_EQ(submitted.code, 0) << submitted.err;
  const std::string name = submitted.out.substr(0, submitted.out.size() - 1);
  ASSERT_EQ(Run("watch " + name).code, 0);
  EXPECT_THAT(Run("list --tensors").out,
              AllOf(HasSubstr("problem.fused.weight"), HasSubstr("calibration[0]"),
                    HasSubstr("held_out[0]"), HasSubstr("results[0].matrices[0].mask"),
                    HasSubstr("results[0].matrices[0].weights"), HasSubstr(name)));
  EXPECT_THAT(Run("list --tensors --json").out, HasSubstr("\"usedAs\": \"calibration[0]\""));
  const Outcome first = Run("list --tensors --limit 2");
  EXPECT_EQ(std::count(first.out.begin(), first.out.end(), '\n'), 3) << first.out;
  EXPECT_THAT(first.err, HasSubstr("there are more; see --limit"));
  EXPECT_THAT(Run("list --tensors --unused").out, ::testing::Not(HasSubstr(name)));
  ASSERT_EQ(Run("delete " + name).code, 0);
  const std::string unused = Run("list --tensors --unused").out;
  EXPECT_EQ(std::count(unused.begin(), unused.end(), '\n'), 6) << unused;
}

TEST_F(ServedCommandLine, ManagesJobsTogetherByNameOrLabel) {
  const auto submit = [&](const std::string& flags) {
    const std::string name = Run(absl::StrCat("submit", kJob, flags)).out;
    return name.substr(0, name.size() - 1);
  };
  const std::string a = submit("--method magnitude --label set=x");
  const std::string b = submit("--method magnitude --seed 1 --label set=x");
  EXPECT_EQ(Run(absl::StrCat("watch ", a, " ", b)).code, 0);
  const Outcome got = Run(absl::StrCat("get jobs/none ", a, " ", b));
  EXPECT_EQ(got.code, 4) << "one is not there, the others are shown";
  EXPECT_THAT(got.out, AllOf(HasSubstr(a), HasSubstr(b)));
  const Outcome fetched = Run("fetch --label set=x --output DIR/both/{name}.safetensors");
  EXPECT_EQ(fetched.code, 0) << fetched.err;
  for (const std::string& name : {a, b}) {
    EXPECT_TRUE(
        SafetensorsFile::Open(absl::StrCat(dir(), "/both/", name.substr(5), ".safetensors")).ok());
  }

  const std::string slow = submit("--method gd:steps=1000000 --label set=x");
  const std::string other = submit("--method gd:steps=1000000 --label set=y");
  EXPECT_THAT(Run("cancel --label set=x").out, StartsWith(slow)) << "what has ended is left out";
  EXPECT_EQ(Run("watch " + slow).code, 1);
  const Outcome none = Run("cancel --label set=x");
  EXPECT_EQ(none.code, 0);
  EXPECT_THAT(none.err, HasSubstr("there is none with the label set=x"));
  EXPECT_EQ(Run("watch --label set=none").code, 1);
  EXPECT_EQ(Run("delete --label set=x").out,
            absl::StrCat(a, "  deleted\n", b, "  deleted\n", slow, "  deleted\n"));
  EXPECT_THAT(Run("list").out, AllOf(HasSubstr(other), ::testing::Not(HasSubstr(a))));
  EXPECT_EQ(Run("cancel " + other).code, 0);
}

}  // namespace
}  // namespace attnprune::cli
