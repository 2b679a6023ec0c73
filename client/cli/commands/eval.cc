// attnprune eval: what models make of a text, in nats, perplexity and bits a byte; each against the
// first.
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/commands/commands.h"
#include "client/cli/files/token_input.h"
#include "client/cli/flags/connect.h"
#include "client/cli/flags/token_flags.h"
#include "client/cli/jobs/captured_input.h"
#include "client/cli/views/format.h"
#include "client/cli/views/pass_view.h"
#include "core/base/status_macros.h"
#include "core/base/thread_pool.h"
#include "core/model/forward.h"
#include "core/model/model_pass.h"

namespace attnprune::cli {
namespace {

struct EvalFlags {
  std::vector<std::string> models;
  TokenFlags tokens;
  int threads = 0;
  int64_t memory_budget = 0;
  bool json = false;
};

struct Evaluated {
  std::string model;
  LossSummary summary;
  LossDifference difference;  // from the first
};

// What every model is run on: the first one's tokenizer cuts the text.
struct Text {
  TokenInput input;
  double bytes_per_token = 0;  // 0: token ids were given
};

absl::StatusOr<Text> ReadText(const Shell& shell, const EvalFlags& flags) {
  const std::string& folder = flags.models.front();
  ATTNPRUNE_ASSIGN_OR_RETURN(const ModelOptions model, LoadModelOptions(folder));
  Text text;
  ATTNPRUNE_ASSIGN_OR_RETURN(text.input, ReadWindows(flags.tokens, folder, model));
  for (const std::string& note : text.input.notes) Note(shell, absl::StrCat("note: ", note));
  if (text.input.text_tokens > 0) {
    text.bytes_per_token =
        static_cast<double>(text.input.text_bytes) / static_cast<double>(text.input.text_tokens);
  }
  return text;
}

absl::StatusOr<std::vector<double>> LossesOf(const Shell& shell, const EvalFlags& flags,
                                             const std::string& folder, const Tokens& tokens,
                                             ThreadPool& pool) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const std::unique_ptr<Forward> forward,
                             Forward::Open(folder, pool, ComputeOf(flags.tokens)));
  for (const std::string& note : forward->options().notes) {
    Note(shell, absl::StrCat("note: ", folder, ": ", note));
  }
  PassView view(shell, folder);
  PassOptions options = view.Options();
  options.memory_budget = flags.memory_budget;
  absl::StatusOr<std::vector<double>> losses = TokenLosses(*forward, tokens, options);
  if (!losses.ok() && !absl::IsCancelled(losses.status())) {
    return absl::Status(losses.status().code(),
                        absl::StrCat(folder, ": ", losses.status().message()));
  }
  return losses;
}

absl::StatusOr<std::vector<Evaluated>> Evaluate(const Shell& shell, const EvalFlags& flags,
                                                const Text& text, ThreadPool& pool) {
  const Tokens& tokens = text.input.rows.tokens;
  std::vector<Evaluated> all;
  std::vector<double> first;
  for (const std::string& folder : flags.models) {
    ATTNPRUNE_ASSIGN_OR_RETURN(std::vector<double> losses,
                               LossesOf(shell, flags, folder, tokens, pool));
    if (all.empty()) first = losses;
    all.push_back({folder, Summarize(losses), Compare(first, losses, tokens.lengths)});
    if (!std::isfinite(all.back().summary.nats_per_token)) {
      return absl::InvalidArgumentError(absl::StrCat(
          folder, ": the loss is not finite: a weight is NaN or infinite, or too large"));
    }
  }
  return all;
}

void PrintJson(const Shell& shell, const Text& text, const std::vector<Evaluated>& all) {
  nlohmann::ordered_json models = nlohmann::ordered_json::array();
  for (const Evaluated& one : all) {
    nlohmann::ordered_json entry = {{"model", one.model},
                                    {"tokens", one.summary.tokens},
                                    {"natsPerToken", one.summary.nats_per_token},
                                    {"perplexity", one.summary.perplexity}};
    if (text.bytes_per_token > 0) {
      entry["bitsPerByte"] = one.summary.nats_per_token / std::log(2.0) / text.bytes_per_token;
    }
    entry["differenceFromFirst"] = {
        {"mean", one.difference.mean},
        {"standardErrorByToken", one.difference.standard_error_by_token},
        {"standardErrorByRow", one.difference.standard_error_by_row}};
    models.push_back(std::move(entry));
  }
  const nlohmann::ordered_json out = {{"sequenceLength", text.input.rows.width},
                                      {"sequences", text.input.rows.rows()},
                                      {"models", std::move(models)}};
  *shell.out << out.dump(2) << "\n";
}

void PrintTable(const Shell& shell, const Text& text, const std::vector<Evaluated>& all) {
  std::vector<std::vector<std::string>> rows = {
      {"model", "tokens", "nats/token", "perplexity", "difference", "+- by token", "+- by row"}};
  const bool bits = text.bytes_per_token > 0;
  if (bits) rows[0].insert(rows[0].begin() + 4, "bits/byte");
  for (const Evaluated& one : all) {
    const LossDifference& d = one.difference;
    const bool first = &one == &all.front();
    rows.push_back({one.model, absl::StrCat(one.summary.tokens),
                    absl::StrFormat("%.4f", one.summary.nats_per_token),
                    absl::StrFormat("%.4f", one.summary.perplexity),
                    first ? "-" : absl::StrFormat("%+.4f", d.mean),
                    first ? "-" : absl::StrFormat("%.4f", d.standard_error_by_token),
                    first ? "-" : absl::StrFormat("%.4f", d.standard_error_by_row)});
    if (bits) {
      const double per_byte = one.summary.nats_per_token / std::log(2.0) / text.bytes_per_token;
      rows.back().insert(rows.back().begin() + 4, absl::StrFormat("%.4f", per_byte));
    }
  }
  *shell.out << TableText(rows);
  *shell.out << absl::StreamFormat(
      "\n%d non-overlapping windows of %d tokens; a window's first "
      "token is not predicted\n",
      text.input.rows.rows(), text.input.rows.width);
}

int Run(const Shell& shell, const EvalFlags& flags) {
  ATTNPRUNE_EXIT_IF_ERROR(UsageError, CheckTokenFlags(flags.tokens));
  ATTNPRUNE_ASSIGN_OR_EXIT(UsageError, const Text text, ReadText(shell, flags));
  ThreadPool pool(ThreadsOr(flags.threads));
  ATTNPRUNE_ASSIGN_OR_EXIT(CaptureError, const std::vector<Evaluated> all,
                           Evaluate(shell, flags, text, pool));
  if (flags.json) {
    PrintJson(shell, text, all);
  } else {
    PrintTable(shell, text, all);
  }
  return kDone;
}

}  // namespace

void AddEvalCommand(Command& program) {
  Command command = program.AddCommand(
      "eval", "Say how well models predict a text: nats a token, perplexity, bits a byte");
  EvalFlags& flags = command.Runs<EvalFlags>(Run);
  command.Add("--model", flags.models,
              "Hugging Face folder. Repeatable: each is compared with the first, token by token",
              {.type = "DIR", .required = true, .repeatable = true});
  AddTokenFlags(command, flags.tokens);
  AddPassFlags(command, flags.threads, flags.memory_budget);
  AddJsonFlag(command, flags.json);
}

}  // namespace attnprune::cli
