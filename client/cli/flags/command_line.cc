#include "client/cli/flags/command_line.h"

#include <CLI/CLI.hpp>
#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace attnprune::cli {

Flag& Flag::Type(const std::string& name) {
  option_->type_name(name);
  return *this;
}

Flag& Flag::ShowDefault() {
  option_->capture_default_str();
  return *this;
}

Flag& Flag::Default(const std::string& text) {
  option_->default_str(text);
  return *this;
}

Flag& Flag::FromEnvironment(const std::string& variable) {
  option_->envname(variable);
  return *this;
}

Flag& Flag::Required() {
  option_->required();
  return *this;
}

Flag& Flag::Repeatable() {
  option_->allow_extra_args(false);
  return *this;
}

// CLI11's own would add its name to the help.
Flag& Flag::AtLeast(int64_t min) {
  const auto check = [min](const std::string& text) {
    int64_t value = 0;
    if (absl::SimpleAtoi(text, &value) && value >= min) return std::string();
    return absl::StrCat("must be a whole number, at least ", min, ", got ", text);
  };
  option_->check(CLI::Validator(check, "", ""));
  return *this;
}

Flag& Flag::Between(int64_t min, int64_t max) {
  option_->check(CLI::Range(min, max));
  return *this;
}

Flag& Flag::OneOf(const std::vector<std::string>& texts) {
  option_->check(CLI::IsMember(texts));
  return *this;
}

Flag& Flag::Bytes() {
  option_->transform(CLI::AsSizeValue(/*kb_is_1000=*/false));
  return *this;
}

Flag& Flag::Excludes(const std::string& other) {
  option_->excludes(other);
  return *this;
}

template <typename Value>
Flag Command::Add(const std::string& name, Value& value, const std::string& help) {
  return Flag(app_->add_option(name, value, help));
}

template Flag Command::Add(const std::string&, std::string&, const std::string&);
template Flag Command::Add(const std::string&, int&, const std::string&);
template Flag Command::Add(const std::string&, int64_t&, const std::string&);
template Flag Command::Add(const std::string&, uint64_t&, const std::string&);
template Flag Command::Add(const std::string&, double&, const std::string&);
template Flag Command::Add(const std::string&, std::optional<double>&, const std::string&);
template Flag Command::Add(const std::string&, std::vector<std::string>&, const std::string&);
template Flag Command::Add(const std::string&, std::vector<int64_t>&, const std::string&);

Flag Command::Add(const std::string& name, bool& given, const std::string& help) {
  return Flag(app_->add_flag(name, given, help));
}

Flag Command::AddParsed(const std::string& name, FlagParser parse, const std::string& help) {
  const auto parse_last = [name, parse = std::move(parse)](const CLI::results_t& texts) {
    const absl::Status status = parse(texts.back());
    if (!status.ok()) throw CLI::ValidationError(name, std::string(status.message()));
    return true;
  };
  return Flag(app_->add_option(name, parse_last, help));
}

Command Command::AddCommand(const std::string& name, const std::string& help) {
  return Command(app_->add_subcommand(name, help), chosen_);
}

void Command::RequireCommand() { app_->require_subcommand(1); }

void Command::Run(Action action) {
  app_->callback([chosen = chosen_, action = std::move(action)] { *chosen = action; });
}

CommandLine::CommandLine(const ProgramText& text)
    : app_(std::make_unique<CLI::App>(text.summary, text.name)) {
  app_->set_version_flag("--version", text.version);
  app_->footer(text.footer);
  program().RequireCommand();
}

CommandLine::~CommandLine() = default;

int CommandLine::Run(const std::vector<std::string>& arguments, const Shell& shell) {
  try {
    app_->parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
  } catch (const CLI::ParseError& error) {
    return app_->exit(error, *shell.out, *shell.err) == 0 ? kDone : kUsage;
  }
  return chosen_(shell);
}

}  // namespace attnprune::cli
