// The command line as its users see it: flags, exit codes, output.
#include "client/cli/cli.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "core/io/safetensors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/server.h"
#include "tests/server/api/temporary_folder.h"
#include "tests/support/paths.h"

namespace attnprune::cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

struct Outcome {
  int code;
  std::string out, err;
};

Outcome Attnprune(const std::vector<std::string>& arguments) {
  std::ostringstream out, err;
  const Shell shell{
      .out = &out, .err = &err, .out_columns = {}, .err_columns = {}, .interrupt = {}};
  const int code = RunCommandLine(arguments, shell);
  return {code, out.str(), err.str()};
}

// Split at spaces, with DIR replaced, and LLAMA by a small model of four layers.
Outcome Attnprune(const std::string& line, const std::string& dir) {
  return Attnprune(absl::StrSplit(absl::StrReplaceAll(line, {{"DIR", dir}, {"LLAMA", TinyLlama()}}),
                                  ' ', absl::SkipEmpty()));
}

// The paper's data, small, in a folder.
class CommandLine : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryFolder;
    const Outcome made =
        Attnprune("synth --d 8 --n 6 --k 2 --rank 2 --output DIR", folder_->path());
    ASSERT_EQ(made.code, 0) << made.err;
  }
  static void TearDownTestSuite() { delete folder_; }

  const std::string& dir() const { return folder_->path(); }
  static inline TemporaryFolder* folder_ = nullptr;
};

constexpr char kJob[] =
    " --weights DIR/weights.safetensors --fused w --calibration DIR/calibration.safetensors "
    "--held-out DIR/held_out.safetensors ";

