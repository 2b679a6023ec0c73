// attnprune reproduce: the paper's Figures 2 and 3 with the methods of this server, as CSV and SVG.
#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/commands/commands.h"
#include "client/cli/files/text_file.h"
#include "client/cli/flags/connect.h"
#include "client/cli/flags/job_flags.h"
#include "client/cli/jobs/embedded_server.h"
#include "client/cli/reproduce/figure_data.h"
#include "client/cli/reproduce/figure_jobs.h"
#include "client/cli/reproduce/figure_plan.h"
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
  std::string points = "full";
  std::string output;
  std::string server;  // empty: one of its own
  int threads = 0;     // of that one
  SyntheticFlags synthetic;
  LayerSource::Flags layer;
};

// --- from flags to what is to be done ---

absl::Status AddAxes(const ReproduceFlags& flags, FigureOptions& options) {
  const Points points = flags.points == "few" ? Points::kFew : Points::kFull;
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
  ATTNPRUNE_ASSIGN_OR_EXIT(UsageError, const auto client, Connect(shell, {.server = server}));
  if (options.methods.empty()) {
    ATTNPRUNE_EXIT_IF_ERROR(ServerError, AddDefaultMethods(shell, *client, options));
  }
  ATTNPRUNE_EXIT_IF_ERROR(UsageError, AddMethods(flags.more_methods, options));
  ATTNPRUNE_EXIT_IF_ERROR(UsageError, Validate(options));
  const ServerKind kind = flags.server.empty() ? ServerKind::kItsOwn : ServerKind::kGiven;
  return RunFigure(shell, *client, kind, options, source, flags.output);
}

int Run(const Shell& shell, const ReproduceFlags& flags) {
  FigureOptions options = flags.options;
  ATTNPRUNE_EXIT_IF_ERROR(LocalError, InitializeBlas());
  ATTNPRUNE_EXIT_IF_ERROR(UsageError, AddAxes(flags, options));
  ATTNPRUNE_EXIT_IF_ERROR(UsageError, AddMethods(flags.methods, options));
  ATTNPRUNE_ASSIGN_OR_EXIT(UsageError, const auto source, OpenSource(flags, options));
  ATTNPRUNE_EXIT_IF_ERROR(LocalError, MakeFolderOf(flags.output + "/x"));
  if (!flags.server.empty()) return RunOn(shell, flags, options, *source, flags.server);
  ATTNPRUNE_ASSIGN_OR_EXIT(LocalError, const auto server,
                           EmbeddedServer::Start("", flags.threads, /*memory_budget=*/0));
  return RunOn(shell, flags, options, *source, server->address());
}

// --- flags ---

void AddCommonFlags(Command& command, ReproduceFlags& f, const std::string& axes) {
  command.Add("--rho", f.options.rho, "Fraction of weights removed, where it is not varied",
              {.show_default = true});
  command.Add("--seeds", f.options.seeds, "Runs of each point; mean and range are drawn",
              {.show_default = true, .between = {{1, 1000}}});
  command.Add("--points", f.points, "Points of an axis: 3 or 4 for a quick look, or 5 to 9",
              {.show_default = true, .one_of = {"few", "full"}});
  command.Add("--axis", f.axes,
              absl::StrCat("Draw this axis only (", axes,
                           "), at these points or the usual ones. Repeatable"),
              {.type = "NAME[=X,...]", .repeatable = true});
  command.Add("--method", f.methods,
              "Draw these methods, as `attnprune info` lists them. Repeatable; default: gd, "
              "wanda, sparsegpt, magnitude and joint, as far as the server has them",
              {.type = "NAME[:PARAMETER=NUMBER,...]", .repeatable = true});
  command.Add("--add-method", f.more_methods, "Draw this one beside those. Repeatable",
              {.type = "NAME[:PARAMETER=NUMBER,...]", .repeatable = true});
  command.Add("--output", f.output, "Folder for the .csv and .svg files; made if it is missing",
              {.type = "DIR", .required = true});
  command.Add("--server", f.server, "Give the jobs to this server; default: one of its own",
              {.type = "HOST:PORT", .environment = "ATTNPRUNE_SERVER"});
  command.Add("--threads", f.threads, "That solve a job, of its own server; 0: one a core",
              {.show_default = true, .between = {{0, 1024}}});
}

void AddKFlag(Command& command, ReproduceFlags& f, const std::string& help) {
  command.Add("--k", f.options.ks, help, {.show_default = true, .repeatable = true, .at_least = 1});
}

void AddFigure2(Command& parent) {
  Command command = parent.AddCommand(
      "figure2", "Error against lambda, n and rho on the paper's synthetic data (Section 6.1)");
  ReproduceFlags& flags = command.Runs<ReproduceFlags>(Run);
  flags.options.ks = {16, 64};
  AddKFlag(command, flags, "Calibration batches; a panel each. Repeatable");
  command.Add("--lambda", flags.options.lambda,
              "The paper's, where it is not varied: gd gets lambda n times it, eta 0.1 / that",
              {.show_default = true});
  command.Add("--n", flags.options.n, "Tokens of a batch, where it is not varied",
              {.show_default = true});
  AddCommonFlags(command, flags, "lambda, n, rho");
  command.Add("--d", flags.synthetic.d, "Width of weights and tokens", {.show_default = true});
  command.Add("--rank", flags.synthetic.rank, "Of W_Q and W_K", {.show_default = true});
  command.Add("--x-std", flags.synthetic.x_std,
              "Standard deviation of the tokens: the softmax is nearly one-hot at 1",
              {.show_default = true});
  command.Add("--held-out", flags.synthetic.held_out, "Held-out batches", {.show_default = true});
}

void AddFigure3(Command& parent) {
  Command command = parent.AddCommand(
      "figure3", "Error against n and rho on a real layer with separate masks (Section 7)");
  ReproduceFlags& flags = command.Runs<ReproduceFlags>(Run);
  flags.options.figure = Figure::kFigure3;
  flags.options.n = 0;
  LayerSource::Flags& layer = flags.layer;
  command.Add("--model", layer.model, "Hugging Face folder", {.type = "DIR", .required = true});
  command.Add("--layer", layer.layer, "Layer of the model, from 0",
              {.required = true, .at_least = 0});
  command.Add("--calibration", layer.calibration,
              "Sequences to choose from, (k, n, d); a seed chooses --k of them",
              {.type = "FILE[:NAME]", .required = true});
  command.Add("--held-out", layer.held_out, "Sequences that are only scored, all of them",
              {.type = "FILE[:NAME]", .required = true});
  AddKFlag(command, flags, "Calibration sequences of a job; default: half of them. Repeatable");
  command.Add("--n", flags.options.n,
              "Tokens that sequences are cut to, where it is not varied; default: whole");
  AddCommonFlags(command, flags, "n, rho");
}

}  // namespace

void AddReproduceCommand(Command& program) {
  Command command = program.AddCommand(
      "reproduce", "Draw the paper's figures anew, on calibration and on held-out data");
  command.RequireCommand();
  AddFigure2(command);
  AddFigure3(command);
}

}  // namespace attnprune::cli
