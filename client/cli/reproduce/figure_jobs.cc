#include "client/cli/reproduce/figure_jobs.h"

#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "client/cli/files/text_file.h"
#include "client/cli/jobs/server_jobs.h"
#include "client/cli/reproduce/figure_rows.h"
#include "core/base/format.h"
#include "core/base/status_macros.h"

namespace attnprune::cli {
namespace {

// Ends the names of the files that have the rows so far: an earlier figure stays until this one is
// whole.
constexpr char kPartialRows[] = ".partial.csv";

v1::Job JobOf(const FigureJob& planned, Figure figure, const FigureData& data) {
  v1::Job job = data.job;
  (*job.mutable_labels())["attnprune/figure"] = ToString(figure);
  job.set_seed(planned.seed);
  job.set_evaluate_every(-1);
  for (const MethodRun& run : planned.runs) *job.add_methods() = run.method;
  return job;
}

std::string PointText(const FigureJob& job) {
  return absl::StrCat("seed ", job.seed, "  k ", job.k, "  n ", job.n, "  rho ",
                      FormatNumber(job.rho));
}

// "gd 0.171/0.312" of each run: calibration and held-out error.
std::string ResultText(const FigureJob& job, const v1::Job& ended) {
  std::string text;
  for (int i = 0; i < ended.results_size(); ++i) {
    const v1::MethodResult& result = ended.results(i);
    if (result.has_failure()) continue;
    const auto& error = result.relative_error();
    absl::StrAppend(&text, "  ", job.runs[static_cast<size_t>(i)].text,
                    absl::StrFormat(" %.3g", error.calibration()),
                    error.has_held_out() ? absl::StrFormat("/%.3g", error.held_out()) : "");
  }
  return text;
}

// --- its files ---

std::string PathOf(const FigureOptions& options, const std::string& folder, const AxisPoints& axis,
                   const char* ending) {
  return absl::StrCat(folder, "/", ToString(options.figure), "-", ToString(axis.axis), ending);
}

absl::Status WriteRows(const FigureOptions& options, const std::string& folder,
                       const std::vector<FigureRow>& rows, const char* ending) {
  for (const AxisPoints& axis : options.axes) {
    ATTNPRUNE_RETURN_IF_ERROR(
        WriteText(PathOf(options, folder, axis, ending),
                  FigureCsv(options.figure, RowsOfAxis(options, axis.axis, rows))));
  }
  return absl::OkStatus();
}

// Whole: "figure2-lambda.csv", ".svg" and "-held-out.svg" an axis. The partial rows go.
absl::Status WriteFigures(const FigureOptions& options, const std::string& folder,
                          const std::vector<FigureRow>& rows) {
  ATTNPRUNE_RETURN_IF_ERROR(WriteRows(options, folder, rows, ".csv"));
  for (const AxisPoints& axis : options.axes) {
    const std::vector<FigureRow> of_axis = RowsOfAxis(options, axis.axis, rows);
    ATTNPRUNE_RETURN_IF_ERROR(
        WriteText(PathOf(options, folder, axis, ".svg"),
                  FigurePlot(options, axis, of_axis, ErrorKind::kCalibration)));
    ATTNPRUNE_RETURN_IF_ERROR(WriteText(PathOf(options, folder, axis, "-held-out.svg"),
                                        FigurePlot(options, axis, of_axis, ErrorKind::kHeldOut)));
    std::error_code ignored;
    std::filesystem::remove(PathOf(options, folder, axis, kPartialRows), ignored);
  }
  return absl::OkStatus();
}

// The tables and the files.
void TellFigures(std::ostream& told, const FigureOptions& options, const std::string& folder,
                 const std::vector<FigureRow>& rows) {
  for (const AxisPoints& axis : options.axes) {
    told << ToString(options.figure) << ", mean relative error, calibration / held out\n"
         << FigureTable(options, axis, rows) << "\n";
  }
  for (const AxisPoints& axis : options.axes) {
    for (const char* ending : {".csv", ".svg", "-held-out.svg"}) {
      told << PathOf(options, folder, axis, ending) << "\n";
    }
  }
  told << std::flush;
}

// --- its jobs ---

// Runs the jobs one after the other, keeps the rows there are in a file and draws them at the end.
class FigureRunner {
 public:
  FigureRunner(const Shell& shell, client::Client& client, ServerKind server,
               const FigureOptions& options, const FigureSource& source, const std::string& folder)
      : shell_(shell),
        client_(client),
        server_(server),
        options_(options),
        source_(source),
        folder_(folder) {}

