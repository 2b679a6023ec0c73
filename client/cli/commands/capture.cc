// attnprune capture: the inputs of a model's attention layers as a file that --calibration takes.
#include "core/model/capture.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/cli/commands/commands.h"
#include "client/cli/files/token_input.h"
#include "client/cli/flags/token_flags.h"
#include "client/cli/jobs/captured_input.h"
#include "client/cli/views/pass_view.h"
#include "core/base/status_macros.h"
#include "core/base/thread_pool.h"
#include "core/io/file.h"
#include "core/io/mapped_file.h"
#include "core/io/sha256.h"
#include "core/model/forward.h"

namespace attnprune::cli {
namespace {

struct CaptureFlags {
  std::string model, output;
  std::string layers = "all";
  TokenFlags tokens;
  std::string dtype = "f32";
  int threads = 0;
  int64_t memory_budget = 0;
};

absl::StatusOr<Index> ParseOne(absl::string_view text, const std::string& all) {
  Index layer = 0;
  if (absl::SimpleAtoi(text, &layer) && layer >= 0) return layer;
  return absl::InvalidArgumentError(
      absl::StrCat("--layers must be all, or numbers and ranges such as 0,4-7, got ", all));
}

// "all", "3" or "0,4-7".
absl::StatusOr<std::vector<Index>> ParseLayers(const std::string& text, Index count) {
  std::vector<Index> layers;
  if (text == "all") {
    layers.resize(static_cast<size_t>(count));
    std::iota(layers.begin(), layers.end(), Index{0});
    return layers;
  }
  for (const absl::string_view part : absl::StrSplit(text, ',')) {
    const std::pair<absl::string_view, absl::string_view> ends =
        absl::StrSplit(part, absl::MaxSplits('-', 1));
    ATTNPRUNE_ASSIGN_OR_RETURN(const Index first, ParseOne(ends.first, text));
    Index last = first;
    if (part.find('-') != absl::string_view::npos) {
      ATTNPRUNE_ASSIGN_OR_RETURN(last, ParseOne(ends.second, text));
    }
    if (last < first || last >= count) {
      return absl::InvalidArgumentError(
          absl::StrCat("--layers must name layers of the model, 0 to ", count - 1, ", got ", text));
    }
    for (Index layer = first; layer <= last; ++layer) layers.push_back(layer);
  }
  std::sort(layers.begin(), layers.end());
  layers.erase(std::unique(layers.begin(), layers.end()), layers.end());
  return layers;
}

// What decides the hidden states and the files: a pass with the same one may go on where another
// stopped.
std::string SourceOf(const CaptureFlags& flags, const TokenRows& rows,
                     const std::vector<Index>& layers, const Forward& forward) {
  Sha256 digest;
  const auto add = [&digest](const void* data, size_t bytes) {
    digest.Update({static_cast<const char*>(data), bytes});
  };
  for (const std::string& shard : forward.weights().checkpoint().shards()) {
    const absl::optional<FileFacts> facts = LookUp(shard);
    const std::string text =
        absl::StrCat(shard, " ", facts.has_value() ? facts->size : 0, " ",
                     facts.has_value() ? absl::ToUnixNanos(facts->changed) : 0, "\n");
    add(text.data(), text.size());
  }
  const std::string config = absl::StrCat(flags.model, "/config.json");
  if (const auto file = MappedFile::Open(config); file.ok()) {
    add(file->bytes().data(), file->bytes().size());
  }
  add(&rows.width, sizeof(rows.width));
  add(rows.tokens.ids.data(), rows.tokens.ids.size() * sizeof(int64_t));
  add(rows.tokens.lengths.data(), rows.tokens.lengths.size() * sizeof(Index));
  add(rows.first.data(), rows.first.size() * sizeof(Index));
  add(layers.data(), layers.size() * sizeof(Index));
  add(flags.dtype.data(), flags.dtype.size());
  add(flags.tokens.compute.data(), flags.tokens.compute.size());
  return digest.Finish();
}

int Run(const Shell& shell, const CaptureFlags& flags) {
  ATTNPRUNE_EXIT_IF_ERROR(UsageError, CheckTokenFlags(flags.tokens));
  ATTNPRUNE_EXIT_IF_ERROR(UsageError, CheckCaptureFolder(flags.output));
  ThreadPool pool(ThreadsOr(flags.threads));
  ATTNPRUNE_ASSIGN_OR_EXIT(UsageError, const std::unique_ptr<Forward> forward,
                           Forward::Open(flags.model, pool, ComputeOf(flags.tokens)));
  const ModelOptions& model = forward->options();
  for (const std::string& note : model.notes) Note(shell, absl::StrCat("note: ", note));
  CaptureOptions options;
  ATTNPRUNE_ASSIGN_OR_EXIT(UsageError, options.layers,
                           ParseLayers(flags.layers, model.layer_count()));
  ATTNPRUNE_ASSIGN_OR_EXIT(UsageError, const TokenInput input,
                           ReadSamples(flags.tokens, flags.model, model));
  if (shell.interrupt.stop_requested()) return Interrupted(shell);
  for (const std::string& note : input.notes) Note(shell, absl::StrCat("note: ", note));
  options.dtype = flags.dtype == "bf16" ? DType::kBF16 : DType::kF32;
  options.output = flags.output;
  options.source = SourceOf(flags, input.rows, options.layers, *forward);
  TellPassEstimate(shell, "capture", *forward, pool, input.rows.tokens.lengths,
                   options.layers.back(), flags.memory_budget);
  PassView view(shell, "capture");
  options.pass = view.Options();
  options.pass.memory_budget = flags.memory_budget;
  ATTNPRUNE_ASSIGN_OR_EXIT(CaptureError, const CaptureResult result,
                           Capture(*forward, input.rows, options));
  if (result.resumed_at > 0) {
    Note(shell, absl::StrCat("went on from layer ", result.resumed_at));
  }
  for (const std::string& file : result.files) *shell.out << file << "\n";
  return kDone;
}

}  // namespace

void AddCaptureCommand(Command& program) {
  Command command = program.AddCommand(
      "capture", "Write the inputs of a model's attention layers, for --calibration");
  CaptureFlags& flags = command.Runs<CaptureFlags>(Run);
  command.Add("--model", flags.model, "Hugging Face folder", {.type = "DIR", .required = true});
  AddTokenFlags(command, flags.tokens);
  AddSampleFlags(command, flags.tokens);
  command.Add("--seed", flags.tokens.seed, "Of the samples", {.show_default = true});
  command.Add("--layers", flags.layers, "all, or numbers and ranges such as 0,4-7",
              {.show_default = true});
  command.Add("--dtype", flags.dtype, "Of the file",
              {.show_default = true, .one_of = {"f32", "bf16"}});
  command.Add("--output", flags.output,
              "Folder, made if it is missing: calibration.safetensors, or several files with an "
              "index above 4 GiB. Stopped and called again, it goes on where it was",
              {.type = "DIR", .required = true});
  AddPassFlags(command, flags.threads, flags.memory_budget);
}

}  // namespace attnprune::cli
