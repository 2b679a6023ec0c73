// attnprune reproduce: the paper's Figures 2 and 3 with the methods of this server, as CSV and SVG.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/commands/commands.h"
#include "client/cli/flags/connect.h"
#include "client/cli/flags/job_flags.h"
#include "client/cli/jobs/embedded_server.h"
#include "client/cli/output/pruned_files.h"
#include "client/cli/reproduce/reproduce_data.h"
#include "client/cli/reproduce/reproduce_jobs.h"
#include "client/cli/reproduce/reproduce_plan.h"
#include "core/base/status_macros.h"
#include "core/kernels/blas.h"

namespace attnprune::cli {
namespace {

// The paper's three, what it leaves out, and the best there is.
constexpr const char* kDefaultMethods[] = {"gd", "wanda", "sparsegpt", "magnitude", "joint"};

struct ReproduceFlags {
  FigureOptions options;
  std::vector<std::string> axes, methods;  // empty: the defaults
  std::vector<std::string> more_methods;   // beside those
  bool few = false;
  std::string output;
  std::string server;  // empty: one of its own
  int threads = 0;     // of that one
  SyntheticFlags synthetic;
  LayerSource::Flags layer;
};

// --- from flags to what is to be done ---

absl::Status AddAxes(const ReproduceFlags& flags, FigureOptions& options) {
  const Points points = flags.few ? Points::kFew : Points::kFull;
  if (flags.axes.empty()) options.axes = DefaultAxes(options.figure, points);
  for (const std::string& text : flags.axes) {
    ATTNPRUNE_ASSIGN_OR_RETURN(AxisPoints axis, ParseAxis(text, options.figure, points));
    options.axes.push_back(std::move(axis));
  }
  return absl::OkStatus();
}

absl::Status AddMethods(const std::vector<std::string>& texts, FigureOptions& options) {
  for (const std::string& text : texts) {
    ATTNPRUNE_ASSIGN_OR_RETURN(v1::Method method, ParseMethodFlag(text));
    options.methods.push_back({.text = text, .method = std::move(method)});
  }
  return absl::OkStatus();
}

// What depends on the layer's files: half of the sequences, whole ones, and no longer ones.
void FillFromLayer(const LayerSource& source, const ReproduceFlags& flags, FigureOptions& options) {
  if (options.ks.empty()) options.ks = {std::max<int64_t>(source.sequences() / 2, 1)};
  if (options.n == 0) options.n = source.tokens();
  if (!flags.axes.empty()) return;
  for (AxisPoints& axis : options.axes) {
    if (axis.axis != FigureAxis::kN) continue;
    const auto too_long = [&](double n) { return n > static_cast<double>(source.tokens()); };
    auto& points = axis.points;
    points.erase(std::remove_if(points.begin(), points.end(), too_long), points.end());
    if (points.empty()) points = {static_cast<double>(options.n)};
  }
}

absl::StatusOr<std::unique_ptr<FigureSource>> OpenSource(const ReproduceFlags& flags,
                                                         FigureOptions& options) {
  if (options.figure == Figure::kFigure2) {
    ATTNPRUNE_RETURN_IF_ERROR(Validate(options));
    return SyntheticSource(flags.synthetic);
  }
  ATTNPRUNE_ASSIGN_OR_RETURN(std::unique_ptr<LayerSource> source, LayerSource::Open(flags.layer));
  FillFromLayer(*source, flags, options);
  ATTNPRUNE_RETURN_IF_ERROR(Validate(options));
  ATTNPRUNE_RETURN_IF_ERROR(source->Check(options));
  return source;
}

// The default methods that the server has.
absl::Status AddDefaultMethods(const Shell& shell, client::Client& client, FigureOptions& options) {
  ATTNPRUNE_ASSIGN_OR_RETURN(const v1::ServerInfo info, client.GetServerInfo());
  std::vector<std::string> present, missing;
  for (const std::string name : kDefaultMethods) {
    const bool known = std::any_of(info.methods().begin(), info.methods().end(),
                                   [&](const v1::MethodInfo& m) { return m.name() == name; });
    (known ? present : missing).push_back(name);
  }
  if (!missing.empty()) {
    Note(shell,
         absl::StrCat("left out, as the server does not have it: ", absl::StrJoin(missing, ", ")));
  }
  return AddMethods(present, options);
}

int RunOn(const Shell& shell, const ReproduceFlags& flags, FigureOptions& options,
          const FigureSource& source, const std::string& server) {
  ConnectFlags connect;
  connect.server = server;
  const auto client = Connect(shell, connect);
  if (!client.ok()) return UsageError(shell, client.status());
  if (options.methods.empty()) {
    const absl::Status added = AddDefaultMethods(shell, **client, options);
    if (!added.ok()) return ServerError(shell, added);
  }
  absl::Status valid = AddMethods(flags.more_methods, options);
  if (valid.ok()) valid = Validate(options);
  if (!valid.ok()) return UsageError(shell, valid);
  const ServerKind kind = flags.server.empty() ? ServerKind::kItsOwn : ServerKind::kGiven;
  return RunFigure(shell, **client, kind, options, source, flags.output);
}

int Run(const Shell& shell, const ReproduceFlags& flags) {
  FigureOptions options = flags.options;
  absl::Status status = InitializeBlas();
  if (!status.ok()) return LocalError(shell, status);
  status = AddAxes(flags, options);
  if (status.ok()) status = AddMethods(flags.methods, options);
  if (!status.ok()) return UsageError(shell, status);
  const auto source = OpenSource(flags, options);
  if (!source.ok()) return UsageError(shell, source.status());
  status = MakeFolderOf(flags.output + "/x");
  if (!status.ok()) return LocalError(shell, status);
  if (!flags.server.empty()) return RunOn(shell, flags, options, **source, flags.server);
  const auto server = EmbeddedServer::Start("", flags.threads, /*memory_budget=*/0);
  if (!server.ok()) return LocalError(shell, server.status());
  return RunOn(shell, flags, options, **source, (*server)->address());
}

// --- flags ---

void AddCommonFlags(CLI::App& app, ReproduceFlags& f, const std::string& axes) {
  app.add_option("--rho", f.options.rho, "Fraction of weights removed, where it is not varied")
      ->capture_default_str();
  app.add_option("--seeds", f.options.seeds, "Runs of each point; mean and range are drawn")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  app.add_option_function<std::string>(
         "--points", [&f](const std::string& text) { f.few = text == "few"; },
         "Points of an axis: 3 or 4 for a quick look, or 5 to 9")
      ->check(CLI::IsMember({"few", "full"}))
      ->default_str("full");
  app.add_option("--axis", f.axes,
                 absl::StrCat("Draw this axis only (", axes,
                              "), at these points or the usual ones. Repeatable"))
      ->type_name("NAME[=X,...]")
      ->allow_extra_args(false);
  app.add_option("--method", f.methods,
                 "Draw these methods, as `attnprune info` lists them. Repeatable; default: gd, "
                 "wanda, sparsegpt, magnitude and joint, as far as the server has them")
      ->type_name("NAME[:PARAMETER=NUMBER,...]")
      ->allow_extra_args(false);
  app.add_option("--add-method", f.more_methods, "Draw this one beside those. Repeatable")
      ->type_name("NAME[:PARAMETER=NUMBER,...]")
      ->allow_extra_args(false);
  app.add_option("--output", f.output, "Folder for the .csv and .svg files; made if it is missing")
      ->type_name("DIR")
      ->required();
  app.add_option("--server", f.server, "Give the jobs to this server; default: one of its own")
      ->type_name("HOST:PORT")
      ->envname("ATTNPRUNE_SERVER");
  app.add_option("--threads", f.threads, "That solve a job, of its own server; 0: one a core")
      ->check(CLI::Range(0, 1024))
      ->capture_default_str();
}

void AddKFlag(CLI::App& app, ReproduceFlags& f, const std::string& help) {
  app.add_option("--k", f.options.ks, help)
      ->check(AtLeast(1))
      ->allow_extra_args(false)
      ->capture_default_str();
}

void SetAction(CLI::App& app, Action* action, std::shared_ptr<ReproduceFlags> flags) {
  app.callback(
      [action, flags] { *action = [flags](const Shell& shell) { return Run(shell, *flags); }; });
}

void AddFigure2(CLI::App& parent, Action* action) {
  auto flags = std::make_shared<ReproduceFlags>();
  flags->options.ks = {16, 64};
  CLI::App& app = *parent.add_subcommand(
      "figure2", "Error against lambda, n and rho on the paper's synthetic data (Section 6.1)");
  AddKFlag(app, *flags, "Calibration batches; a panel each. Repeatable");
  app.add_option("--lambda", flags->options.lambda,
                 "The paper's, where it is not varied: gd gets lambda n times it, eta 0.1 / that")
      ->capture_default_str();
  app.add_option("--n", flags->options.n, "Tokens of a batch, where it is not varied")
      ->capture_default_str();
  AddCommonFlags(app, *flags, "lambda, n, rho");
  app.add_option("--d", flags->synthetic.d, "Width of weights and tokens")->capture_default_str();
  app.add_option("--rank", flags->synthetic.rank, "Of W_Q and W_K")->capture_default_str();
  app.add_option("--x-std", flags->synthetic.x_std,
                 "Standard deviation of the tokens: the softmax is nearly one-hot at 1")
      ->capture_default_str();
  app.add_option("--held-out", flags->synthetic.held_out, "Held-out batches")
      ->capture_default_str();
  SetAction(app, action, flags);
}

void AddFigure3(CLI::App& parent, Action* action) {
  auto flags = std::make_shared<ReproduceFlags>();
  flags->options.figure = Figure::kFigure3;
  flags->options.n = 0;
  CLI::App& app = *parent.add_subcommand(
      "figure3", "Error against n and rho on a real layer with separate masks (Section 7)");
  LayerSource::Flags& layer = flags->layer;
  app.add_option("--model", layer.model, "Hugging Face folder")->type_name("DIR")->required();
  app.add_option("--layer", layer.layer, "Layer of the model, from 0")
      ->check(AtLeast(0))
      ->required();
  app.add_option("--calibration", layer.calibration,
                 "Sequences to choose from, (k, n, d); a seed chooses --k of them")
      ->type_name("FILE[:NAME]")
      ->required();
  app.add_option("--held-out", layer.held_out, "Sequences that are only scored, all of them")
      ->type_name("FILE[:NAME]")
      ->required();
  AddKFlag(app, *flags, "Calibration sequences of a job; default: half of them. Repeatable");
  app.add_option("--n", flags->options.n,
                 "Sequences are cut to so many tokens, where it is not varied; default: whole");
  AddCommonFlags(app, *flags, "n, rho");
  SetAction(app, action, flags);
}

}  // namespace

void AddReproduceCommand(CLI::App& app, Action* action) {
  CLI::App* command = app.add_subcommand(
      "reproduce", "Draw the paper's figures anew, on calibration and on held-out data");
  command->require_subcommand(1);
  AddFigure2(*command, action);
  AddFigure3(*command, action);
}

}  // namespace attnprune::cli