TEST_F(CommandLine, SaysWhatIsWrongWithItsFlagsAndExitsWithTwo) {
  struct Row {
    const char* line;
    const char* says;
  };
  const Row rows[] = {
      {"", "subcommand"},
      {"squeeze", "subcommand"},
      {"run --nonsense", "nonsense"},
      {"run", "--method"},
      {"run --method gd", "--weights"},
      {"run --method gd:eta --weights DIR/weights.safetensors --fused w", "NAME:PARAMETER=NUMBER"},
      {"run --method gd --sparsity 1.2", "sparsity"},
      {"run --method gd --weights DIR/weights.safetensors --fused w --calibration "
       "DIR/calibration.safetensors --held-out-fraction 1",
       "--held-out-fraction must be in [0, 1), got 1"},
      {"run --method gd --weights DIR/weights.safetensors --fused w --calibration "
       "DIR/calibration.safetensors --held-out-fraction nan",
       "--held-out-fraction must be in [0, 1), got nan"},
      {"run --method gd --weights DIR/weights.safetensors --fused w --calibration "
       "DIR/calibration.safetensors --held-out DIR/held_out.safetensors --held-out-fraction 0.5",
       "--held-out-fraction is for jobs without --held-out"},
      {"run --method gd --sparsity 4:2", "4:2"},
      {"run --method gd --label x", "KEY=VALUE"},
      {"run --method gd --label k=\xff\xfe", "arguments must be UTF-8, got \"k=\\xff\\xfe\""},
      {"run --method gd --model LLAMA --layer 1 --label attnprune/layer=3",
       "--label attnprune/layer must be the job's layer, 1, got 3"},
      {"run --method gd --model DIR", "--layer"},
      {"run --method gd --layer 1 --weights x.safetensors", "--model"},
      {"run --method gd --model DIR --layer 0 --fused w", "leave out"},
      {"run --method gd --model DIR --layer 0", "config.json"},
      {"run --method gd --weights DIR/weights.safetensors", "one of --fused"},
      {"run --method gd --weights DIR/weights.safetensors --fused w --q w_q", "one of --fused"},
      {"run --method gd --weights DIR/weights.safetensors --fused w --heads 2", "go with --q"},
      {"run --method gd --weights DIR/weights.safetensors --q w_q --k w_k", "--heads"},
      {"run --method gd --weights DIR/weights.safetensors --fused nothere", "nothere"},
      {"run --method gd --weights DIR/missing.safetensors --fused w", "missing.safetensors"},
      {"run --method gd --weights DIR/weights.safetensors --fused-product w_q", "QNAME,KNAME"},
      {"run --method gd --weights DIR/weights.safetensors --fused w", "--calibration"},
      {"run --method gd --weights DIR/weights.safetensors --fused w --calibration x.txt", ".npy"},
      {"run --method gd --weights DIR/weights.safetensors --fused w --calibration "
       "DIR/weights.safetensors",
       "name the tensor"},
      {"run --method gd --weights DIR/weights.safetensors --fused w --attention sideways",
       "sideways"},
      {"run --method gd --weights DIR/weights.safetensors --fused w --calibration "
       "DIR/calibration.safetensors --output DIR/weights.safetensors",
       "--output must not be a file that is read"},
      {"run --method gd --weights DIR/weights.safetensors --fused w --calibration "
       "DIR/calibration.safetensors --save-mask DIR/./calibration.safetensors",
       "--save-mask must not be a file that is read"},
      {"run --method gd --weights DIR/weights.safetensors --fused w --calibration "
       "DIR/calibration.safetensors --output DIR/",
       "--output must not be a file that is read"},
      {"run --method gd --weights DIR/weights.safetensors --fused w --calibration "
       "DIR/calibration.safetensors --output DIR/o.safetensors --save-mask DIR/o.safetensors",
       "--save-mask must not be the file of --output"},
      {"run --method gd --weights DIR/weights.safetensors --fused w --calibration "
       "DIR/calibration.safetensors --plot /dev/null/plot.svg",
       "--plot must lie in a folder"},
      {"run --method gd --heads 0", "at least 1, got 0"},
      {"run --method gd --seed -1", "from 0 to 18446744073709551615, got -1"},
      {"capture --model LLAMA --output DIR/o --seed 18446744073709551616", "--seed"},
      {"capture --model LLAMA --output DIR/weights.safetensors --text x.txt",
       "must be a folder, got a file"},
      {"run --method gd --timeout 1", "must be a duration such as"},
      {"run --method gd --label a=b --label a=c", "once"},
      {"run --method gd --priority 2000", "priority"},
      {"run --method gd --timeout soon", "timeout"},
      {"submit --method gd --output x.safetensors", "--watch"},
      {"run --method gd --model DIR --layer some", "--layer"},
      {"run --method gd --model DIR --layer -1", "--layer"},
      {"run --method gd --model LLAMA --layer all", "attnprune prune --attention-method METHOD"},
      {"submit --method gd --model LLAMA --layer all", "--order independent"},
      {"merge x --model LLAMA --output DIR/out", "attnprune prune --attention-method METHOD"},
      {"submit --method gd --attention-method kfac", "--attention-method needs --run"},
      {"submit --method gd --allocation owl", "--allocation needs --run"},
      {"prune", "--model"},
      {"prune --model LLAMA --text x.txt", "--output"},
      {"prune --model LLAMA --output DIR/out", "--text"},
      {"prune --model LLAMA --text x.txt --output LLAMA", "--output must be another folder"},
      {"prune --model LLAMA --text x.txt --output DIR", "--overwrite"},
      {"prune --model LLAMA --text x.txt --output DIR/out --method gd", "any linear map"},
      {"prune --model LLAMA --text x.txt --output DIR/out --method alps --method wanda",
       "--compare"},
      {"prune --model LLAMA --text x.txt --output DIR/out --rule q", "--rule must be"},
      {"prune --model LLAMA --text x.txt --output DIR/out --rule q=nothing", "nothing"},
      {"prune --model LLAMA --text x.txt --output DIR/out --recipe none", "--recipe"},
      {"prune --model LLAMA --text x.txt --output DIR/out --attention-method nothing",
       "--attention-method nothing"},
      {"prune --model LLAMA --text x.txt --output DIR/out --attention-method gd:etas=1", "etas"},
      {"prune --model LLAMA --text x.txt --output DIR/out --allocation more",
       "--allocation must be uniform"},
      {"prune --model LLAMA --text x.txt --output DIR/out --allocation owl:step=1",
       "owl has no parameter step"},
      {"prune --model LLAMA --text x.txt --output DIR/out --sparsity 2", "--sparsity"},
      {"prune --model LLAMA --text DIR/none.txt --output DIR/out", "none.txt"},
      {"prune --model DIR/none --text x.txt --output DIR/out", "none"},
      {"prune --model LLAMA --text x.txt --output DIR/out --threads 1 --server 127.0.0.1:1",
       "--threads"},
      {"submit --run --model LLAMA --text x.txt --layer 0", "--layer is for jobs"},
      {"submit --skip q --model LLAMA --layer 0 --method gd", "--skip needs --run"},
      {"resume", "NAME"},
      {"watch r-x --plot DIR/x.svg", "--plot"},
      {"fetch r-x", "--output"},
      {"fetch r-x --output DIR/out --method gd", "--method"},
      {"fetch x --output DIR/out --format bitmask", "--format is for runs"},
      {"unpack LLAMA", "--output"},
      {"unpack LLAMA --output LLAMA", "another folder"},
      {"unpack LLAMA --output DIR/out", "bitmask"},
      {"unpack DIR/none --output DIR/out", "none"},
      {"export r-x --csv -", "NAME must be a job's"},
      {"submit --method gd --model LLAMA --layer 0 --calibration LLAMA/calibration.safetensors "
       "--watch --plot LLAMA/held_out.safetensors",
       "--plot must not be a file that is read or one of the model's folder"},
      {"watch", "NAME"},
      {"fetch jobs/x", "--output"},
      {"fetch jobs/x --output a --weights b --model c", "--model"},
      {"list --state asleep", "asleep"},
      {"list --limit 0", "limit"},
      {"synth", "--output"},
      {"synth --d 4 --rank 9 --output DIR/none", "rank"},
      {"reproduce", "subcommand"},
      {"reproduce figure2", "--output"},
      {"reproduce figure2 --output DIR/none --rho 1", "--rho must be in [0, 1), got 1"},
      {"reproduce figure2 --output DIR/none --points many", "--points"},
      {"reproduce figure2 --output DIR/none --seeds 0", "--seeds"},
      {"reproduce figure2 --output DIR/none --method gd:x", "NAME:PARAMETER=NUMBER"},
      {"reproduce figure3 --output DIR/none --model DIR --layer 0 --held-out x.npy",
       "--calibration"},
      {"reproduce figure3 --output DIR/none --model DIR --layer 0 --calibration x.npy --held-out "
       "x.npy",
       "config.json"},
      {"reproduce figure3 --output DIR/none --model DIR --layer 0 --calibration x.npy --held-out "
       "x.npy --axis lambda",
       "--axis must be one of n, rho in figure3, got lambda"},
  };
  for (const Row& row : rows) {
    const Outcome outcome = Attnprune(row.line, dir());
    EXPECT_EQ(outcome.code, 2) << row.line << "\n" << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(row.says)) << row.line;
    EXPECT_EQ(outcome.out, "") << row.line;
  }
}

