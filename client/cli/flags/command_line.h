// A program's subcommands and their flags. CLI11, which parses them, is seen by command_line.cc
// alone: its header costs every file that includes it ten seconds.
#ifndef ATTNPRUNE_CLIENT_CLI_FLAGS_COMMAND_LINE_H_
#define ATTNPRUNE_CLIENT_CLI_FLAGS_COMMAND_LINE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "client/cli/shell/shell.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace attnprune::cli {

// One flag, or a positional argument. Each call adds a word to its help or a rule that its value
// must keep to.
class Flag {
 public:
  explicit Flag(CLI::Option* option) : option_(option) {}

  Flag& Type(const std::string& name);     // of the value: "FILE"
  Flag& ShowDefault();                     // what the variable holds now
  Flag& Default(const std::string& text);  // in other words
  Flag& FromEnvironment(const std::string& variable);
  Flag& Required();
  Flag& Repeatable();  // one value each time
  Flag& AtLeast(int64_t min);
  Flag& Between(int64_t min, int64_t max);
  Flag& OneOf(const std::vector<std::string>& texts);
  Flag& Bytes();  // 2GiB is 2147483648
  Flag& Excludes(const std::string& other);

 private:
  CLI::Option* option_;
};

// Reads a value. An error says the rule and the value; the flag is named for it.
using FlagParser = std::function<absl::Status(const std::string& text)>;

using Action = std::function<int(const Shell& shell)>;  // returns an exit code

// The program, or one of its subcommands. Copies are the same one, valid as long as the
// CommandLine; so must be the variables that flags write to.
class Command {
 public:
  Command(CLI::App* app, Action* chosen) : app_(app), chosen_(chosen) {}

  // value: a number, a text, or a vector of them; its content is the default.
  template <typename Value>
  Flag Add(const std::string& name, Value& value, const std::string& help);
  Flag Add(const std::string& name, bool& given, const std::string& help);  // takes no value
  Flag AddParsed(const std::string& name, FlagParser parse, const std::string& help);

  Command AddCommand(const std::string& name, const std::string& help);
  void RequireCommand();  // of its own subcommands

  void Run(Action action);  // when it is the one that is called

 private:
  CLI::App* app_;
  Action* chosen_;
};

struct ProgramText {
  std::string name, summary, version;
  std::string footer;  // below the help
};

class CommandLine {
 public:
  explicit CommandLine(const ProgramText& text);
  ~CommandLine();
  CommandLine(const CommandLine&) = delete;
  CommandLine& operator=(const CommandLine&) = delete;

  Command program() { return Command(app_.get(), &chosen_); }

  // Runs the command that the arguments call, or prints the help they ask for. Returns an exit
  // code; kUsage, an error told, if they are wrong.
  int Run(const std::vector<std::string>& arguments, const Shell& shell);

 private:
  std::unique_ptr<CLI::App> app_;
  Action chosen_;
};

}  // namespace attnprune::cli

#endif  // ATTNPRUNE_CLIENT_CLI_FLAGS_COMMAND_LINE_H_
