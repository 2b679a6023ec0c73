// A program's subcommands and their flags. CLI11, which parses them, is seen by command_line.cc
// alone: its header costs every file that includes it ten seconds.
#ifndef ATTNPRUNE_CLIENT_CLI_FLAGS_COMMAND_LINE_H_
#define ATTNPRUNE_CLIENT_CLI_FLAGS_COMMAND_LINE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "client/cli/shell/shell.h"

namespace CLI {
class App;
}

namespace attnprune::cli {

// What a flag, or a positional argument, has beside its name: words of its help, and rules that its
// value must keep to.
struct FlagRules {
  std::string type;           // of the value: "FILE"
  bool show_default = false;  // what the variable holds now
  std::string default_text;   // the default in other words
  bool required = false;
  bool repeatable = false;  // one value each time
  bool bytes = false;       // 2GiB is 2147483648
  std::optional<int64_t> at_least;
  std::optional<std::pair<int64_t, int64_t>> between;
  std::vector<std::string> one_of;
  std::string environment;  // the variable that it is read from if it is not given
  std::string excludes;     // another flag
};

// Reads a value. An error says the rule and the value; the flag is named for it.
using FlagParser = std::function<absl::Status(const std::string& text)>;

using Action = std::function<int(const Shell& shell)>;  // returns an exit code

// The program, or one of its subcommands. Copies are the same one, valid as long as RunProgram
// runs; so must be the variables that flags write to.
class Command {
 public:
  Command(CLI::App* app, Action* chosen) : app_(app), chosen_(chosen) {}

  // value: a number, a text, or a vector of them; its content is the default.
  template <typename Value>
  void Add(const std::string& name, Value& value, const std::string& help,
           const FlagRules& rules = {});
  void Add(const std::string& name, bool& given, const std::string& help,  // takes no value
           const FlagRules& rules = {});
  void AddParsed(const std::string& name, FlagParser parse, const std::string& help,
                 const FlagRules& rules);

  Command AddCommand(const std::string& name, const std::string& help);

  // Runs `run`, when it is the one that is called, with the flags that this returns.
  template <typename Flags>
  Flags& Runs(int (*run)(const Shell& shell, const Flags& flags)) {
    const auto flags = std::make_shared<Flags>();
    SetAction([flags, run](const Shell& shell) { return run(shell, *flags); });
    return *flags;
  }

 private:
  void SetAction(Action action);

  CLI::App* app_;
  Action* chosen_;
};

struct ProgramText {
  std::string name, summary, version;
  std::string footer;  // below the help
};

// Runs the command that the arguments call, of those that `add` adds, or prints the help they ask
// for. Returns an exit code; kUsage, an error told, if they are wrong.
int RunProgram(const ProgramText& text, void (*add)(Command program),
               const std::vector<std::string>& arguments, const Shell& shell);

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_FLAGS_COMMAND_LINE_H_