TEST_F(CommandLine, HelpsOnStandardOutput) {
  const Outcome help = Attnprune({"--help"});
  EXPECT_EQ(help.code, 0);
  for (const char* name :
       {"prune", "run", "submit", "watch", "get", "list", "cancel", "delete", "resume", "fetch",
        "unpack", "info", "synth", "reproduce", "health", "Exit codes"}) {
    EXPECT_THAT(help.out, HasSubstr(name));
  }
  EXPECT_THAT(Attnprune({"run", "--help"}).out, HasSubstr("--calibration"));
}

TEST_F(CommandLine, ExitsWithThreeWhenNoServerIsThere) {
  // Port 1 of this machine: nobody listens there, and nobody but root could.
  for (const char* line : {"health", "info", "get x", "list", "watch x", "cancel x", "delete x",
                           "get r-x", "watch r-x", "cancel runs/r-x", "delete r-x", "resume r-x",
                           "list --runs", "fetch r-x --output DIR/out"}) {
    const Outcome outcome =
        Attnprune(absl::StrCat(line, " --server 127.0.0.1:1 --patience 0s"), dir());
    EXPECT_EQ(outcome.code, 3) << line;
    EXPECT_THAT(outcome.err, HasSubstr("cannot reach the server")) << line;
  }
}

