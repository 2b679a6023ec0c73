#include "client/cli/views/result_table.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cli/views/format.h"
#include "client/cli/views/waiting_view.h"

namespace attnprune::cli {
namespace {

constexpr size_t kModelWidth = 24;  // of a list's cell

std::string HeldOutText(const v1::MethodResult& result) {
  if (!result.relative_error().has_held_out()) return "-";
  return absl::StrFormat("%.5f", result.relative_error().held_out());
}

// What the mask alone costs; the error itself where the method moves no kept weight.
std::string MaskOnlyText(const v1::MethodResult& result) {
  const v1::BatchScore& judged = result.has_held_out() ? result.held_out() : result.calibration();
  return absl::StrFormat("%.5f", judged.has_mask_only_relative_error()
                                     ? judged.mask_only_relative_error()
                                     : judged.relative_error());
}

// Where the held-out batches of the job's results came from, in a line; empty: not known.
std::string SourceLine(const v1::Job& job) {
  for (const v1::MethodResult& result : job.results()) {
    switch (result.held_out_source()) {
      case v1::HELD_OUT_GIVEN:
        return "held out: the batches given for it\n";
      case v1::HELD_OUT_SPLIT:
        return absl::StrCat("held out: split off the calibration set (fraction ",
                            job.held_out_fraction(), ")\n");
      case v1::HELD_OUT_NONE:
        return "nothing held out: errors are those on the calibration set\n";
      default:
        break;
    }
  }
  return "";
}

// What the job's methods share has taken; empty where no result says.
std::string PreparingLine(const v1::Job& job) {
  double seconds = 0;
  for (const v1::MethodResult& result : job.results()) seconds += result.preparing_seconds();
  if (seconds == 0) return "";
  return absl::StrFormat("prepared in %.2f s for all methods\n", seconds);
}

std::string LabelOfMethod(const v1::Method& method) {
  return method.label().empty() ? method.name() : method.label();
}

// The parameters of methods that are there more than once, a line each.
std::string SettingLines(const v1::Job& job) {
  std::map<std::string, int> counts;
  for (const v1::Method& method : job.methods()) ++counts[method.name()];
  std::string lines;
  for (const v1::Method& method : job.methods()) {
    if (counts[method.name()] < 2) continue;
    std::vector<std::string> parameters;
    for (const auto& [name, value] : method.parameters()) {
      parameters.push_back(absl::StrCat(name, "=", value));
    }
    std::sort(parameters.begin(), parameters.end());
    absl::StrAppend(&lines, LabelOfMethod(method), ": ",
                    parameters.empty() ? "defaults" : absl::StrJoin(parameters, ", "), "\n");
  }
  return lines;
}

// Half of the field reads N:M as what is kept.
std::string PatternLine(const v1::Job& job) {
  if (!job.sparsity().has_n_of_m()) return "";
  const v1::NOfM& pattern = job.sparsity().n_of_m();
  return absl::StrCat("sparsity ", pattern.n(), ":", pattern.m(), " removes ", pattern.n(),
                      " of every ", pattern.m(), "\n");
}

std::vector<std::string> RowOf(const v1::MethodResult& result) {
  if (result.has_failure()) {
    std::vector<std::string> row(9, "-");
    row.front() = result.method();
    row.push_back("failed: " + result.failure().message());
    return row;
  }
  const v1::BatchScore& judged = result.has_held_out() ? result.held_out() : result.calibration();
  return {result.method(),
          HeldOutText(result),
          MaskOnlyText(result),
          absl::StrFormat("%.5f", result.relative_error().calibration()),
          absl::StrFormat("%.5f", judged.linear_error()),
          absl::StrFormat("%.2f", 100 * result.sparsity()),
          absl::StrCat(result.steps()),
          absl::StrFormat("%.2f", result.seconds()),
          absl::StrFormat("%.2f", result.judging_seconds()),
          result.termination_reason()};
}

// The headings of ResultTable that go first where there is little room; not of what ranks.
std::vector<std::string> Expendable(bool held_out) {
  if (!held_out) return {"held out", "judging", "linear", "steps", "mask only", "end", "seconds"};
  return {"judging", "linear", "steps", "mask only", "end", "seconds", "calibration"};
}

std::string BestText(const v1::Job& job) {
  const auto best = ResultOf(job, "");
  return best.ok() ? absl::StrFormat("%s %.5f", (*best)->method(), JudgedError(**best)) : "";
}

double ShareDone(const v1::Job& job) {
  if (job.has_at_work()) return job.at_work().share();
  if (job.state() == v1::SUCCEEDED) return 1;
  return job.methods().empty() ? 0 : static_cast<double>(job.results_size()) / job.methods_size();
}

}  // namespace

double JudgedError(const v1::MethodResult& result) {
  const auto& error = result.relative_error();
  return error.has_held_out() ? error.held_out() : error.calibration();
}

std::vector<const v1::MethodResult*> BestFirst(const v1::Job& job) {
  std::vector<const v1::MethodResult*> results;
  for (const v1::MethodResult& result : job.results()) results.push_back(&result);
  std::stable_sort(results.begin(), results.end(),
                   [](const v1::MethodResult* a, const v1::MethodResult* b) {
                     if (a->has_failure() != b->has_failure()) return b->has_failure();
                     return !a->has_failure() && JudgedError(*a) < JudgedError(*b);
                   });
  return results;
}

absl::StatusOr<const v1::MethodResult*> ResultOf(const v1::Job& job, const std::string& label) {
  std::vector<std::string> labels;
  for (const v1::MethodResult* result : BestFirst(job)) {
    if (result->has_failure()) continue;
    if (label.empty() || result->method() == label) return result;
    labels.push_back(result->method());
  }
  return absl::NotFoundError(absl::StrCat(
      job.name(), " has no result", label.empty() ? "" : absl::StrCat(" of method ", label),
      labels.empty() ? absl::StrCat("; it is ", StateText(job.state()))
                     : absl::StrCat("; there is: ", absl::StrJoin(labels, ", "))));
}

std::string ResultTable(const v1::Job& job, absl::optional<int> width) {
  if (job.results().empty()) return "";
  std::vector<std::vector<std::string>> rows = {{"method", "held out", "mask only", "calibration",
                                                 "linear", "pruned %", "steps", "seconds",
                                                 "judging", "end"}};
  bool held_out = false;
  for (const v1::MethodResult* result : BestFirst(job)) {
    rows.push_back(RowOf(*result));
    held_out = held_out || result->relative_error().has_held_out();
  }
  return absl::StrCat(TableText(rows, width, Expendable(held_out)), SettingLines(job),
                      PatternLine(job), PreparingLine(job), SourceLine(job));
}

std::string JobText(const v1::Job& job, absl::Time now, absl::optional<int> width) {
  std::vector<std::string> methods;
  for (const v1::Method& method : job.methods()) {
    methods.push_back(LabelOfMethod(method));
  }
  std::string text = absl::StrCat(
      job.name(), "  ", StateText(job.state()), job.cancel_requested() ? " (cancel requested)" : "",
      "\n", WaitsRow(job.waiting(), now), job.has_at_work() ? AtWorkRow(job.at_work()) : "");
  absl::StrAppend(&text, "methods   ", absl::StrJoin(methods, ", "), "\n");
  absl::StrAppend(&text, "created   ", TimeText(job.create_time()), "\n");
  if (job.has_start_time()) {
    absl::StrAppend(&text, "started   ", TimeText(job.start_time()), ", attempt ", job.attempt(),
                    "\n");
  }
  if (job.has_end_time()) absl::StrAppend(&text, "ended     ", TimeText(job.end_time()), "\n");
  if (job.has_estimate()) {
    absl::StrAppend(&text, "estimate  ", BytesText(job.estimate().memory_bytes()), ", ",
                    SecondsText(job.estimate().seconds()), "\n");
  }
  for (const auto& [key, value] : job.labels()) {
    absl::StrAppend(&text, "label     ", key, "=", value, "\n");
  }
  if (job.has_failure()) absl::StrAppend(&text, "failure   ", job.failure().message(), "\n");
  const std::string table = ResultTable(job, width);
  return table.empty() ? text : absl::StrCat(text, "\n", table);
}

std::string JobListText(const std::vector<v1::Job>& jobs, absl::Time now,
                        absl::optional<int> width) {
  Rows rows = {{"job", "state", "model", "layer", "at work", "done", "left", "best", "methods",
                "priority", "created"}};
  for (const v1::Job& job : jobs) {
    std::vector<std::string> methods;
    for (const v1::Method& method : job.methods()) methods.push_back(method.name());
    rows.push_back({job.name(), StateCell(job), Shortened(ModelText(job.labels()), kModelWidth),
                    LayerText(job.labels()), job.at_work().method(),
                    absl::StrFormat("%.0f %%", 100 * ShareDone(job)), LeftCell(job, now),
                    BestText(job), absl::StrJoin(methods, ","), absl::StrCat(job.priority()),
                    TimeText(job.create_time())});
  }
  return TableText(std::move(rows), width,
                   {"created", "priority", "methods", "best", "model", "layer", "left", "at work"});
}

}  // namespace attnprune::cli
