// The command line as its users see it: flags, exit codes, output.
#include "client/cli/cli.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/jobs/free_room.h"
#include "core/io/safetensors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/cli/command_line.h"
#include "tests/server/api/temporary_folder.h"

namespace attnprune::cli {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST_F(CommandLine, SaysWhatIsWrongWithItsFlagsAndExitsWithTwo) {
  struct Row {
    const char* line;
    const char* says;
  };
  const Row rows[] = {
      {"", "subcommand"},
      {"squeeze", "subcommand"},
      {"run --nonsense", "nonsense"},
      {"list --unused", "--unused must stand beside --tensors"},
      {"list --tensors --label a=b", "--tensors must stand without --runs, --state and --label"},
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
       "DIR/calibration.safetensors --save-mask /dev/null/masks.safetensors",
       "--save-mask must lie in a folder"},
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
      {"watch r-x --tensorboard DIR/x", "--tensorboard is for jobs"},
      {"fetch r-x", "--output"},
      {"fetch r-x --output DIR/out --method gd", "--method"},
      {"fetch x --output DIR/out --format bitmask", "--format is for runs"},
      {"unpack LLAMA", "--output"},
      {"unpack LLAMA --output LLAMA", "another folder"},
      {"unpack LLAMA --output DIR/out", "bitmask"},
      {"unpack DIR/none --output DIR/out", "none"},
      {"export r-x --csv -", "NAME must be a job's"},
      {"submit --method gd --model LLAMA --layer 0 --calibration LLAMA/calibration.safetensors "
       "--watch --save-mask LLAMA/held_out.safetensors",
       "--save-mask must not be a file that is read or one of the model's folder"},
      {"watch", "NAME or --label must be given, got neither"},
      {"watch x y --after 3", "--after and --json are for one NAME"},
      {"get x --label a=b", "NAME or --label must be given, got both"},
      {"cancel --label a", "KEY=VALUE"},
      {"fetch x y --output DIR/o.safetensors", "--output must have {name} in it"},
      {"fetch --label a=b --save-mask DIR/{name} --output DIR/o",
       "--output must have {name} in it"},
      {"fetch jobs/x", "--output"},
      {"fetch jobs/x --output a --weights b --model c", "--model"},
      {"list --state asleep", "asleep"},
      {"list --limit 0", "limit"},
      {"synth", "--output"},
      {"synth --d 4 --rank 9 --output DIR/none", "rank"},
      {"reproduce figure2 --output DIR/none", "python3 -m attnprune.reproduce"},
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
  for (const char* name : {"prune", "run", "submit", "watch", "get", "list", "cancel", "delete",
                           "resume", "fetch", "unpack", "info", "synth", "health", "Exit codes"}) {
    EXPECT_THAT(help.out, HasSubstr(name));
  }
  EXPECT_THAT(Attnprune({"run", "--help"}).out, HasSubstr("--calibration"));
}

TEST_F(CommandLine, ExitsWithThreeWhenNoServerIsThere) {
  // Port 1 of this machine: nobody listens there, and nobody but root could.
  for (const char* line : {"health", "info", "get x", "list", "watch x", "cancel x", "delete x",
                           "get r-x", "watch r-x", "cancel runs/r-x", "delete r-x", "resume r-x",
                           "list --runs", "list --tensors", "fetch r-x --output DIR/out"}) {
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
                   "--save-mask DIR/out/masks.safetensors"),
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

TEST(FreeRoom, SaysWhatIsMissing) {
  const TemporaryFolder folder;
  std::filesystem::create_directory(folder.path() + "/proc");
  std::ofstream(folder.path() + "/proc/meminfo")
      << "MemTotal:       16000000 kB\nMemFree:  10 kB\nMemAvailable:    1024 kB\n";
  EXPECT_EQ(FreeMemory(folder.path()), 1 << 20);
  EXPECT_EQ(FreeMemory(folder.path() + "/none"), absl::nullopt);
  EXPECT_TRUE(CheckMemoryRoom(1 << 20, 1 << 20).ok());
  EXPECT_TRUE(CheckMemoryRoom(1 << 20, absl::nullopt).ok());
  EXPECT_EQ(CheckMemoryRoom(int64_t{3} << 30, int64_t{1} << 30).message(),
            "the work needs about 3.0 GiB of memory, and 1.0 GiB are free; --memory-budget BYTES "
            "says how much it may take all the same");
  const std::string later = folder.path() + "/not/yet/there.safetensors";
  EXPECT_TRUE(CheckRoomAt(later, 1).ok());
  EXPECT_EQ(CheckRoomAt(later, int64_t{1} << 60).code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(BytesOf(folder.path()), 69);
}

}  // namespace
}  // namespace attnprune::cli