TEST_F(CommandLine, PrunesAWholeModelWithNoSetUp) {
  const TemporaryFolder folder;
  const Outcome outcome = Attnprune(
      "prune --model LLAMA --text LLAMA/calibration.txt --samples 2 --sequence-length 32 "
      "--held-out-fraction 0.5 --method magnitude --skip down --output DIR/out --quiet",
      folder.path());
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("block 3  up "), HasSubstr("nats/token"),
                                 HasSubstr("pruned model: " + folder.path() + "/out")));
  EXPECT_THAT(outcome.out, ::testing::Not(HasSubstr("down")));
  for (const char* file : {"model.safetensors", "config.json", "report.json", "report.md"}) {
    EXPECT_TRUE(std::filesystem::exists(folder.path() + "/out/" + file)) << file;
  }
}

TEST_F(CommandLine, PrunesQueriesAndKeysTogetherAndSharesTheSparsityOut) {
  const TemporaryFolder folder;
  const Outcome outcome = Attnprune(
      "prune --model LLAMA --text LLAMA/calibration.txt --samples 2 --sequence-length 32 "
      "--held-out-fraction 0.5 --method magnitude --attention-method wanda --skip down "
      "--allocation owl:outlier=3 --output DIR/out --quiet",
      folder.path());
  EXPECT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, AllOf(HasSubstr("sparsities by block  0."), HasSubstr("attention 0."),
                                 HasSubstr("magnitude, q and k by wanda")));
  std::ifstream report(folder.path() + "/out/report.json");
  const auto json = nlohmann::json::parse(report);
  EXPECT_EQ(json["provenance"]["attentionMethod"], "wanda");
  EXPECT_EQ(json["provenance"]["allocation"], "owl:outlier=3");
  EXPECT_EQ(json["model"]["blockSparsities"].size(), 4);
  int attends = 0;
  for (const auto& tensor : json["tensors"]) {
    const bool qk = tensor["maps"][0] == "q" || tensor["maps"][0] == "k";
    EXPECT_EQ(tensor["method"], qk ? "wanda" : "magnitude");
    EXPECT_EQ(tensor.contains("attentionHeldOutError"), qk);
    attends += qk ? 1 : 0;
  }
  EXPECT_EQ(attends, 8);
}

TEST_F(CommandLine, RunsAJobWithNoSetUp) {
  const Outcome outcome = Attnprune(
      absl::StrCat("run", kJob,
                   "--method gd:steps=20 --method magnitude --output DIR/out/{method}.safetensors "
                   "--save-mask DIR/out/masks.safetensors --plot DIR/plots/plot.svg"),
      dir());
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("method     held out"));
  EXPECT_EQ(outcome.err, "");
  for (const char* file : {"/out/gd.safetensors", "/out/magnitude.safetensors"}) {
    const auto pruned = SafetensorsFile::Open(dir() + file);
    ASSERT_TRUE(pruned.ok()) << pruned.status();
    const Matrix w = *pruned->ReadMatrix("w");
    EXPECT_EQ(std::count(w.data(), w.data() + w.size(), 0.0f), 32) << "half of 8 x 8";
    EXPECT_TRUE(pruned->Contains("w_q")) << "what else is in the file is copied";
  }
  const auto masks = SafetensorsFile::Open(dir() + "/out/masks.safetensors");
  ASSERT_TRUE(masks.ok());
  EXPECT_EQ((*masks->Find("w"))->dtype, DType::kBool);
  EXPECT_TRUE(std::filesystem::exists(dir() + "/plots/plot.svg"));
}

TEST_F(CommandLine, PrintsTheJobAloneOnStandardOutputWithJson) {
  const Outcome outcome = Attnprune(absl::StrCat("run --json", kJob, "--method magnitude"), dir());
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.out, StartsWith("{"));
  EXPECT_THAT(outcome.out, HasSubstr("\"relativeError\""));
  EXPECT_THAT(outcome.err, HasSubstr("held out"));
}

