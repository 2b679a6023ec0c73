// The command line in this process, on a small problem in a folder.
#ifndef ATTNPRUNE_TESTS_CLIENT_CLI_COMMAND_LINE_H_
#define ATTNPRUNE_TESTS_CLIENT_CLI_COMMAND_LINE_H_

#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "client/cli/cli.h"
#include "gtest/gtest.h"
#include "tests/server/api/temporary_folder.h"
#include "tests/support/paths.h"

namespace attnprune::cli {

struct Outcome {
  int code;
  std::string out, err;
};

inline Outcome Attnprune(const std::vector<std::string>& arguments) {
  std::ostringstream out, err;
  const Shell shell{
      .out = &out, .err = &err, .out_columns = {}, .err_columns = {}, .interrupt = {}};
  const int code = RunCommandLine(arguments, shell);
  return {code, out.str(), err.str()};
}

// Split at spaces, with DIR replaced, and LLAMA by a small model of four layers.
inline Outcome Attnprune(const std::string& line, const std::string& dir) {
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

inline constexpr char kJob[] =
    " --weights DIR/weights.safetensors --fused w --calibration DIR/calibration.safetensors "
    "--held-out DIR/held_out.safetensors ";

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_TESTS_CLIENT_CLI_COMMAND_LINE_H_
