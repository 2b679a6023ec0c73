#include "client/cli/flags/command_line.h"

#include <CLI/CLI.hpp>
#include <limits>
#include <new>
#include <string>
#include <type_traits>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace attnprune::cli {
namespace {

// CLI11's own would add its name to the help.
CLI::Validator AtLeast(int64_t min) {
  const auto check = [min](const std::string& text) {
    int64_t value = 0;
    if (absl::SimpleAtoi(text, &value) && value >= min) return std::string();
    return absl::StrCat("must be a whole number, at least ", min, ", got ", text);
  };
  return CLI::Validator(check, "", "");
}

// CLI11 takes a leading 0 for octal, and a number that does not fit for the nearest that does.
template <typename Number>
CLI::Validator Decimal() {
  const auto rewrite = [](std::string& text) {
    Number value = 0;
    if (!absl::SimpleAtoi(text, &value)) {
      return absl::StrCat("must be a whole number from ", std::numeric_limits<Number>::min(),
                          " to ", std::numeric_limits<Number>::max(), ", got ", text);
    }
    text = absl::StrCat(value);
    return std::string();
  };
  return CLI::Validator(rewrite, "", "");
}

void Apply(const FlagRules& rules, CLI::Option& option) {
  if (!rules.type.empty()) option.type_name(rules.type);
  if (rules.show_default) option.capture_default_str();
  if (!rules.default_text.empty()) option.default_str(rules.default_text);
  if (rules.required) option.required();
  if (rules.repeatable) option.allow_extra_args(false);
  if (rules.bytes) option.transform(CLI::AsSizeValue(/*kb_is_1000=*/false));
  if (rules.at_least.has_value()) option.check(AtLeast(*rules.at_least));
  if (rules.between.has_value()) {
    option.check(CLI::Range(rules.between->first, rules.between->second));
  }
  if (!rules.one_of.empty()) option.check(CLI::IsMember(rules.one_of));
  if (!rules.environment.empty()) option.envname(rules.environment);
  if (!rules.excludes.empty()) option.excludes(rules.excludes);
}

}  // namespace

template <typename Value>
void Command::Add(const std::string& name, Value& value, const std::string& help,
                  const FlagRules& rules) {
  CLI::Option& option = *app_->add_option(name, value, help);
  Apply(rules, option);
  if constexpr (std::is_integral_v<Value>) {
    if (!rules.bytes) option.transform(Decimal<Value>());
  }
}

template void Command::Add(const std::string&, std::string&, const std::string&, const FlagRules&);
template void Command::Add(const std::string&, int&, const std::string&, const FlagRules&);
template void Command::Add(const std::string&, int64_t&, const std::string&, const FlagRules&);
template void Command::Add(const std::string&, uint64_t&, const std::string&, const FlagRules&);
template void Command::Add(const std::string&, double&, const std::string&, const FlagRules&);
template void Command::Add(const std::string&, std::optional<std::string>&, const std::string&,
                           const FlagRules&);
template void Command::Add(const std::string&, std::optional<double>&, const std::string&,
                           const FlagRules&);
template void Command::Add(const std::string&, std::optional<int64_t>&, const std::string&,
                           const FlagRules&);
template void Command::Add(const std::string&, std::vector<std::string>&, const std::string&,
                           const FlagRules&);
template void Command::Add(const std::string&, std::vector<int64_t>&, const std::string&,
                           const FlagRules&);

void Command::Add(const std::string& name, bool& given, const std::string& help,
                  const FlagRules& rules) {
  Apply(rules, *app_->add_flag(name, given, help));
}

void Command::AddParsed(const std::string& name, FlagParser parse, const std::string& help,
                        const FlagRules& rules) {
  const auto parse_last = [name, parse = std::move(parse)](const CLI::results_t& texts) {
    const absl::Status status = parse(texts.back());
    if (!status.ok()) throw CLI::ValidationError(name, std::string(status.message()));
    return true;
  };
  Apply(rules, *app_->add_option(name, parse_last, help));
}

Command Command::AddCommand(const std::string& name, const std::string& help) {
  return Command(app_->add_subcommand(name, help), chosen_);
}

void Command::SetAction(Action action) {
  app_->callback([chosen = chosen_, action = std::move(action)] { *chosen = action; });
}

int RunProgram(const ProgramText& text, void (*add)(Command program),
               const std::vector<std::string>& arguments, const Shell& shell) {
  CLI::App app(text.summary, text.name);
  app.set_version_flag("--version", text.version);
  app.footer(text.footer);
  Action chosen;
  Command program(&app, &chosen);
  app.require_subcommand(1);
  add(program);
  try {
    app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
  } catch (const CLI::ParseError& error) {
    return app.exit(error, *shell.out, *shell.err) == 0 ? kDone : kUsage;
  }
  try {
    return chosen(shell);
  } catch (const std::bad_alloc&) {
    return LocalError(shell, absl::ResourceExhaustedError("there is not enough memory"));
  }
}

}  // namespace attnprune::cli