TEST_F(CommandLine, ExitsWithFourWhenTheServerRefuses) {
  const Outcome scale =
      Attnprune(absl::StrCat("run --scale -1", kJob, "--method magnitude"), dir());
  EXPECT_EQ(scale.code, 4) << scale.err;
  EXPECT_THAT(scale.err, HasSubstr("scale"));
}

TEST_F(CommandLine, ExitsWithTwoForAMethodThatThereIsNot) {
  const Outcome method = Attnprune(absl::StrCat("run", kJob, "--method nosuch"), dir());
  EXPECT_EQ(method.code, 2);
  EXPECT_THAT(method.err, HasSubstr("nosuch"));
}

TEST_F(CommandLine, ExitsWithOneWhenTheJobRunsOutOfTime) {
  const Outcome outcome =
      Attnprune(absl::StrCat("run --timeout 1s", kJob, "--method gd:steps=1000000"), dir());
  EXPECT_EQ(outcome.code, 1);
  EXPECT_THAT(outcome.err, HasSubstr("failed"));
}

std::vector<std::string> LinesOf(const std::string& path) {
  std::ifstream file(path);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) lines.push_back(line);
  return lines;
}

TEST_F(CommandLine, ReproducesFigure2AsCsvAndSvg) {
  const Outcome outcome = Attnprune(
      "reproduce figure2 --d 8 --n 6 --rank 2 --k 2 --k 3 --seeds 2 --axis lambda=0.04,0.08 "
      "--axis n=4,6 --method gd:steps=5 --method magnitude --output DIR/figures",
      dir());
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  EXPECT_THAT(outcome.err, HasSubstr("8/8  seed 1  k 3  n 4  rho 0.5  gd:steps=5 "));
  EXPECT_THAT(outcome.out, HasSubstr("calibration / held out"));
  const std::vector<std::string> rows = LinesOf(dir() + "/figures/figure2-n.csv");
  ASSERT_EQ(rows.size(), 1u + 2 * 2 * 2 * 2) << "k, n, method, seed";
  EXPECT_THAT(rows[1], StartsWith("figure2,n,4,2,gd:steps=5,0,0."));
  EXPECT_EQ(std::count(rows[1].begin(), rows[1].end(), ','), 8);
  for (const char* file : {"lambda.svg", "lambda-held-out.svg", "n.svg", "n-held-out.svg"}) {
    EXPECT_TRUE(std::filesystem::exists(dir() + "/figures/figure2-" + file)) << file;
  }
  EXPECT_FALSE(std::filesystem::exists(dir() + "/figures/figure2-rho.csv"));
}

TEST_F(CommandLine, ReproducesFigure3OnAModelsLayer) {
  const std::string model = TinyLlama();
  const std::string line =
      absl::StrCat("reproduce figure3 --model ", model, " --layer 1 --calibration ", model,
                   "/calibration.safetensors --held-out ", model,
                   "/held_out.safetensors --axis n=8,16 --n 16 --output DIR/figures ");
  const Outcome outcome =
      Attnprune(line + "--k 4 --seeds 2 --method magnitude --method wanda", dir());
  ASSERT_EQ(outcome.code, 0) << outcome.err;
  const std::vector<std::string> rows = LinesOf(dir() + "/figures/figure3-n.csv");
  ASSERT_EQ(rows.size(), 1u + 2 * 2 * 2);
  const auto error_of = [&](size_t row) {
    return std::vector<std::string>(absl::StrSplit(rows[row], ','));
  };
  // magnitude looks at no tokens: its mask, and so its held-out error, is one for both seeds.
  EXPECT_EQ(error_of(1)[7], error_of(2)[7]);
  EXPECT_NE(error_of(1)[6], error_of(2)[6]) << "each seed has sequences of its own";
  EXPECT_NE(error_of(3)[7], error_of(4)[7]) << "wanda learns from them";

  const Outcome many = Attnprune(line + "--k 16", dir());
  EXPECT_EQ(many.code, 2);
  EXPECT_THAT(many.err, HasSubstr("--k must be at most 15"));
  const Outcome odd = Attnprune(line + "--n 129 --k 4", dir());
  EXPECT_EQ(odd.code, 2);
}