  int Run() {
    const std::vector<FigureJob> jobs = PlanFigure(options_);
    for (size_t i = 0; i < jobs.size(); ++i) {
      const int code = RunOne(jobs[i], absl::StrCat(i + 1, "/", jobs.size()));
      if (code != kDone) return code;
    }
    const absl::Status written = WriteFigures(options_, folder_, rows_);
    if (!written.ok()) return LocalError(shell_, written);
    TellFigures(*shell_.out, options_, folder_, rows_);
    return code_;
  }

 private:
  // Not kDone: there is no going on. A job that failed is told, and its rows are missing.
  int RunOne(const FigureJob& planned, const std::string& place) {
    const absl::StatusOr<FigureData> data = source_.Data(planned);
    if (!data.ok()) return UsageError(shell_, data.status());
    const absl::StatusOr<v1::Job> ended = RunToItsEnd(planned, *data);
    if (absl::IsCancelled(ended.status())) return Interrupted();
    if (!ended.ok()) return ServerError(shell_, ended.status());
    const std::vector<FigureRow> rows = RowsOf(planned, *ended);
    rows_.insert(rows_.end(), rows.begin(), rows.end());
    const absl::Status written = WriteRows(options_, folder_, rows_, kPartialRows);
    if (!written.ok()) return LocalError(shell_, written);
    Note(shell_, absl::StrCat(place, "  ", PointText(planned), ResultText(planned, *ended)));
    if (ExitCodeOf(shell_, *ended) != kDone) code_ = kFailed;
    return kDone;
  }

  absl::StatusOr<v1::Job> RunToItsEnd(const FigureJob& planned, const FigureData& data) {
    ATTNPRUNE_RETURN_IF_ERROR(client_.Upload(data.tensors).status());
    v1::CreateJobRequest request;
    *request.mutable_job() = JobOf(planned, options_.figure, data);
    ATTNPRUNE_ASSIGN_OR_RETURN(const v1::Job created, client_.CreateJob(request));
    running_ = created.name();
    ATTNPRUNE_ASSIGN_OR_RETURN(
        v1::Job ended, client_.Watch(running_, 0, [](const v1::JobEvent&) { return true; }));
    running_.clear();
    return ended;
  }

  int Interrupted() const {
    const bool goes_on = !running_.empty() && server_ == ServerKind::kGiven;
    Note(shell_,
         absl::StrCat("\ninterrupted; ",
                      rows_.empty() ? "nothing was finished"
                                    : absl::StrCat("the rows that were finished are in ", folder_,
                                                   "/*", kPartialRows),
                      goes_on ? absl::StrCat("; ", running_, " goes on on the server") : ""));
    return kInterrupted;
  }

  const Shell& shell_;
  client::Client& client_;
  const ServerKind server_;
  const FigureOptions& options_;
  const FigureSource& source_;
  const std::string& folder_;
  std::vector<FigureRow> rows_;
  std::string running_;  // the job's name
  int code_ = kDone;
};

}  // namespace

int RunFigure(const Shell& shell, client::Client& client, ServerKind server,
              const FigureOptions& options, const FigureSource& source, const std::string& folder) {
  return FigureRunner(shell, client, server, options, source, folder).Run();
}

}  // namespace attnprune::cli
