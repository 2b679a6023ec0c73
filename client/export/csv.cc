#include "client/export/csv.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "absl/time/time.h"
#include "core/base/format.h"

namespace attnprune::exporting {
namespace {

constexpr char kHeading[] =
    "sequence,time,method,step,steps,attention_loss,regularization,soft_relative_error,"
    "gradient_norm,calibration_error,held_out_error,elapsed_seconds,remaining_seconds\r\n";

std::string TimeText(const google::protobuf::Timestamp& time) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E*SZ",
                          absl::FromUnixSeconds(time.seconds()) + absl::Nanoseconds(time.nanos()),
                          absl::UTCTimeZone());
}

// Quoted where it has to be.
std::string CsvField(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  return absl::StrCat("\"", absl::StrReplaceAll(text, {{"\"", "\"\""}}), "\"");
}

std::string Row(const v1::JobEvent& event) {
  const v1::Progress& progress = event.progress();
  const auto evaluated = [](bool has, double value) { return has ? FormatNumber(value) : ""; };
  const std::vector<std::string> fields = {
      absl::StrCat(event.sequence()),
      TimeText(event.time()),
      CsvField(progress.method()),
      absl::StrCat(progress.step()),
      absl::StrCat(progress.steps()),
      FormatNumber(progress.attention_loss()),
      FormatNumber(progress.regularization()),
      FormatNumber(progress.soft_relative_error()),
      FormatNumber(progress.gradient_norm()),
      evaluated(progress.has_calibration_error(), progress.calibration_error()),
      evaluated(progress.has_held_out_error(), progress.held_out_error()),
      FormatNumber(progress.elapsed_seconds()),
      FormatNumber(progress.remaining_seconds())};
  return absl::StrCat(absl::StrJoin(fields, ","), "\r\n");
}

}  // namespace

std::string ProgressCsv(const std::vector<v1::JobEvent>& events) {
  std::string text = kHeading;
  for (const v1::JobEvent& event : events) {
    if (event.has_progress()) text += Row(event);
  }
  return text;
}

}  // namespace attnprune::exporting