TEST_F(CommandLine, LeavesOutDefaultMethodsThatTheServerLacksAndRefusesOthers) {
  const std::string line =
      "reproduce figure2 --d 4 --n 4 --rank 1 --k 1 --seeds 1 --axis rho=0.5 --output DIR/figures ";
  const Outcome usual = Attnprune(line + "--add-method wanda:factors=0", dir());
  EXPECT_EQ(usual.code, 0) << usual.err;
  EXPECT_THAT(usual.out, HasSubstr("sparsegpt"));
  EXPECT_THAT(usual.out, HasSubstr("wanda:factors=0"));
  const Outcome unknown = Attnprune(line + "--method nosuch", dir());
  EXPECT_EQ(unknown.code, 4);
  EXPECT_THAT(unknown.err, HasSubstr("nosuch"));
}

absl::StatusOr<std::unique_ptr<Server>> StartServer(const TemporaryFolder& data) {
  ServerOptions options;
  options.listen = "127.0.0.1:0";
  options.data_dir = data.path();
  options.threads_per_job = 1;
  return Server::Start(options);
}

TEST_F(CommandLine, ManagesJobsOnAServer) {
  const TemporaryFolder data;
  const auto server = StartServer(data);
  ASSERT_TRUE(server.ok()) << server.status();
  const std::string at = absl::StrCat(" --server ", (*server)->address(), " ");
  const auto run = [&](const std::string& line) {
    return Attnprune(absl::StrCat(line, at), dir());
  };

  EXPECT_EQ(run("health").out, "serving\n");
  EXPECT_THAT(run("info").out, AllOf(HasSubstr("magnitude"), HasSubstr("draws no random numbers")));
  const Outcome valid = run(absl::StrCat("submit --validate-only", kJob, "--method gd"));
  EXPECT_EQ(valid.code, 0) << valid.err;
  EXPECT_THAT(valid.out, HasSubstr("memory"));
  EXPECT_EQ(run("list").out, "job  state  priority  created  methods  best\n");

  const Outcome submitted = run(absl::StrCat("submit", kJob, "--method magnitude"));
  ASSERT_EQ(submitted.code, 0) << submitted.err;
  EXPECT_THAT(submitted.out, StartsWith("jobs/"));
  const std::string name = submitted.out.substr(0, submitted.out.size() - 1);
  const Outcome watched = run("watch --json " + name);
  EXPECT_EQ(watched.code, 0) << watched.err;
  EXPECT_THAT(watched.out, HasSubstr("\"terminal\""));
  EXPECT_THAT(run("get " + name).out, HasSubstr("succeeded"));
  EXPECT_THAT(run("list --state succeeded").out, HasSubstr(name));
  const Outcome fetched = run("fetch " + name + " --method magnitude --output DIR/f.safetensors");
  EXPECT_EQ(fetched.code, 0) << fetched.err;
  EXPECT_TRUE(SafetensorsFile::Open(dir() + "/f.safetensors")->Contains("w_q"));
  const Outcome none = run("fetch " + name + " --method ste --output DIR/g.safetensors");
  EXPECT_EQ(none.code, 1);
  EXPECT_EQ(none.err, absl::StrCat("attnprune: ", name,
                                   " has no result of method ste; there is: magnitude\n"));

  const Outcome slow = run(absl::StrCat("submit", kJob, "--method gd:steps=1000000"));
  const std::string slow_name = slow.out.substr(0, slow.out.size() - 1);
  EXPECT_EQ(run("delete " + slow_name).code, 4) << "it has not ended";
  EXPECT_EQ(run("cancel " + slow_name).code, 0);
  EXPECT_EQ(run("watch " + slow_name).code, 1);
  EXPECT_EQ(run("delete " + slow_name).code, 0);
  EXPECT_EQ(run("get " + slow_name).code, 4);
}

}  // namespace
}  // namespace attnprune::cli
